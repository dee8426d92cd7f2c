"""Critic regression with the variance penalty over the vocabulary (Eq. (18) and the smoothness term)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from softbellman.reference.rows import NEGATIVE_INFINITY, clear_masked, gather, widen


class CriticLoss(NamedTuple):
    """`loss` [...], and its parts without a graph: `td_error` [...] and `spread` [...]."""

    loss: Tensor
    td_error: Tensor
    spread: Tensor


def critic_loss(
    q: Tensor, actions: Tensor, targets: Tensor, mask: Tensor | None = None, *, smoothness: float = 0.0
) -> CriticLoss:
    """`(q(a) - target)^2 + smoothness * sum_w (q(w) - mean q)^2` for q [..., V], actions, targets [...].

    Tokens whose q is `-inf` take no part in the mean or in the spread; targets are constants.
    """
    values = widen(q, mask)
    error = clear_masked(gather(values, actions, mask) - targets.detach().to(values.dtype), mask)
    possible = values != NEGATIVE_INFINITY
    values = values.masked_fill(~possible, 0.0)
    mean = values.sum(-1, keepdim=True) / possible.sum(-1, keepdim=True).clamp(min=1)
    spread = (values - mean).masked_fill(~possible, 0.0).square().sum(-1)
    loss = error.square() + smoothness * spread if smoothness else error.square()
    return CriticLoss(loss, error.detach(), spread.detach())
