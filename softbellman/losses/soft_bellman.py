"""Soft Bellman residual along a sequence, Eq. (6), (15) and (16).

The chosen value and the soft value of a position come from one read of q; backward is one read and one write.
"""

from __future__ import annotations

from torch import Tensor

from softbellman.core.checks import check_ids, check_mask, check_numbers, check_temperature, statistic_dtype
from softbellman.core.head import Head, Rows, check_row_argument
from softbellman.core.launch import launch, row_matrix, several_per_row, vector
from softbellman.core.row_operator import RowOperator
from softbellman.losses.erac import following_values
from softbellman.losses.soft_value import action_soft_value


def soft_bellman_residual(
    q: Rows,
    actions: Tensor,
    rewards: Tensor,
    mask: Tensor | None = None,
    *,
    tau: float,
    terminal: Tensor | None = None,
) -> Tensor:
    """`q_t(a_t) - (r_t + V_{t+1})`, the residual whose square soft Q-learning minimises; Eq. (16).

    `V_{t+1} = tau log sum_w exp(q_{t+1}(w) / tau)` where position t + 1 is real, and 0 after the last real
    position and after a terminal one: nothing is bootstrapped after the end of a sequence; Eq. (6).
    Differentiable in q through both terms and in the rewards.

    Args:
        q: action values `[B, T, V]`, a tensor or a `Head`; `q[:, t]` is Q(y_<t, .).
        actions: int64 `[B, T]`, the tokens y_t. Ids outside [0, V) raise on the CPU; on a GPU they are not
            looked for, since that would synchronize.
        rewards: `[B, T]` floating, r_t in the unit of q.
        mask: bool or 0/1 integers `[B, T]`, True for real tokens. Masked positions are not read and give 0.
        tau: temperature in the unit of q, between 1e-30 and 1e30.
        terminal: bool or 0/1 integers `[B, T]`, True where a sequence ends before its row does: several sequences
            packed behind each other, without padding, are one row.

    Returns:
        Residuals `[B, T]`, float64 for float64 q, else float32. Where the chosen value and its target are both
        `-inf` the residual is 0.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or range.

    Example:
        >>> q = torch.zeros(1, 2, 2)  # V_2 = log 2, and nothing follows the second token
        >>> soft_bellman_residual(q, torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2), tau=1.0)
        tensor([[-1.6931, -1.0000]])
    """
    check_row_argument("q", q, dimensions=3)
    check_ids("actions", actions, "q", q)
    check_numbers("rewards", rewards, "q", q)
    mask = check_mask(mask, "q", q)
    terminal = check_mask(terminal, "q", q, name="terminal", meaning="nothing follows")
    check_temperature("tau", tau)
    earned = rewards.detach()
    if isinstance(q, Head):
        value, chosen = action_soft_value(q, actions, tau=tau, mask=mask)  # 0 in masked rows
        target = earned.to(value.dtype) + following_values(value, terminal)
        residual = (chosen - target).masked_fill((chosen == target) & chosen.isinf(), 0.0)
    else:
        residual = SOFT_BELLMAN((q,), (actions, earned, terminal, tau), mask)[0]
    if rewards.requires_grad:
        residual = residual + (earned - rewards).to(residual.dtype)  # 0, with the gradient -1
    return residual if mask is None else residual.masked_fill(~mask, 0.0)


def soft_bellman_forward(
    q: Tensor,
    actions: Tensor,
    rewards: Tensor,
    terminal: Tensor | None,
    tau: float,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Residuals and soft values of rows `[B, T, V]`, and what the values' rounding does to the weights."""
    residual, value, correction = several_per_row(q, 3)
    launch(
        "soft_bellman_forward",
        q,
        share_rows=True,
        q=row_matrix(q),
        tau=tau,
        actions=vector(actions),
        rewards=vector(rewards, statistic_dtype(q.dtype)),
        terminal=vector(terminal),
        steps=q.shape[-2],
        mask=vector(mask),
        residual=residual,
        value=value,
        correction=correction,
    )
    return residual, value, correction


def soft_bellman_backward(
    grad_residual: Tensor,
    q: Tensor,
    actions: Tensor,
    rewards: Tensor,
    terminal: Tensor | None,
    tau: float,
    mask: Tensor | None,
    value: Tensor,
    correction: Tensor,
    grad_q: Tensor,
) -> None:
    """Fill the gradient of q, a tensor like it."""
    launch(
        "soft_bellman_backward",
        q,
        q=row_matrix(q),
        tau=tau,
        actions=vector(actions),
        terminal=vector(terminal),
        steps=q.shape[-2],
        mask=vector(mask),
        value=value,
        correction=correction,
        grad_residual=grad_residual,
        grad_q=row_matrix(grad_q),
    )


SOFT_BELLMAN = RowOperator(
    name="soft_bellman_residual",
    rows=("q",),
    inputs=("Tensor actions", "Tensor rewards", "Tensor? terminal", "float tau"),
    results=("residual", "value", "correction"),
    outputs=1,
    saved=("value", "correction"),
    differentiable=("q",),
    forward=soft_bellman_forward,
    backward=soft_bellman_backward,
    chunked=False,  # a position needs the value of the next: a head goes through `action_soft_value`
)
