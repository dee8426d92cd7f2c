"""Path consistency learning: policy and state values agree along every path, drawn by whomever.

Where pi is the optimal policy at temperature tau and V its soft values, each path of d tokens has

    C_t = -V(y_<t) + sum_{i<d} [r_{t+i} - tau log(pi / pi_0)(y_{t+i})] + V(y_<t+d)  =  0,   V = 0 after the last token

(Nachum, Norouzi, Xu and Schuurmans, "Bridging the Gap Between Value and Policy Based Reinforcement Learning", 2017,
without discount). Half the sum of the squares is descended in policy and values.
"""

from __future__ import annotations

import torch
from torch import Tensor

from softbellman.core.checks import check_counter, check_temperature
from softbellman.losses.path_consistency import ahead_of_paths, along_paths
from softbellman.objectives.objective import Objective


def consistency_objective(
    log_ratios: Tensor,
    values: Tensor,
    rewards: Tensor,
    mask: Tensor,
    *,
    sequences: int,
    tau: float,
    steps: int = 0,
    impossible: Tensor | None = None,
) -> Objective:
    """Half the squared residuals of all paths, `1/2 sum_t C_t^2`, mean over sequences.

    It is the loss of `softbellman.path_consistency` for log-probabilities that are known, such as those of packed rows.
    Differentiable in log_ratios and values. With one of them detached it has the gradient of the other alone.

    Args:
        log_ratios: `log(pi / pi_0)(y_t)`, or `log pi(y_t)` where there is no prior, `[N, T]`.
        values: V of the state before each token, `[N, T]`.
        rewards: incremental payoffs `r_t`, `[N, T]`.
        mask: True at real tokens, a prefix of each row, `[N, T]`.
        sequences: number of sequences the loss is averaged over.
        tau: temperature, between 1e-30 and 1e30.
        steps: d; 0: all paths go on to the end. Those that meet the end are as long as they can be.
        impossible: True at tokens that the policy never says, `[N, T]`; paths through them do not count.

    Returns:
        The objective with diagnostics `path_error` (sum of |C|), `path_squared` and their count `paths`.

    Raises:
        ValueError: shapes that differ, tau or steps out of range.
    """
    check_temperature("tau", tau)
    check_counter("steps", steps)
    for name, numbers in (("values", values), ("rewards", rewards), ("mask", mask)):
        if numbers.shape != log_ratios.shape or log_ratios.dim() != 2:
            raise ValueError(
                f"{name} and log_ratios must be [N, T], got shapes {tuple(numbers.shape)} and {tuple(log_ratios.shape)}"
            )
    counted = mask
    if impossible is not None:
        impossible = impossible & mask
        counted = mask & (along_paths(impossible.long(), steps) == 0)
        log_ratios = log_ratios.masked_fill(impossible, 0.0)
    earned = torch.where(mask, rewards.double() - tau * log_ratios.double(), 0.0)
    state = torch.where(mask, values.double(), 0.0)
    residual = along_paths(earned, steps) - state
    if steps:
        residual = residual + ahead_of_paths(state, steps)
    residual = torch.where(counted, residual, 0.0).to(values.dtype)
    squared, found = residual.square().sum(), residual.detach()
    return Objective(
        0.5 * squared / sequences,
        {"path_error": found.abs().sum(), "path_squared": squared.detach(), "paths": counted.sum()},
    )
