"""A weighted sum of the divergences of one distribution from several: distillation from more than one teacher.

The rows of the student are made once; every divergence reads them and one teacher's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from softbellman.core.checks import check_number, check_temperature, statistic_dtype
from softbellman.core.head import Rows, check_rows_beside
from softbellman.core.row_operator import Reduction, RowOperator
from softbellman.losses.divergence_kernels import DIVERGENCE, divergence_backward, divergence_forward

MOST = 4  # teachers
_OTHERS = ("other", *(f"other_{number}?" for number in range(2, MOST + 1)))
_OF_TEACHER = ("divergence", "other_log_normalizer", "other_correction", "mixture_divergence")
_SAVED = ("log_normalizer", "correction", *(f"{name}_{k + 1}" for k in range(MOST) for name in _OF_TEACHER))


def sum_of_divergences(
    logits: Rows,
    others: Sequence[Rows],
    other_weights: Sequence[float] | None,
    kind: int,
    beta: float,
    temperature: float,
    other_temperature: float | Sequence[float] | None,
    mask: Tensor | None,
    how: Reduction,
) -> Tensor:
    """`sum_k weight_k D(p, o_k)`, differentiable in logits; kind, beta, temperature and mask are checked by the caller."""
    count = len(others)
    if not 1 <= count <= MOST:
        raise ValueError(f"other must be 1 to {MOST} distributions, got {count}")
    for number, other in enumerate(others):
        check_rows_beside(f"other[{number}]", other, "logits", logits)
    weights = [1.0 / count] * count if other_weights is None else list(other_weights)
    each = temperature if other_temperature is None else other_temperature
    temperatures: list[float] = list(each) if isinstance(each, (list, tuple)) else [each] * count  # type: ignore[list-item]
    for name, given in (("other_weights", weights), ("other_temperature", temperatures)):
        if len(given) != count:
            raise ValueError(
                f"{name} must have a number for each of the {count} distributions, got {len(given)}"
            )
    for number, (weight, one) in enumerate(zip(weights, temperatures, strict=True)):
        check_number(f"other_weights[{number}]", weight)
        if not 0.0 <= weight < float("inf"):
            raise ValueError(f"other_weights[{number}] must be finite and at least 0, got {weight}")
        check_temperature(f"other_temperature[{number}]", one)
    rows = [logits, *(other.detach() for other in others), *[None] * (MOST - count)]
    inputs = (kind, beta, temperature, [float(one) for one in temperatures], [float(one) for one in weights])
    return SEVERAL_DIVERGENCES.reduce(rows, inputs, mask, how)[0]


def several_forward(logits: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    """The weighted sum for rows `[..., V]`, and what the backward pass needs; zeros for an absent teacher."""
    others, kind, beta, temperature, temperatures, weights, mask = _split(arguments)
    total = logits.new_zeros(logits.shape[:-1], dtype=statistic_dtype(logits.dtype))
    shared = [torch.zeros_like(total), torch.ones_like(total)]
    of_teachers: list[Tensor] = []
    for other, of_other, weight in zip(others, temperatures, weights, strict=True):
        results = divergence_forward(logits, other, kind, beta, temperature, of_other, mask)
        named = dict(zip(DIVERGENCE.results, results, strict=True))
        shared = [named["log_normalizer"], named["correction"]]
        of_teachers += [named[name] for name in _OF_TEACHER]
        if weight != 0.0:
            total += weight * named["divergence"]
    absent = len(_SAVED) - 2 - len(of_teachers)
    return total, *shared, *of_teachers, *(torch.zeros_like(total) for _ in range(absent))


def several_backward(grad_divergence: Tensor, logits: Tensor, *arguments: Any) -> None:
    """Fill the gradient of the logits, which may lie over them: it is written once all teachers were read."""
    *given, grad_logits = arguments
    saved = given[len(given) - len(_SAVED) :]
    others, kind, beta, temperature, temperatures, weights, mask = _split(given[: len(given) - len(_SAVED)])
    log_normalizer, correction, *of_teachers = saved
    sums: Tensor | None = None
    for number, (other, of_other, weight) in enumerate(zip(others, temperatures, weights, strict=True)):
        if weight == 0.0:
            continue
        divergence, other_normalizer, other_correction, mixture = of_teachers[4 * number : 4 * number + 4]
        gradient = torch.empty_like(logits, memory_format=torch.contiguous_format)
        divergence_backward(
            grad_divergence * weight,
            logits,
            other,
            kind,
            beta,
            temperature,
            of_other,
            mask,
            divergence,
            log_normalizer,
            correction,
            other_normalizer,
            other_correction,
            mixture,
            gradient,
            None,
        )
        wide = gradient.to(statistic_dtype(logits.dtype))
        sums = wide if sums is None else sums.add_(wide)
    if sums is None:
        grad_logits.zero_()
    else:
        grad_logits.copy_(sums)


def _split(
    arguments: Sequence[Any],
) -> tuple[list[Tensor], int, float, float, list[float], list[float], Tensor | None]:
    rows, (kind, beta, temperature, temperatures, weights, mask) = arguments[:MOST], arguments[MOST:]
    others = [other for other in rows if isinstance(other, Tensor)]
    return others, kind, beta, temperature, temperatures, weights, mask


SEVERAL_DIVERGENCES = RowOperator(
    name="several_divergences",
    rows=("logits", *_OTHERS),
    inputs=("int kind", "float beta", "float temperature", "float[] temperatures", "float[] weights"),
    results=("divergence", *_SAVED),
    outputs=1,
    saved=_SAVED,
    differentiable=("logits",),
    forward=several_forward,
    backward=several_backward,
)
