"""Critic regression with the variance penalty over the vocabulary (equation 18 and the smoothness term).

The chosen value, the mean and the spread come from one read of q; backward is one read and one write.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from softbellman.core.checks import (
    check_ids,
    check_mask,
    check_not_negative,
    check_numbers,
    check_rows,
    statistic_dtype,
)
from softbellman.core.launch import launch, new_gradient, row_matrix, several_per_row, vector
from softbellman.core.operator import register, register_backward

RESULTS = 5  # numbers that a row gets: loss, td_error, the mean in two parts, spread


class CriticLoss(NamedTuple):
    """`loss` [...], and its parts without a graph: `td_error` [...] and `spread` [...]."""

    loss: Tensor
    td_error: Tensor
    spread: Tensor


def critic_loss(
    q: Tensor, actions: Tensor, targets: Tensor, mask: Tensor | None = None, *, smoothness: float = 0.0
) -> CriticLoss:
    """`(q(a) - target)^2 + smoothness * sum_w (q(w) - mean_w q)^2` for each row (equation 18 and smoothness).

    Differentiable in q through the loss; targets are constants, td_error and spread are reported without a
    graph.

    Args:
        q: action values [..., V].
        actions: int64 [...], the tokens taken. Ids outside [0, V) raise on the CPU; on a GPU they are not
            looked for, since that would wait for the device.
        targets: [...] floating, the regression targets of equation 19 in the unit of q.
        mask: bool [...], True for real rows. Masked rows are not read and give 0.
        smoothness: weight of the spread, at least 0.

    Returns:
        loss and spread [...] in the squared unit of q, td_error = q(a) - target [...]; float64 for float64 q,
        else float32. Tokens whose q is `-inf` take no part in the mean or in the spread.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or device, an id out of range, smoothness
        below 0.

    Example:
        >>> critic_loss(torch.tensor([1.0, 3.0]), torch.tensor(1), torch.tensor(2.5), smoothness=0.5)
        CriticLoss(loss=tensor(1.2500), td_error=tensor(0.5000), spread=tensor(2.))
    """
    check_rows("q", q)
    check_ids("actions", actions, "q", q)
    check_numbers("targets", targets, "q", q)
    check_mask(mask, "q", q)
    check_not_negative("smoothness", smoothness)
    loss, td_error, _, _, spread = _critic(q, actions, targets, mask, smoothness)
    return CriticLoss(loss, td_error, spread)


def critic_forward(
    q: Tensor, actions: Tensor, targets: Tensor, mask: Tensor | None, smoothness: float
) -> tuple[Tensor, ...]:
    """Loss, td_error, mean and spread [...] of rows [..., V]."""
    loss, td_error, mean, mean_low, spread = results = _results(q)
    launch(
        "critic_forward", q, share_rows=True, q=row_matrix(q), actions=actions,
        targets=vector(targets, statistic_dtype(q.dtype)), smoothness=smoothness, mask=mask, loss=loss, td_error=td_error,
        mean=mean, mean_low=mean_low, spread=spread,
    )  # fmt: skip
    return results


def _results(q: Tensor) -> tuple[Tensor, ...]:
    return several_per_row(q, RESULTS)


def critic_backward(
    gradient: Tensor,
    q: Tensor,
    actions: Tensor,
    mask: Tensor | None,
    td_error: Tensor,
    mean: Tensor,
    mean_low: Tensor,
    smoothness: float,
    into: Tensor | None = None,
) -> Tensor:
    """Gradient of q, written `into` a contiguous tensor where given (on the CPU q's own)."""
    grad_q = new_gradient(q) if into is None else into
    launch(
        "critic_backward", q, q=row_matrix(q), actions=actions, smoothness=smoothness, mask=mask, td_error=td_error,
        mean=mean, mean_low=mean_low, grad_loss=gradient, grad_q=row_matrix(grad_q),
    )  # fmt: skip
    return grad_q


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    q, actions, _, mask, ctx.smoothness = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(q, actions, mask, *output[1:4])


def _autograd(ctx: Any, gradient: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    grad_q = None
    if gradient is not None and ctx.needs_input_grad[0]:
        grad_q = critic_gradient(gradient, *ctx.saved_tensors, ctx.smoothness)
    return grad_q, None, None, None, None


critic_gradient = register_backward(
    "critic_loss_backward",
    "(Tensor gradient, Tensor q, Tensor actions, Tensor? mask, Tensor td_error, Tensor mean, "
    "Tensor mean_low, float smoothness) -> Tensor",
    kernel=critic_backward,
    fake=lambda gradient, q, *_: q.new_empty(q.shape),
)
_critic = register(
    "critic_loss",
    "(Tensor q, Tensor actions, Tensor targets, Tensor? mask, float smoothness) "
    "-> (Tensor loss, Tensor td_error, Tensor mean, Tensor mean_low, Tensor spread)",
    kernel=critic_forward,
    fake=lambda q, *_: _results(q),
    backward=_autograd,
    setup_context=_setup_context,
)
