"""Rows a block of the vocabulary at a time, all rows at once: how a backward pass takes the gradient of a 16-bit weight.

A chunk of rows adds to every row of a weight's gradient. Over many chunks that needs a float32 sum as large as the weight,
or rounds at each. A block of the vocabulary is finished by one matmul over all rows, which sums in float32 and rounds once.
What the row kernels need of the other columns is in the numbers that the forward pass has saved of a row. They are those of
the logits as that pass rounded them: so both make them by the same matmuls, of a chunk of rows and a block of the vocabulary.
The gradient of hidden states is what is summed over blocks, in float32 `[M, H]`.

Notation: N rows, M of them real, K columns of a block, H hidden units, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from softbellman.core.checks import statistic_dtype
from softbellman.core.chunks import (
    BIAS,
    HIDDEN,
    WEIGHT,
    RealRows,
    RowsTensors,
    head_logits,
    through_cap,
)
from softbellman.core.products import multiply, new_product

COLUMNS = 16  # to which columns are rounded up, at least one of them without a token

_ROWS_ADDED = 1024  # of a gradient of hidden states, widened at one time


def choose_columns(chunk_rows: int, rows: int, vocabulary: int, hidden: int) -> int:
    """Columns K of a block, at most V, in a multiple of 16 where that is possible.

    As many logits as a chunk of rows has, less two numbers for each hidden unit, a copy and a sum, but at least half of them.
    """
    columns = max(1, chunk_rows * vocabulary // max(rows, 1))
    if columns < vocabulary:
        columns = max(columns // 2, columns - 2 * hidden, 1)
    return min(columns // COLUMNS * COLUMNS or columns, vocabulary)


def ids_in(ids: Tensor, block: slice) -> Tensor:
    """Ids as columns of a block; an id of another block is the column behind the tokens, which is `-inf`."""
    inside = (ids >= block.start) & (ids < block.stop)
    return torch.where(inside, ids - block.start, block.stop - block.start)


def padded(columns: int) -> int:
    """The columns of a buffer of logits, of which some are tokens and the others `-inf`, where ids of others look."""
    return (columns // COLUMNS + 1) * COLUMNS


class HeadColumns:
    """The logits of a head for one block of the vocabulary at a time, and what their gradients amount to.

    A gradient that is not wanted is an empty tensor.
    """

    def __init__(
        self,
        source: RowsTensors,
        rows: RealRows,
        chunk_rows: int,
        columns: int,
        dtype: torch.dtype,
        wanted: int,
    ) -> None:
        assert source.weight is not None
        hidden = source.values
        self.rows, self.source, self.dtype, self.wanted = rows, source, dtype, wanted
        self._chunk_rows = chunk_rows
        self.hidden = rows.real_values(hidden.reshape(-1, hidden.shape[-1]))  # (..., H) -> (M, H)
        self.weight = source.weight if 1 in source.weight.stride() else source.weight.contiguous()
        self.tokens = source.vocabulary or len(self.weight)  # the columns before the padding
        self._logits = hidden.new_empty(rows.count * padded(columns))
        # The CPU's row kernels may write a gradient over the logits it is of, the CUDA kernels may not.
        shared = not hidden.is_cuda and source.softcap == 0 and dtype == hidden.dtype
        self._gradient = self._logits
        if wanted and not shared:
            self._gradient = torch.empty_like(self._logits, dtype=dtype)
        wide = statistic_dtype(hidden.dtype)
        self._hidden_sum = hidden.new_zeros(self.hidden.shape if wanted & HIDDEN else (0,), dtype=wide)
        self.grad_weight = hidden.new_empty(self.weight.shape if wanted & WEIGHT else (0,))
        self.grad_bias = hidden.new_zeros(self.weight.shape[:1] if wanted & BIAS else (0,), dtype=wide)

    def logits(self, block: slice) -> Tensor:
        """The logits `[M, K + padding]` of a block; those of the block before are overwritten."""
        self._width = padded(block.stop - block.start)
        self._block = slice(block.start, max(block.start, min(block.stop, self.tokens)))
        columns = self._view(self._logits)
        self._own = self._block.stop - self._block.start
        columns[:, self._own :] = -torch.inf
        bias = None if self.source.bias is None else self.source.bias[self._block]
        for part in self.rows.chunks(self._chunk_rows):
            own = columns[part, : self._own]
            head_logits(self.source, self.hidden[part], self.weight[self._block], bias, own)
        return columns.to(self.dtype)

    def _view(self, buffer: Tensor) -> Tensor:
        return buffer[: len(self.hidden) * self._width].view(len(self.hidden), self._width)

    def gradient(self) -> Tensor | None:
        """Where the row kernels put the gradient of the present block; None where it is not wanted."""
        return self._view(self._gradient) if self.wanted else None

    def collect(self, block: slice) -> None:
        """Take in the gradient of the present block."""
        if self.wanted & WEIGHT:
            self.grad_weight[self._block.stop : block.stop] = 0.0
        if not self.wanted or self._own == 0:
            return
        gradient = self._view(self._gradient)[:, : self._own].to(self.hidden.dtype)
        gradient = through_cap(self.source, gradient, self._view(self._logits)[:, : self._own])
        if self.wanted & BIAS:
            self.grad_bias[self._block] = gradient.sum(0, dtype=self.grad_bias.dtype)
        if self.source.scale != 1.0:
            gradient = gradient.mul_(self.source.scale)
        if self.wanted & HIDDEN:
            self._add_hidden(new_product(gradient, self.weight[self._block]))
        if self.wanted & WEIGHT:
            multiply(gradient.t(), self.hidden, self.grad_weight[self._block])

    def _add_hidden(self, product: Tensor) -> None:
        """Some rows at a time: the CPU widens what it adds in a copy."""
        for part in self.rows.chunks(self.rows.count if product.is_cuda else _ROWS_ADDED):
            self._hidden_sum[part] += product[part]

    def gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of hidden `[..., H]`, weight `[V, H]` and bias `[V]`, the last not yet rounded."""
        values = self.source.values
        if not self.wanted & HIDDEN:
            return values.new_empty(0), self.grad_weight, self.grad_bias
        whole = self._hidden_sum.to(values.dtype)
        if self.rows.index is not None:
            real, whole = whole, values.new_zeros(self.rows.total, values.shape[-1])
            self.rows.put(whole, slice(None), real)
        return whole.view(values.shape), self.grad_weight, self.grad_bias


class StoredColumns:
    """Stored rows `[..., V]` a block of the vocabulary at a time, and their gradient."""

    def __init__(self, source: RowsTensors, rows: RealRows, dtype: torch.dtype, wanted: int) -> None:
        self.rows, self.source, self.dtype, self.wanted = rows, source, dtype, wanted
        self._values = source.values.reshape(-1, source.values.shape[-1])  # (..., V) -> (N, V)
        self._whole = source.values.new_zeros(self._values.shape if wanted & HIDDEN else (0,))

    def logits(self, block: slice) -> Tensor:
        """The columns `[M, K + padding]` of a block."""
        columns = block.stop - block.start
        part = self.rows.take(self._values[:, block], slice(None)).to(self.dtype)
        self._gradient = None
        wider = torch.nn.functional.pad(part, (0, padded(columns) - columns), value=-torch.inf)
        if self.wanted & HIDDEN:
            self._gradient = torch.empty_like(wider)
        return wider

    def gradient(self) -> Tensor | None:
        """Where the row kernels put the gradient of the present block; None where it is not wanted."""
        return self._gradient

    def collect(self, block: slice) -> None:
        """Take in the gradient of the present block."""
        if self._gradient is not None:
            own = self._gradient[:, : block.stop - block.start].to(self._whole.dtype)
            self.rows.put(self._whole[:, block], slice(None), own)

    def gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of the rows `[..., V]`; stored rows have no weight and no bias."""
        empty = self._whole.new_empty(0, dtype=statistic_dtype(self._whole.dtype))
        shape = self.source.values.shape if self.wanted & HIDDEN else (0,)
        return self._whole.view(shape), empty, empty.clone()


def open_columns(
    source: RowsTensors, rows: RealRows, chunk_rows: int, columns: int, dtype: torch.dtype, wanted: int
) -> HeadColumns | StoredColumns:
    """Blocks of stored rows or of a head, with the gradients that `wanted` has a bit for."""
    if source.weight is None:
        return StoredColumns(source, rows, dtype, wanted)
    return HeadColumns(source, rows, chunk_rows, columns, dtype, wanted)
