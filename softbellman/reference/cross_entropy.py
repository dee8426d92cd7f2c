"""Cross-entropies of the policy against a token, the softmax of Q, or a mixture of both, Eq. (17)."""

from __future__ import annotations

import torch
from torch import Tensor

from softbellman.reference.rows import (
    NEGATIVE_INFINITY,
    clear_masked,
    gather,
    log_softmax,
    log_sum_exp,
    widen,
)


def soft_target_cross_entropy(
    logits: Tensor,
    q: Tensor,
    *,
    tau: float,
    mask: Tensor | None = None,
    targets: Tensor | None = None,
    oracle_weight: float | Tensor = 1.0,
) -> Tensor:
    """`-sum_w [alpha softmax(q / tau)(w) + (1 - alpha) 1(w = target)] log pi(w)` for rows [..., V] -> [...].

    alpha is the oracle_weight, one number or [...]; q and alpha are constants.
    """
    values = widen(logits, mask)
    oracle, _ = log_softmax(widen(q.detach(), mask) / tau)
    weight = torch.as_tensor(oracle_weight, dtype=values.dtype, device=values.device).detach()
    normalizer = log_sum_exp(values)
    soft = normalizer - (oracle * values.masked_fill(oracle == 0, 0.0)).sum(-1)
    # a part of weight zero contributes nothing whatever it holds, nor does an oracle that is -inf throughout
    loss = (weight * soft).masked_fill((weight == 0) | (oracle.sum(-1) == 0), 0.0)
    if targets is not None:
        hard = normalizer - gather(values, targets, mask)
        loss = loss + ((1 - weight) * hard).masked_fill(weight == 1, 0.0)
    return clear_masked(loss.masked_fill(normalizer == NEGATIVE_INFINITY, 0.0), mask)


def token_cross_entropy(logits: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """`-log pi(target)` for logits [..., V] and targets [...] -> [...]: maximum likelihood."""
    values = widen(logits, mask)
    normalizer = log_sum_exp(values)
    loss = normalizer - gather(values, targets, mask)
    return clear_masked(loss.masked_fill(normalizer == NEGATIVE_INFINITY, 0.0), mask)
