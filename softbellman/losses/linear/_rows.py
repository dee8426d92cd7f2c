"""Which rows of hidden states are projected, in chunks of how many, and how their results find their places.

Notation: N rows, M of them real, C rows in a chunk, H hidden units, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from softbellman.core.launch import vector

LARGEST_SHARE = 20  # a chunk has at most one twentieth of the rows,
CPU_CHUNK_BYTES = 64 << 20  # and at most so many bytes of logits,
CUDA_CHUNK_BYTES = 256 << 20
LEAST_ROWS = 64  # but at least 64 rows: a matrix product of fewer spends its time on reading the weights


def choose_chunk_rows(rows: int, weight: Tensor, requested: int = 0, *, heads: int = 1) -> int:
    """Rows C in a chunk, at most `rows`: those requested, or for 0 the choice of the constants above.

    On a device a chunk counts twice, for the logits and for their gradient.
    """
    if requested == 0:
        copies = 2 if weight.is_cuda else 1
        budget = (CUDA_CHUNK_BYTES if weight.is_cuda else CPU_CHUNK_BYTES) // (heads * copies)
        fitting = budget // (weight.shape[0] * weight.element_size())
        requested = max(LEAST_ROWS, min(rows // (LARGEST_SHARE * copies), fitting) // 16 * 16)
    return max(1, min(requested, rows))


class RealRows:
    """The rows that a mask leaves, flattened to N.

    On the CPU only the M real rows are projected. On a device M is not known without waiting for it: all rows
    are projected, the masked ones with hidden states of 0, and the row kernels get the mask.
    """

    def __init__(self, hidden: Tensor, mask: Tensor | None) -> None:
        self.total = hidden.shape[:-1].numel()
        self.shape = hidden.shape[:-1]
        self.index: Tensor | None = None
        self.mask: Tensor | None = None
        self.count = self.total
        if mask is not None:
            flat = mask.reshape(-1)
            if flat.is_cuda:
                self.mask = flat
            elif not bool(flat.all()):
                self.index = flat.nonzero().squeeze(1)
                self.count = self.index.numel()

    def chunks(self, size: int) -> Iterator[slice]:
        """Slices of the M rows."""
        for first in range(0, self.count, size):
            yield slice(first, min(first + size, self.count))

    def matrix(self, hidden: Tensor) -> Tensor:
        """[..., H] -> [N, H], on a device with masked rows cleared."""
        flat = hidden.reshape(-1, hidden.shape[-1])
        return flat if self.mask is None else flat.masked_fill(~self.mask.unsqueeze(1), 0.0)

    def take(self, values: Tensor, part: slice) -> Tensor:
        """[N, ...] -> the rows [C, ...] of a chunk."""
        return values[part] if self.index is None else values.index_select(0, self.index[part])

    def put(self, results: Tensor, part: slice, values: Tensor) -> None:
        """Store the rows [C, ...] of a chunk in [N, ...]."""
        if self.index is None:
            results[part] = values
        else:
            results.index_copy_(0, self.index[part], values)

    def real(self, part: slice) -> Tensor | None:
        """The mask [C] that the row kernels need; None where all rows are real."""
        return None if self.mask is None else self.mask[part]

    def numbers(self, values: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """One number per row, [...] -> [N] in `dtype`."""
        return None if values is None else vector(values.reshape(-1), dtype)

    def ids(self, name: str, tokens: Tensor | None, vocabulary: int) -> Tensor | None:
        """Token ids [...] -> [N]; on the CPU a real row's id outside [0, V) raises ValueError."""
        if tokens is None:
            return None
        flat = tokens.reshape(-1).contiguous()
        if flat.is_cuda:
            return flat
        wrong = ((flat < 0) | (flat >= vocabulary)).nonzero().squeeze(1)
        if self.index is not None and len(wrong):
            wrong = wrong[torch.isin(wrong, self.index)]
        if len(wrong):
            row = int(wrong[0])
            raise ValueError(
                f"{name} must be ids in [0, {vocabulary}), got {int(flat[row])} in row {row} of {self.total}"
            )
        return flat
