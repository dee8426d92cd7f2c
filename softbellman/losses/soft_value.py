"""Soft value of a row of Q (equation 14). One read of q; backward one read and one write."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from softbellman.core.checks import (
    check_mask,
    check_positive,
    check_rows,
    check_vocabulary_vector,
    statistic_dtype,
)
from softbellman.core.launch import RowMatrix, launch, new_gradient, row_matrix, several_per_row
from softbellman.core.operator import register, register_backward


def soft_value(q: Tensor, *, tau: float, prior: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    """The soft value `V = tau * log sum_w prior(w) exp(q(w) / tau)` of each row (equation 14).

    Differentiable in q: the gradient is softmax(q / tau), weighted by the prior where there is one.

    Args:
        q: action values [..., V] in any floating type.
        tau: temperature, above 0, in the unit of q.
        prior: weights of the tokens, not negative, [V] or [..., V]; a constant. None weighs every token 1.
        mask: bool [...], True for real rows. A masked row is not read; its value and gradient are 0.

    Returns:
        Values [...] in the unit of q, float64 for float64 q, else float32. A row that is `-inf` throughout
        has the value `-inf` and a zero gradient.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or device, or tau not above 0.

    Example:
        >>> soft_value(torch.zeros(2), tau=1.0)  # log 2
        tensor(0.6931)
    """
    check_rows("q", q)
    check_positive("tau", tau)
    check_vocabulary_vector("prior", prior, "q", q, boolean=False, per_row=True)
    check_mask(mask, "q", q)
    value: Tensor = _soft_value(q, tau, prior, mask)[0]
    return value


def prior_rows(prior: Tensor | None, q: Tensor) -> RowMatrix | None:
    """The prior in the statistic type of q, as rows like those of q."""
    if prior is None:
        return None
    return row_matrix(prior.to(statistic_dtype(q.dtype)).expand(q.shape))


def value_forward(
    q: Tensor, tau: float, prior: Tensor | None, actions: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, ...]:
    """The soft values [...] of rows [..., V], what their rounding does to the weights of the backward pass [...], and
    with actions the q of these [...]."""
    value, correction = several_per_row(q, 2)
    chosen = None if actions is None else torch.empty_like(value)
    launch(
        "soft_value_forward", q, share_rows=True, q=row_matrix(q), tau=tau, prior=prior_rows(prior, q), actions=actions,
        mask=mask, value=value, correction=correction, gathered=chosen,
    )  # fmt: skip
    return (value, correction) if chosen is None else (value, correction, chosen)


def value_backward(
    grad_value: Tensor | None,
    grad_chosen: Tensor | None,
    q: Tensor,
    value: Tensor,
    correction: Tensor,
    tau: float,
    prior: Tensor | None,
    actions: Tensor | None,
    mask: Tensor | None,
    into: Tensor | None = None,
) -> Tensor:
    """Gradient of q, written `into` a contiguous tensor where given (on the CPU q's own)."""
    grad_q = new_gradient(q) if into is None else into
    launch(
        "soft_value_backward", q, q=row_matrix(q), tau=tau, prior=prior_rows(prior, q), actions=actions, mask=mask,
        value=value, correction=correction, grad_value=grad_value, grad_gathered=grad_chosen, grad_q=row_matrix(grad_q),
    )  # fmt: skip
    return grad_q


def _forward(q: Tensor, tau: float, prior: Tensor | None, mask: Tensor | None) -> tuple[Tensor, ...]:
    return value_forward(q, tau, prior, None, mask)


def _backward(
    gradient: Tensor,
    q: Tensor,
    value: Tensor,
    correction: Tensor,
    tau: float,
    prior: Tensor | None,
    mask: Tensor | None,
) -> Tensor:
    return value_backward(gradient, None, q, value, correction, tau, prior, None, mask)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, ctx.tau, prior, mask = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(q, *output, prior, mask)


def _autograd(ctx: Any, gradient: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if gradient is None:
        return None, None, None, None
    q, value, correction, prior, mask = ctx.saved_tensors
    return _soft_value_backward(gradient, q, value, correction, ctx.tau, prior, mask), None, None, None


_soft_value_backward = register_backward(
    "soft_value_backward",
    "(Tensor gradient, Tensor q, Tensor value, Tensor correction, float tau, Tensor? prior, Tensor? mask) -> Tensor",
    kernel=_backward,
    fake=lambda gradient, q, *_: q.new_empty(q.shape),
)
_soft_value = register(
    "soft_value",
    "(Tensor q, float tau, Tensor? prior, Tensor? mask) -> (Tensor value, Tensor correction)",
    kernel=_forward,
    fake=lambda q, *_: several_per_row(q, 2),
    backward=_autograd,
    setup_context=_setup_context,
)
