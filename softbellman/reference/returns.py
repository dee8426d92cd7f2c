"""Targets of the critic: Eq. (19) and the entropy-regularised lambda-return, from the end of each sequence to its start."""

from __future__ import annotations

import torch
from torch import Tensor


def td_targets(
    rewards: Tensor, values: Tensor, mask: Tensor, *, trace: float = 0.0, bonuses: Tensor | None = None
) -> Tensor:
    """`G_t = r_t + (1 - trace) V_{t+1} + trace (bonus_{t+1} + G_{t+1})`, [N, T] each; after the last real token only `r_t`."""
    if not 0 <= trace <= 1:
        raise ValueError(f"trace must be between 0 and 1, got {trace}")
    extra = torch.zeros_like(values) if bonuses is None else bonuses
    returns = [torch.zeros_like(values[:, 0])] if values.shape[1] else []
    for step in reversed(range(values.shape[1])):
        target = rewards[:, step].to(values.dtype)
        if step + 1 < values.shape[1]:
            following = (1 - trace) * values[:, step + 1] + trace * (extra[:, step + 1] + returns[-1])
            target = target + torch.where(mask[:, step + 1] != 0, following, 0.0)
        returns.append(torch.where(mask[:, step] != 0, target, 0.0))
    return torch.stack(returns[:0:-1], dim=1) if returns else torch.zeros_like(values)
