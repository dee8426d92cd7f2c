"""Divergences of two distributions over the vocabulary, row by row, in nats."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from softbellman.reference.rows import (
    NEGATIVE_INFINITY,
    clear_masked,
    log_softmax,
    reduce_rows,
    statistic_dtype,
    widen,
)

KINDS = ("forward_kl", "reverse_kl", "jsd")


def divergence(
    logits: Tensor,
    other: Tensor | Sequence[Tensor],
    *,
    kind: str = "forward_kl",
    beta: float = 0.5,
    temperature: float = 1.0,
    other_temperature: float | Sequence[float] | None = None,
    other_weights: Sequence[float] | None = None,
    mask: Tensor | None = None,
    reduction: str = "none",
    row_weights: Tensor | None = None,
    inplace_backward: bool = False,
) -> Tensor:
    """Divergence of `p = softmax(logits / temperature)` and `o = softmax(other / other_temperature)` -> [...].

    "forward_kl" is `KL(o || p)`, "reverse_kl" `KL(p || o)`, "jsd" `beta KL(o || m) + (1 - beta) KL(p || m)` with
    `m = beta o + (1 - beta) p`. Both inputs [..., V] are differentiable; other_temperature is temperature where None.
    Of a list it is the sum of the divergences times their weights, their mean without weights; the others are constants.
    """
    if not isinstance(other, Tensor):
        weights = [1 / len(other)] * len(other) if other_weights is None else other_weights
        each = other_temperature or temperature
        temperatures = [each] * len(other) if isinstance(each, (int, float)) else each
        total = logits.new_zeros(logits.shape[:-1], dtype=statistic_dtype(logits.dtype))
        for one, weight, of_one in zip(other, weights, temperatures, strict=True):
            if weight:
                row = divergence(
                    logits,
                    one.detach(),
                    kind=kind,
                    beta=beta,
                    temperature=temperature,
                    other_temperature=of_one,
                    mask=mask,
                )
                total = total + weight * row
        return reduce_rows(total, mask, reduction, row_weights, inplace_backward)
    other_temperature = other_temperature or temperature
    assert isinstance(other_temperature, (int, float))
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")
    values, others = (
        widen(logits, mask) / temperature,
        widen(other, mask) / other_temperature,
    )
    policy, log_policy = log_softmax(values)
    target, log_target = log_softmax(others)
    # KL(o || p) is infinite where o gives a token that p rules out: such a row has no gradient.
    impossible_for_policy, impossible_for_target = values == NEGATIVE_INFINITY, others == NEGATIVE_INFINITY
    if kind == "forward_kl":
        row = (target * (log_target - log_policy)).sum(-1)
        row = row.masked_fill((impossible_for_policy & (target > 0)).any(-1), float("inf"))
    elif kind == "reverse_kl":
        row = (policy * (log_policy - log_target)).sum(-1)
        row = row.masked_fill((impossible_for_target & (policy > 0)).any(-1), float("inf"))
    else:
        mixture = beta * target + (1 - beta) * policy
        log_mixture = mixture.masked_fill(mixture == 0, 1.0).log()
        row = beta * (target * (log_target - log_mixture)).sum(-1)
        row = row + (1 - beta) * (policy * (log_policy - log_mixture)).sum(-1)
    # A row that is -inf throughout has no distribution, hence no divergence from another.
    row = row.masked_fill(impossible_for_policy.all(-1) | impossible_for_target.all(-1), 0.0)
    return reduce_rows(clear_masked(row, mask), mask, reduction, row_weights, inplace_backward)
