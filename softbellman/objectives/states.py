"""Positions that share a state: one row of logits or action values serves several of them.

Sequences edited from one reference begin alike, and what a network says about a prefix is the same for all that have it. So a
row is computed once for a state, and each of its positions takes what it needs: the row's soft value or log-normaliser, which
they share, and the entry of its own token.

Notation: D states, M >= D positions, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def entries(rows: Tensor, states: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The rows, unchanged, and their entries at (state, token); the entries' gradient costs no matrix of its own.

    It is added to the gradient that arrives for the returned rows, in place: these must go into one operator, whose gradient is
    its own, as in ``softbellman.ops``.

    Args:
        rows: Shape: ``[D, V]``.
        states, tokens: int64, Shape: ``[M]``.

    Returns:
        Rows, Shape: ``[D, V]``, and entries, Shape: ``[M]``, float32 at least.
    """
    found: tuple[Tensor, Tensor] = _Entries.apply(rows, states, tokens)  # type: ignore[no-untyped-call]
    return found


def sum_by_state(numbers: Tensor, states: Tensor, count: int) -> Tensor:
    """Sums over the positions of each of ``count`` states. Shape: ``[M], [M] -> [D]``."""
    return numbers.new_zeros(count).index_add_(0, states, numbers)


class _Entries(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, states: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(states, tokens)
        taken = rows[states, tokens]
        return rows.detach(), taken.to(torch.promote_types(taken.dtype, torch.float32))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_rows: Tensor, grad_taken: Tensor) -> tuple[Tensor, None, None]:
        # accumulate=True adds in a fixed order on every device; index_add_ does not on a GPU.
        grad_rows.index_put_(ctx.saved_tensors, grad_taken.to(grad_rows.dtype), accumulate=True)
        return grad_rows, None, None
