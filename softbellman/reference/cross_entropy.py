"""Cross-entropies of the policy against a token, the softmax of Q, or a mixture of both (Eq. (17))."""

from __future__ import annotations

import torch
from torch import Tensor

from softbellman.reference.rows import (
    NEGATIVE_INFINITY,
    clear_masked,
    gather,
    log_softmax,
    log_sum_exp,
    real_rows,
    reduce_rows,
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
    reduction: str = "none",
    row_weights: Tensor | None = None,
    inplace_backward: bool = False,
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
    loss = clear_masked(loss.masked_fill(normalizer == NEGATIVE_INFINITY, 0.0), mask)
    return reduce_rows(loss, mask, reduction, row_weights, inplace_backward)


def token_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    mask: Tensor | None = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "none",
    row_weights: Tensor | None = None,
    inplace_backward: bool = False,
) -> Tensor:
    """`-log pi(target)` for logits [..., V] and targets [...] -> [...]: maximum likelihood.

    With label smoothing e, `-(1 - e) log pi(target) - e / V sum_w log pi(w)`.
    """
    mask = real_rows(mask, targets, ignore_index)
    values = widen(logits, mask)
    normalizer = log_sum_exp(values)
    loss = normalizer - gather(values, targets, mask)
    if label_smoothing:
        even = normalizer - values.mean(-1)
        loss = label_smoothing * even + (0.0 if label_smoothing == 1 else (1 - label_smoothing) * loss)
    loss = clear_masked(loss.masked_fill(normalizer == NEGATIVE_INFINITY, 0.0), mask)
    return reduce_rows(loss, mask, reduction, row_weights, inplace_backward)
