"""Soft Bellman residual along a sequence (equations 6, 15 and 16).

The chosen value and the soft value of a position come from one read of q; backward is one read and one write.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from softbellman.core.checks import (
    check_ids,
    check_mask,
    check_numbers,
    check_positive,
    check_rows,
)
from softbellman.core.launch import launch, new_gradient, row_matrix, several_per_row, vector
from softbellman.core.operator import register, register_backward


def soft_bellman_residual(
    q: Tensor,
    actions: Tensor,
    rewards: Tensor,
    mask: Tensor | None = None,
    *,
    tau: float,
    terminal: Tensor | None = None,
) -> Tensor:
    """`q_t(a_t) - (r_t + V_{t+1})`, the residual whose square soft Q-learning minimises (equation 16).

    `V_{t+1} = tau * log sum_w exp(q_{t+1}(w) / tau)` where position t + 1 is real, and 0 after the last real
    position and after a terminal one: nothing is bootstrapped after the end of a sequence (equation 6).
    Differentiable in q through both terms and in the rewards.

    Args:
        q: action values [B, T, V]; `q[:, t]` is Q(y_<t, .).
        actions: int64 [B, T], the tokens y_t. Ids outside [0, V) raise on the CPU; on a GPU they are not
            looked for, since that would wait for the device.
        rewards: [B, T] floating, r_t in the unit of q.
        mask: bool [B, T], True for real tokens. Masked positions are not read and give 0.
        tau: temperature, above 0, in the unit of q.
        terminal: bool [B, T], True where a sequence ends before its row does: several sequences packed behind
            each other, without padding, are one row.

    Returns:
        Residuals [B, T], float64 for float64 q, else float32. Where the chosen value and its target are both
        `-inf` the residual is 0.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or device, an id out of range, tau not
        above 0.

    Example:
        >>> q = torch.zeros(1, 2, 2)  # V_2 = log 2, and nothing follows the second token
        >>> soft_bellman_residual(q, torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2), tau=1.0)
        tensor([[-1.6931, -1.0000]])
    """
    check_rows("q", q, dimensions=3)
    check_ids("actions", actions, "q", q)
    check_numbers("rewards", rewards, "q", q)
    check_mask(mask, "q", q)
    check_mask(terminal, "q", q, name="terminal", meaning="nothing follows")
    check_positive("tau", tau)
    residual: Tensor = _residual(q, actions, rewards, mask, terminal, tau)[0]
    return residual


def _forward(
    q: Tensor,
    actions: Tensor,
    rewards: Tensor,
    mask: Tensor | None,
    terminal: Tensor | None,
    tau: float,
) -> tuple[Tensor, Tensor, Tensor]:
    residual, value, correction = several_per_row(q, 3)
    launch(
        "soft_bellman_forward", q, share_rows=True, q=row_matrix(q), tau=tau, actions=actions,
        rewards=vector(rewards, value.dtype), terminal=terminal, steps=q.size(1), mask=mask, residual=residual,
        value=value, correction=correction,
    )  # fmt: skip
    return residual, value, correction


def _backward(
    gradient: Tensor,
    q: Tensor,
    actions: Tensor,
    value: Tensor,
    correction: Tensor,
    mask: Tensor | None,
    terminal: Tensor | None,
    tau: float,
) -> Tensor:
    grad_q = new_gradient(q)
    launch(
        "soft_bellman_backward", q, q=row_matrix(q), tau=tau, actions=actions, terminal=terminal, steps=q.size(1),
        mask=mask, value=value, correction=correction, grad_residual=gradient, grad_q=row_matrix(grad_q),
    )  # fmt: skip
    return grad_q


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    q, actions, rewards, mask, terminal, ctx.tau = inputs
    ctx.rewards_dtype = rewards.dtype
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(q, actions, *output[1:], mask, terminal)


def _autograd(ctx: Any, gradient: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    if gradient is None:
        return None, None, None, None, None, None
    q, actions, value, correction, mask, terminal = ctx.saved_tensors
    grad_q = grad_rewards = None
    if ctx.needs_input_grad[0]:
        grad_q = _residual_backward(gradient, q, actions, value, correction, mask, terminal, ctx.tau)
    if ctx.needs_input_grad[2]:
        real = gradient if mask is None else gradient.masked_fill(~mask, 0.0)
        grad_rewards = (-real).to(ctx.rewards_dtype)
    return grad_q, None, grad_rewards, None, None, None


def _fake(
    q: Tensor,
    actions: Tensor,
    rewards: Tensor,
    mask: Tensor | None,
    terminal: Tensor | None,
    tau: float,
) -> tuple[Tensor, ...]:
    return several_per_row(q, 3)


_residual_backward = register_backward(
    "soft_bellman_residual_backward",
    "(Tensor gradient, Tensor q, Tensor actions, Tensor value, Tensor correction, Tensor? mask, Tensor? terminal, "
    "float tau) -> Tensor",
    kernel=_backward,
    fake=lambda gradient, q, *_: q.new_empty(q.shape),
)
_residual = register(
    "soft_bellman_residual",
    "(Tensor q, Tensor actions, Tensor rewards, Tensor? mask, Tensor? terminal, float tau) "
    "-> (Tensor residual, Tensor value, Tensor correction)",
    kernel=_forward,
    fake=_fake,
    backward=_autograd,
    setup_context=_setup_context,
)
