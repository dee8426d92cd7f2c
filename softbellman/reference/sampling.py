"""Tokens drawn by the Gumbel-max rule from a counter-based generator."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from softbellman.reference.philox import random_words
from softbellman.reference.rows import NEGATIVE_INFINITY, clear_masked, gather, log_softmax, widen


class TokenSample(NamedTuple):
    """Drawn `tokens` [...], their `log_prob` [...] and the `entropy` [...] of what they were drawn from."""

    tokens: Tensor
    log_prob: Tensor
    entropy: Tensor


def gumbel_noise(rows: int | Tensor, columns: int, *, seed: int, offset: int) -> Tensor:
    """[rows, columns] float32 draws of `-log(-log(1 - u))` with u = (word + 1/2) / 2^32 rounded to float32.

    A small u keeps its full precision through the first logarithm, and the upper tail of the noise decides
    the draw. The logarithms are taken in float64 here; the kernels' own float32 ones agree to a few units in
    the last place.
    """
    words = random_words(rows, columns, seed=seed, offset=offset)
    upper, lower = (words >> 16).to(torch.float32), (words & 0xFFFF).to(torch.float32)
    uniform = (upper * 2.0**16 + (lower + 0.5)) * 2.0**-32
    uniform = uniform.clamp(max=1 - 2.0**-24).double()
    return (-(-torch.log1p(-uniform)).log()).to(torch.float32)


def sample_tokens(
    logits: Tensor,
    *,
    seed: int | Tensor,
    offset: int | Tensor = 0,
    temperature: float = 1.0,
    forbidden: Tensor | None = None,
    mask: Tensor | None = None,
    row_numbers: Tensor | None = None,
) -> TokenSample:
    """One token per row of softmax(logits / temperature) without the forbidden [V] tokens, logits [..., V].

    A row with no token to draw gives token -1, log-probability `-inf` and entropy 0; a masked row gives
    zeros.
    """
    values = widen(logits.detach(), mask)
    if forbidden is not None:
        values = values.masked_fill(forbidden, NEGATIVE_INFINITY)
    shape, columns = values.shape[:-1], values.shape[-1]
    scores = values.reshape(-1, columns).to(torch.float32) * (1.0 / temperature)
    rows = scores.shape[0] if row_numbers is None else row_numbers.flatten().cpu()
    noise = gumbel_noise(rows, columns, seed=int(seed), offset=int(offset)).to(scores.device)
    tokens = (scores + noise).argmax(-1).reshape(shape)  # a tie goes to the lowest index

    policy, log_policy = log_softmax(values / temperature)
    log_prob = gather(log_policy, tokens, None)
    entropy = -(policy * log_policy).sum(-1)
    impossible = (values == NEGATIVE_INFINITY).all(-1)
    tokens = tokens.masked_fill(impossible, -1)
    log_prob = log_prob.masked_fill(impossible, NEGATIVE_INFINITY)
    if mask is not None:
        tokens = tokens.masked_fill(mask == 0, 0)
    return TokenSample(tokens, clear_masked(log_prob, mask), clear_masked(entropy, mask))
