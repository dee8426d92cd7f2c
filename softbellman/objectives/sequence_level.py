"""Objectives on whole sequences drawn from the actor: policy gradient (REINFORCE) and minimum risk.

A source has K drawn sequences with payoffs R(y). The policy gradient raises the likelihood of all tokens of a sequence by what
its payoff has over a baseline b that does not depend on them,

    -(R(y) - b) sum_t log pi(y_t | y_<t),

whose mean gradient is that of the expected payoff (Williams 1992). Minimum risk (Shen et al. 2016) renormalises the
likelihoods over the candidates and lowers the expected cost under them,

    -sum_k Q(y^k) R(y^k),   Q(y^k) = p(y^k)^alpha / sum_j p(y^j)^alpha.
"""

from __future__ import annotations

import torch
from torch import Tensor

from softbellman.core.head import Rows
from softbellman.core.masks import boolean_mask
from softbellman.losses import token_cross_entropy
from softbellman.objectives.objective import Objective


def policy_gradient(
    logits: Rows,
    actions: Tensor,
    advantages: Tensor,
    mask: Tensor | None = None,
    *,
    sequences: int,
    inplace_backward: bool = False,
) -> Objective:
    """REINFORCE: `-sum_t A log pi(y_t | y_<t)`, mean over sequences.

    Args:
        logits: actor logits along the drawn sequences `[..., V]`, a tensor or a `Head`; `-inf` at tokens
            that are never drawn.
        actions: drawn tokens `y_t`, int64, `[...]`.
        advantages: `A = R(y) - b` of the sequence, or of the token, a constant, `[...]`.
        mask: True at real tokens, `[...]`; None when all are. Tokens behind a sequence's end must not be real.
        sequences: number of sequences the loss is averaged over.
        inplace_backward: let the backward pass of a `Head` scale saved gradients in place; it then may run once.

    Returns:
        The objective with diagnostics `advantage_size`, the sum of |A| over real tokens.
    """
    total = token_cross_entropy(
        logits, actions, mask, reduction="sum", row_weights=advantages, inplace_backward=inplace_backward
    )
    sizes = advantages.detach().abs()
    size = sizes.sum() if mask is None else sizes.masked_fill(~boolean_mask("mask", mask), 0).sum()
    return Objective(total / sequences, {"advantage_size": size})


def mean_of_others(payoffs: Tensor) -> Tensor:
    """Leave-one-out baseline: the mean payoff of the other sequences in a row, `[..., K] -> [..., K]`, K at least 2.

    It does not depend on the sequence itself, so the gradient stays unbiased.

    Raises:
        ValueError: for K below 2.
    """
    count = payoffs.shape[-1]
    if count < 2:
        raise ValueError(f"a mean over other sequences needs at least 2, got {count}")
    return (payoffs.sum(-1, keepdim=True) - payoffs) / (count - 1)


def minimum_risk(
    log_probs: Tensor, payoffs: Tensor, candidates: Tensor | None = None, *, alpha: float
) -> Objective:
    """Minimum risk: `-sum_k Q(y^k) R(y^k)`, mean over sources.

    Args:
        log_probs: `log p(y) = sum_t log pi(y_t | y_<t)` of the sequences of a source, `[B, K]`.
        payoffs: their payoffs R, constants, `[B, K]`.
        candidates: False at sequences that do not count, such as doubled ones, bool `[B, K]`; None: all count. A source
            without any has the risk 0.
        alpha: sharpness of Q, above 0: the softmax is over `alpha log p`. Towards 0 all candidates weigh the same.

    Returns:
        The objective with diagnostics `effective_samples` (the sum over sources of `1 / sum_k Q^2`) beside `sources`.
    """
    if not alpha > 0.0:
        raise ValueError(f"alpha must be above 0, got {alpha}")
    scores = alpha * log_probs
    if candidates is not None:
        scores = scores.masked_fill(~candidates, -torch.inf)
        empty = ~candidates.any(-1, keepdim=True)
        scores = torch.where(empty, 0.0, scores)
        payoffs = payoffs.masked_fill(empty | ~candidates, 0.0)
    weights = scores.softmax(-1)  # [B, K]
    risk = -(weights * payoffs).sum(-1)
    effective = 1.0 / weights.detach().square().sum(-1)
    diagnostics = {"effective_samples": effective.sum(), "sources": torch.as_tensor(len(log_probs))}
    return Objective(risk.mean(), diagnostics)


def first_of_equals(tokens: Tensor, mask: Tensor) -> Tensor:
    """Which sequences of a source are not the same as one before them.

    Args:
        tokens: `[B, K, T]` int64.
        mask: True at real tokens, `[B, K, T]`.

    Returns:
        Bool `[B, K]`.
    """
    kept = tokens.masked_fill(~mask, -1)
    same = (kept[:, :, None] == kept[:, None]).all(-1)  # [B, K, K]
    return ~same.tril(-1).any(-1)
