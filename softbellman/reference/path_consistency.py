"""Path consistency residuals, path by path."""

from __future__ import annotations

import torch
from torch import Tensor


def path_consistency(
    policy: Tensor,
    reference: Tensor | None,
    values: Tensor,
    actions: Tensor,
    rewards: Tensor,
    mask: Tensor | None = None,
    *,
    tau: float,
    steps: int = 0,
) -> Tensor:
    """`-V_t + sum_{i<d} [r_{t+i} - tau log(pi / pi_0)(y_{t+i})] + V_{t+d}`, [N, T]; after the last real token V is 0."""
    real = torch.ones_like(actions, dtype=torch.bool) if mask is None else mask
    rows = []
    for n in range(len(actions)):
        length = int(real[n].sum())
        row = []
        for t in range(actions.shape[1]):
            if t >= length:
                row.append(torch.zeros_like(values[n, t]))
                continue
            end = min(t + steps, length) if steps else length
            total = -values[n, t]
            for place in range(t, end):
                token = actions[n, place]
                gain = torch.log_softmax(policy[n, place], -1)[token]
                if reference is not None:
                    gain = gain - torch.log_softmax(reference[n, place], -1)[token]
                total = total + rewards[n, place] - tau * gain
            row.append(total + values[n, end] if end < length else total)
        rows.append(torch.stack(row) if row else values[n])
    return torch.stack(rows) if rows else torch.zeros_like(values)
