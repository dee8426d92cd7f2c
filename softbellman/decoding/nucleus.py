"""Top-k and nucleus (top-p) truncation of a distribution before a token is drawn from it.

Holtzman et al., "The Curious Case of Neural Text Degeneration", ICLR 2020; Fan et al., "Hierarchical Neural Story
Generation", ACL 2018.

Notation: N rows, V vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def check_truncation(top_k: int, top_p: float) -> None:
    """Raises ValueError for a negative k, or p outside (0, 1]."""
    if top_k < 0:
        raise ValueError(f"top_k must be at least 0, got {top_k}")
    if not 0.0 < top_p <= 1.0:
        raise ValueError(f"top_p must be above 0 and at most 1, got {top_p:g}")


def truncate(logits: Tensor, forbidden: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """The logits with -inf at the tokens that are left out; the most probable allowed token always stays.

    Of equal logits at the border the smaller ids stay. Rows with NaN or +inf are returned as they are.

    Args:
        logits: [N, V].
        forbidden: bool [V], never drawn and so no part of the probabilities.
        temperature: divides the logits before probabilities are added up.
        top_k: how many tokens stay at most; 0: all.
        top_p: the fewest most probable tokens whose probabilities reach it stay; 1: all.

    Returns:
        [N, V].
    """
    allowed = logits.masked_fill(forbidden, -math.inf).double() / temperature
    ranked, order = allowed.sort(dim=1, descending=True, stable=True)
    probability = ranked.softmax(dim=1)
    before = probability.cumsum(dim=1) - probability  # of the tokens ahead in the ranking
    left_out = before >= top_p if top_p < 1.0 else torch.zeros_like(before, dtype=torch.bool)
    if top_k:
        left_out[:, top_k:] = True
    left_out[:, 0] = False
    dropped = torch.zeros_like(left_out).scatter(1, order, left_out)
    return logits.masked_fill(dropped & allowed.isfinite(), -math.inf)
