"""Path consistency: what a policy and its state values must satisfy along any sequence, drawn by whomever.

One read of the policy's rows, and a few numbers for each token.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from softbellman.core.checks import check_counter, check_mask, check_numbers, check_temperature
from softbellman.core.head import Rows
from softbellman.losses.cross_entropy import token_cross_entropy


def path_consistency(
    policy: Rows,
    reference: Rows | None,
    values: Tensor,
    actions: Tensor,
    rewards: Tensor,
    mask: Tensor | None = None,
    *,
    tau: float,
    steps: int = 0,
) -> Tensor:
    """Residuals `C_t = -V_t + sum_{i<d} [r_{t+i} - tau log(pi / pi_0)(y_{t+i})] + V_{t+d}` along sequences.

    Nachum et al., "Bridging the Gap Between Value and Policy Based Reinforcement Learning", 2017, without discount. They are 0
    along every sequence where pi is the optimal policy at temperature tau and V its soft values; half their squared sum is
    the loss. With a reference pi_0 the entropy gives way to the divergence from it; without one `log pi_0` is 0.
    Differentiable in policy and values.

    Args:
        policy: logits `[N, T, V]` of pi before each token, a tensor or a `Head`.
        reference: logits of pi_0, `[N, T, V]`, constants; None: the entropy alone is rewarded.
        values: V of the state before each token, `[N, T]`.
        actions: tokens `y_t`, int64, `[N, T]`.
        rewards: incremental payoffs `r_t`, `[N, T]`.
        mask: True at real tokens, a prefix of each row, `[N, T]`; None: all are. Padding is not read.
        tau: temperature, between 1e-30 and 1e30.
        steps: d, the length of the paths; those that meet the end of the sequence are as long as they can be, and the value
            behind it is 0. 0: all paths go on to the end.

    Returns:
        `[N, T]` in the type of values, 0 at padding.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or range; actions as in `token_cross_entropy`.

    Example:
        >>> logits, zero = torch.zeros(1, 2, 4), torch.zeros(1, 2)
        >>> path_consistency(logits, None, zero, zero.long(), zero, tau=1.0)  # log 4 for each token to come
        tensor([[2.7726, 1.3863]])
    """
    check_temperature("tau", tau)
    check_counter("steps", steps)
    if len(policy.shape) != 3:
        raise ValueError(f"policy must be [N, T, V], got shape {tuple(policy.shape)}")
    for name, numbers in (("values", values), ("rewards", rewards)):
        check_numbers(name, numbers, "policy", policy)
    mask = check_mask(mask, "policy", policy)
    earned = rewards.double() + tau * token_cross_entropy(policy, actions, mask).double()
    if reference is not None:
        with torch.no_grad():
            prior = token_cross_entropy(reference, actions, mask)
        earned = earned - tau * prior.double()
    state = values.double()
    if mask is not None:
        earned, state = (torch.where(mask, numbers, 0.0) for numbers in (earned, state))
    residual = along_paths(earned, steps) - state
    if steps:
        residual = residual + ahead_of_paths(state, steps)
    if mask is not None:
        residual = torch.where(mask, residual, 0.0)
    return residual.to(values.dtype)


def along_paths(numbers: Tensor, steps: int) -> Tensor:
    """Sums over the `steps` positions from each one on, over all of them for 0. `[N, T]` -> `[N, T]`.

    A sum has its own positions alone: what is not finite elsewhere does not reach it.
    """
    left = min(steps, numbers.shape[1]) if steps else numbers.shape[1]
    total, summed, width = torch.zeros_like(numbers), 0, 1
    while left:  # by the binary digits of the length; `numbers` holds sums over `width` positions
        if left & 1:
            total, summed = total + ahead_of_paths(numbers, summed), summed + width
        left >>= 1
        if left:
            numbers, width = numbers + ahead_of_paths(numbers, width), 2 * width
    return total


def ahead_of_paths(numbers: Tensor, steps: int) -> Tensor:
    """What stands `steps` positions later, 0 behind the last. `[N, T]` -> `[N, T]`."""
    ahead = min(steps, numbers.shape[1])
    return pad(numbers[:, ahead:], (0, ahead))
