"""Soft Bellman residual along a sequence, Eq. (6), (15) and (16)."""

from __future__ import annotations

import torch
from torch import Tensor

from softbellman.reference.rows import clear_masked, gather, widen
from softbellman.reference.soft_value import soft_value


def soft_bellman_residual(
    q: Tensor,
    actions: Tensor,
    rewards: Tensor,
    mask: Tensor | None = None,
    *,
    tau: float,
    terminal: Tensor | None = None,
) -> Tensor:
    """`q_t(a_t) - (r_t + V_{t+1})` for q [B, T, V] with actions, rewards, mask, terminal [B, T] -> [B, T].

    `V_{t+1}` is 0 after the last real position and after a terminal one, Eq. (6). Squared and summed over t
    it is the loss of Eq. (16).
    """
    values = widen(q, mask)
    chosen = gather(values, actions, mask)  # Q(y_<t, y_t)
    following = soft_value(q, tau=tau, mask=mask)[:, 1:]  # V(y_1..t), already 0 in masked rows
    if terminal is not None:
        following = following.masked_fill(terminal[:, :-1], 0.0)
    following = torch.nn.functional.pad(following, (0, 1))
    target = rewards.to(values.dtype) + following
    agree = chosen == target  # also -inf on both sides, where a difference would be NaN
    return clear_masked((chosen - target).masked_fill(agree & chosen.isinf(), 0.0), mask)
