"""The critic's loss of ERAC along sequences: targets from the policy's value under the target critic, Eq. (18) and (19)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from softbellman.reference.critic import critic_loss
from softbellman.reference.policy_value import policy_value
from softbellman.reference.rows import clear_masked


class EracCriticLoss(NamedTuple):
    """`loss` [..., T], and without a graph what it is made of, [..., T] each."""

    loss: Tensor
    td_error: Tensor
    targets: Tensor
    value: Tensor
    entropy: Tensor
    spread: Tensor


def erac_critic_loss(
    logits: Tensor,
    target_q: Tensor,
    q: Tensor,
    actions: Tensor,
    rewards: Tensor,
    mask: Tensor | None = None,
    *,
    tau: float,
    smoothness: float = 0.0,
    terminal: Tensor | None = None,
) -> EracCriticLoss:
    """`(q_t(a_t) - (r_t + V_{t+1}))^2 + smoothness * sum_w (q_t(w) - mean q_t)^2` for rows [..., T, V].

    `V = sum_w pi(w) (target_q(w) - tau log pi(w))`, 0 after the last real position and after a terminal one. A
    constant; the gradient goes to q alone.
    """
    value, entropy = policy_value(logits.detach(), target_q.detach(), tau=tau, mask=mask)
    following = value[..., 1:]  # V(y_1..t), already 0 in masked rows
    if terminal is not None:
        following = following.masked_fill(terminal[..., :-1], 0.0)
    following = torch.nn.functional.pad(following, (0, 1))
    targets = clear_masked(rewards.detach().to(value.dtype) + following, mask)
    loss, td_error, spread = critic_loss(q, actions, targets, mask, smoothness=smoothness)
    return EracCriticLoss(loss, td_error, targets, value, entropy, spread)
