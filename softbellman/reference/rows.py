"""What every reference shares: the statistic type, masked rows, a log-sum-exp for rows of `-inf`."""

from __future__ import annotations

import torch
from torch import Tensor

NEGATIVE_INFINITY = float("-inf")


def statistic_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type in which a row is reduced: float64 for float64 input, float32 for everything narrower."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def widen(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """`values` [..., V] in the statistic type, masked rows replaced by zeros so that nothing is read."""
    values = values.to(statistic_dtype(values.dtype))
    if mask is None:
        return values
    return values.masked_fill((mask == 0).unsqueeze(-1), 0.0)


def real_rows(mask: Tensor | None, targets: Tensor | None, ignore_index: int | None) -> Tensor | None:
    """The mask `[...]`, bool or integers 0 and 1, without the rows whose target is `ignore_index`."""
    real = None if mask is None else mask != 0
    if ignore_index is None or targets is None:
        return real
    aimed = targets != ignore_index
    return aimed if real is None else aimed & real


def clear_masked(row_results: Tensor, mask: Tensor | None) -> Tensor:
    """`row_results` [...] with 0 in every masked row."""
    return row_results if mask is None else row_results.masked_fill(mask == 0, 0.0)


def log_sum_exp(values: Tensor) -> Tensor:
    """`log sum_w exp(values[..., w])` -> [...]; a row of `-inf` alone gives `-inf`, gradient zero."""
    largest = values.detach().amax(-1, keepdim=True)
    shift = largest.masked_fill(largest == NEGATIVE_INFINITY, 0.0)
    total = (values - shift).exp().sum(-1)
    empty = total == 0
    return (total.masked_fill(empty, 1.0).log() + shift.squeeze(-1)).masked_fill(empty, NEGATIVE_INFINITY)


def log_softmax(values: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and log-probabilities over the last dimension, both 0 where the logit is `-inf`.

    A log-probability of 0 at an impossible token is what makes `0 * log 0` come out as 0 in every sum below.
    """
    possible = values != NEGATIVE_INFINITY
    normalizer = log_sum_exp(values)
    normalizer = normalizer.masked_fill(normalizer == NEGATIVE_INFINITY, 0.0).unsqueeze(-1)
    log_probability = (values.masked_fill(~possible, 0.0) - normalizer).masked_fill(~possible, 0.0)
    return log_probability.exp().masked_fill(~possible, 0.0), log_probability


def gather(values: Tensor, ids: Tensor, mask: Tensor | None) -> Tensor:
    """`values[..., ids]` for values [..., V] and ids [...]; ids of masked rows are never looked at."""
    if mask is not None:
        ids = ids.masked_fill(mask == 0, 0)
    return values.gather(-1, ids.unsqueeze(-1)).squeeze(-1)


def reduce_rows(
    loss: Tensor, mask: Tensor | None, reduction: str, row_weights: Tensor | None, inplace_backward: bool
) -> Tensor:
    """The losses `[...]` of rows times their weights: as they are, their sum, or their mean over the real rows.

    `inplace_backward` is the operators' alone: autograd keeps what it saved.
    """
    if row_weights is not None:
        loss = loss * clear_masked(row_weights.detach().to(loss.dtype), mask)
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction != "mean":
        raise ValueError(f"reduction must be 'none', 'sum' or 'mean', got {reduction!r}")
    return loss.sum() / (max(loss.numel(), 1) if mask is None else mask.sum().clamp(min=1))
