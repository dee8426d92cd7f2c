"""Soft Q-learning of the oracle that VAML distils (Eq. (6) and 16).

    Q(y_<t, y_t)  =  r_t + V(y_1..t),   V(y_1..t) = tau log sum_w exp(Q(y_1..t, w) / tau),   V = 0 after the end token

Off-policy: the sequences may come from anywhere. There is no target network; the gradient runs through Q and through V.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad

from softbellman.core.head import Rows
from softbellman.losses import soft_bellman_residual, soft_value
from softbellman.objectives.objective import Objective
from softbellman.objectives.states import entries


def soft_q_objective(
    q: Rows,
    actions: Tensor,
    rewards: Tensor,
    mask: Tensor | None = None,
    *,
    sequences: int,
    tau: float,
    terminal: Tensor | None = None,
    counted: Tensor | None = None,
    states: Tensor | None = None,
) -> Objective:
    """Squared soft Bellman residual, `sum_t [Q(y_<t, y_t) - (r_t + V(y_1..t))]^2`, mean over sequences (Eq. (16)).

    Args:
        q: action values `Q(y_<t, .)`, padded, `[N, T, V]`, or packed, `[M, V]`: the rows of one sequence
            behind those of another, in order.
        actions: tokens `y_t`, int64, `[N, T]` or `[M]`.
        rewards: incremental payoffs `r_t` (Eq. (13)), shaped as `actions`.
        mask: True at real tokens, of padded rows, `[N, T]`.
        sequences: number of sequences the loss is averaged over.
        tau: temperature, above 0, in the unit of the payoff.
        terminal: True at the last token of each sequence, of packed rows, `[M]`.
        counted: True at the rows whose residual counts, shaped as `actions`; None: all. The others only lend their value to
            the row before.
        states: row of `q` that a packed position reads, where some share one, int64, `[M]`; then q is
            `[D, V]`.

    Returns:
        The objective with diagnostics `td_error` (sum of absolute residuals) and `td_squared`.

    Raises:
        ValueError: packed rows without `terminal`, `states` without packed rows.
    """
    if q.dim() == 2:
        if terminal is None:
            raise ValueError("terminal must be given with packed rows q [M, V], got None")
        if states is not None:
            q, taken = entries(q, states, actions)
            residual = shared_residual(taken, soft_value(q, tau=tau)[states], rewards, terminal)
            return residual_objective(residual, counted, sequences)
        q, actions, rewards, terminal = (
            q[None],
            actions[None],
            rewards[None],
            terminal[None],
        )  # (M,) -> (1, M)
        counted = None if counted is None else counted[None]
    elif states is not None:
        raise ValueError(f"q must be packed, [D, V], where states are given, got shape {tuple(q.shape)}")
    residual = soft_bellman_residual(q, actions, rewards, mask, tau=tau, terminal=terminal)
    return residual_objective(residual, counted, sequences)


def residual_objective(residual: Tensor, counted: Tensor | None, sequences: int) -> Objective:
    """The squares of residuals, of those that count; `residual` and `counted` have one shape."""
    if counted is not None:
        residual = residual.masked_fill(~counted, 0.0)
    squared = residual.square().sum()
    return Objective(
        squared / sequences, {"td_error": residual.detach().abs().sum(), "td_squared": squared.detach()}
    )


def shared_residual(taken: Tensor, values: Tensor, rewards: Tensor, terminal: Tensor) -> Tensor:
    """Residuals of packed positions from the values of their actions and of their states. All `[M]`."""
    following = pad(values[1:], (0, 1)).masked_fill(terminal, 0.0)
    return taken - (rewards + following)
