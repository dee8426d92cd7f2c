"""What a row of logits says of its target: log-probability, entropy and log-normaliser, and a weighted sum of them."""

from __future__ import annotations

from typing import NamedTuple

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

OUTPUTS = ("log_prob", "entropy", "log_normalizer")


class TokenObjective(NamedTuple):
    """The weighted sum, `[...]` or reduced, and the statistics `[...]` without a graph."""

    objective: Tensor
    log_prob: Tensor
    entropy: Tensor
    log_normalizer: Tensor


def token_statistics(
    logits: Tensor,
    targets: Tensor | None,
    *,
    mask: Tensor | None = None,
    ignore_index: int | None = None,
    outputs: tuple[str, ...] = OUTPUTS,
) -> tuple[Tensor, ...]:
    """`log pi(target)`, `H(pi)` and `log sum_w exp(logits(w))` with pi = softmax(logits): [..., V] -> those of [...]."""
    mask = real_rows(mask, targets, ignore_index)
    values = widen(logits, mask)
    policy, log_policy = log_softmax(values)
    normalizer = log_sum_exp(values)
    found = {"entropy": -(policy * log_policy).sum(-1), "log_normalizer": normalizer}
    if targets is not None:
        log_prob = gather(values, targets, mask) - normalizer
        found["log_prob"] = log_prob.masked_fill(normalizer == NEGATIVE_INFINITY, 0.0)
    return tuple(clear_masked(found[name], mask) for name in outputs)


def token_objective(
    logits: Tensor,
    targets: Tensor,
    *,
    log_prob_weights: float | Tensor = 1.0,
    entropy_weights: float | Tensor = 0.0,
    normalizer_weights: float | Tensor = 0.0,
    squared_normalizer_weights: float | Tensor = 0.0,
    mask: Tensor | None = None,
    ignore_index: int | None = None,
    reduction: str = "sum",
    row_weights: Tensor | None = None,
    inplace_backward: bool = False,
) -> TokenObjective:
    """`a log pi(target) + b H(pi) + c Z + d Z^2` of rows [..., V], Z the log-normaliser; the weights are constants."""
    mask = real_rows(mask, targets, ignore_index)
    log_prob, entropy, normalizer = token_statistics(logits, targets, mask=mask)
    exists = normalizer != NEGATIVE_INFINITY
    finite = normalizer.masked_fill(~exists, 0.0)  # nor has a row without tokens a gradient
    total = torch.zeros_like(log_prob)
    for weights, statistic in (
        (log_prob_weights, log_prob),
        (entropy_weights, entropy),
        (normalizer_weights, finite),
        (squared_normalizer_weights, finite.square()),
    ):
        weights = (
            torch.as_tensor(weights, dtype=total.dtype, device=total.device).detach().expand(total.shape)
        )
        counted = exists & (weights != 0)
        weights = clear_masked(weights, mask)
        total = total + weights * statistic.masked_fill(~counted, 0.0)
    total = clear_masked(total, mask)
    found = reduce_rows(total, mask, reduction, row_weights, inplace_backward)
    return TokenObjective(found, log_prob.detach(), entropy.detach(), normalizer.detach())
