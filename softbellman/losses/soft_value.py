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
from softbellman.core.launch import (
    launch,
    launch_rows,
    new_gradient,
    pointer,
    row_matrix,
    several_per_row,
    vector,
)
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


def prior_arguments(prior: Tensor | None, q: Tensor) -> tuple[Tensor | None, int]:
    """The prior in the statistic type of q with its row stride, 0 for one vector shared by all rows."""
    if prior is None:
        return None, 0
    if prior.dim() == 1:
        return vector(prior, statistic_dtype(q.dtype)), 0
    matrix = row_matrix(prior.to(statistic_dtype(q.dtype)))
    return matrix.tensor, matrix.stride


def value_forward(
    q: Tensor, tau: float, prior: Tensor | None, actions: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, ...]:
    """The soft values [...] of rows [..., V], what their rounding does to the weights of the backward pass [...], and
    with actions the q of these [...]."""
    matrix, (value, correction) = row_matrix(q), several_per_row(q, 2)
    chosen = None if actions is None else torch.empty_like(value)
    weights, weights_stride = prior_arguments(prior, q)
    ids, real = vector(actions), vector(mask)
    launch_rows(
        "soft_value_forward",
        q,
        matrix.pointer,
        matrix.stride,
        matrix.rows,
        matrix.vocabulary,
        matrix.dtype_code,
        tau,
        pointer(weights),
        weights_stride,
        pointer(ids),
        pointer(real),
        pointer(value),
        pointer(correction),
        pointer(chosen),
    )
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
    matrix, grad_q = row_matrix(q), new_gradient(q) if into is None else into
    weights, weights_stride = prior_arguments(prior, q)
    ids, real, value = vector(actions), vector(mask), value.contiguous()
    correction = correction.contiguous()
    upstream_value, upstream_chosen = vector(grad_value), vector(grad_chosen)
    launch(
        "soft_value_backward",
        q,
        matrix.pointer,
        matrix.stride,
        matrix.rows,
        matrix.vocabulary,
        matrix.dtype_code,
        tau,
        pointer(weights),
        weights_stride,
        pointer(ids),
        pointer(real),
        pointer(value),
        pointer(correction),
        pointer(upstream_value),
        pointer(upstream_chosen),
        pointer(grad_q),
        matrix.vocabulary,
    )
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
