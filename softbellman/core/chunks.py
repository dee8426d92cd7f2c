"""Rows in chunks: which are read, how many at a time, their logits on the way there, gradients on the way back.

Each matmul of a head runs in the dtype of the head. The gradients of 16-bit biases are added up over the chunks in float32 and
rounded once. Those of 16-bit weights go by columns (`softbellman.core.columns`), unless a head says that they are added up
over the chunks in 16 bits.

Notation: N rows, M of them real, C rows in a chunk, H hidden units, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from softbellman.core.checks import statistic_dtype
from softbellman.core.products import multiply, new_product

LARGEST_SHARE = 20  # a chunk has at most one twentieth of the rows,
CPU_CHUNK_BYTES = 64 << 20  # and at most so many bytes of logits,
CUDA_CHUNK_BYTES = 256 << 20
LEAST_ROWS = 64  # but at least 64 rows: a matmul of fewer spends its time on reading the weights
FEW_ROWS = 1280  # of fewer rows than these, of which a twentieth is less than 64,
ROWS_OF_FEW = 128  # a chunk has half, and at most so many: it is a quarter faster (docs/performance.md)
PARTS = 7  # that an operator is given of a vocabulary-wide argument: the fields of `RowsTensors`
HIDDEN, WEIGHT, BIAS = (
    1,
    2,
    4,
)  # which gradients of a head are wanted, one bit each; of stored rows HIDDEN is their own


def choose_chunk_rows(
    rows: int, weight: Tensor, requested: int = 0, *, heads: int = 1, columns: int | None = None
) -> int:
    """Rows C in a chunk, at most `rows`: those requested, or for 0 the choice of the constants above.

    On a device a chunk counts twice, for the logits and for their gradient. `columns` are those of the logits, None for
    the rows of the weight.
    """
    if requested == 0:
        copies = 2 if weight.is_cuda else 1
        budget = (CUDA_CHUNK_BYTES if weight.is_cuda else CPU_CHUNK_BYTES) // (heads * copies)
        fitting = budget // ((columns or weight.shape[0]) * weight.element_size())
        share = min(ROWS_OF_FEW, rows // 2) if rows < FEW_ROWS else rows // (LARGEST_SHARE * copies)
        requested = max(LEAST_ROWS, min(share, fitting) // 16 * 16)
    return max(1, min(requested, rows))


class RealRows:
    """The rows that a mask leaves, flattened to N.

    On the CPU only the M real rows are read. On a device M is not known without synchronizing: all rows
    are read, the masked ones with hidden states of 0, and the row kernels get the mask.
    """

    def __init__(self, shape: torch.Size, mask: Tensor | None) -> None:
        self.shape = shape
        self.total = shape.numel()
        self.index: Tensor | None = None
        self.mask: Tensor | None = None
        self.count = self.total
        if mask is not None:
            if mask.shape != shape or mask.dtype != torch.bool:
                raise ValueError(f"mask must be bool {tuple(shape)}, got {mask.dtype} {tuple(mask.shape)}")
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

    def take(self, values: Tensor, part: slice) -> Tensor:
        """`[N, ...]` -> the rows `[C, ...]` of a chunk."""
        return values[part] if self.index is None else values.index_select(0, self.index[part])

    def put(self, results: Tensor, part: slice, values: Tensor) -> None:
        """Store the rows `[C, ...]` of a chunk in `[N, ...]`."""
        if self.index is None:
            results[part] = values
        else:
            results.index_copy_(0, self.index[part], values)

    def real_values(self, values: Tensor) -> Tensor:
        """`[N, H]` -> the M real rows `[M, H]`; on a device all of them, 0 where masked."""
        if self.mask is not None:
            return values.masked_fill(~self.mask.unsqueeze(1), 0.0)
        return values if self.index is None else values.index_select(0, self.index)

    def real(self, part: slice) -> Tensor | None:
        """The mask `[C]` that the row kernels need; None where all rows are real."""
        return None if self.mask is None else self.mask[part]

    def one_per_row(
        self, name: str, values: Tensor | None, vocabulary: int, dimensions: int = 0
    ) -> Tensor | None:
        """Numbers of each row, `[...]` -> `[N]`; on the CPU a real row's id outside [0, V) raises ValueError.

        With `dimensions` a row has several, `[..., K] -> [N, K]`, which the caller has looked at.
        """
        if values is None:
            return None
        if values.shape[: values.dim() - dimensions] != self.shape:
            raise ValueError(f"{name} must have shape {tuple(self.shape)}, got {tuple(values.shape)}")
        if dimensions:
            return values.reshape(self.total, *values.shape[values.dim() - dimensions :])
        flat = values.reshape(-1)
        if flat.dtype == torch.int64 and not flat.is_cuda:
            wrong = ((flat < 0) | (flat >= vocabulary)).nonzero().squeeze(1)
            if self.index is not None and len(wrong):
                wrong = wrong[torch.isin(wrong, self.index)]
            if len(wrong):
                row = int(wrong[0])
                raise ValueError(
                    f"{name} must be ids in [0, {vocabulary}), got {int(flat[row])} in row {row} of {self.total}"
                )
        return flat


class RowsTensors(NamedTuple):
    """A vocabulary-wide argument as operators pass it: stored rows `[..., V]`, or the parts of a head."""

    values: Tensor
    weight: Tensor | None
    bias: Tensor | None
    scale: float
    softcap: float  # 0: none
    vocabulary: int = 0  # how many of the V columns are tokens; 0: all
    narrow: bool = False  # whether the gradient of the weight is added up in the weight's dtype

    @property
    def is_wide(self) -> bool:
        """Whether the gradient of the weight is summed in another dtype than the weight's own."""
        return self.weight is not None and not self.narrow


def head_logits(
    source: RowsTensors, hidden: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor
) -> None:
    """`cap(scale * hidden @ weight.T + bias)`, `[C, K]` into `out`, of some rows and some tokens of a head."""
    scale, softcap = source.scale, source.softcap
    multiply(hidden, weight.t(), out, bias=bias, scale=scale)
    if softcap:
        out.div_(softcap).tanh_().mul_(softcap)
        if bias is not None:
            out.masked_fill_(bias == -torch.inf, -torch.inf)


def through_cap(source: RowsTensors, gradient: Tensor, capped: Tensor) -> Tensor:
    """The gradient of what goes into the cap, in the place of that of the capped logits, which are overwritten."""
    if not source.softcap:
        return gradient
    return gradient.mul_(capped.div_(source.softcap).square_().neg_().add_(1.0).clamp_(min=0.0))


class HeadChunks:
    """The logits of a head for one chunk at a time, in one buffer `[C, V]`, and what their gradients amount to.

    With `columns` the buffer is so wide; those behind the tokens are `-inf`. With `block` the matmuls are those of so many
    tokens that a backward pass by columns does again. A gradient that is not wanted is an empty tensor. That of a 16-bit bias
    is float32.
    """

    def __init__(
        self,
        source: RowsTensors,
        rows: RealRows,
        chunk_rows: int,
        dtype: torch.dtype,
        wanted: int,
        columns: int | None = None,
        block: int | None = None,
    ) -> None:
        assert source.weight is not None
        hidden, weight = source.values, source.weight
        flat = hidden.reshape(-1, hidden.shape[-1])  # (..., H) -> (N, H)
        self.hidden = flat if rows.mask is None else flat.masked_fill(~rows.mask.unsqueeze(1), 0.0)
        self.tokens = source.vocabulary or weight.shape[0]  # the columns before the padding
        self.bias = None if source.bias is None else source.bias[: self.tokens]
        self.weight = (weight if 1 in weight.stride() else weight.contiguous())[: self.tokens]
        self.rows, self.source, self.dtype, self.wanted = rows, source, dtype, wanted
        self._block = block or len(weight)
        self._logits = hidden.new_empty(chunk_rows, columns or weight.shape[0])
        # The CPU's row kernels may write a gradient over the logits it is of. The CUDA kernels may not: several
        # blocks share a row and some read all of it.
        shared = not hidden.is_cuda and source.softcap == 0 and dtype == hidden.dtype
        self._gradient = self._logits if shared else None
        wide = statistic_dtype(weight.dtype)
        self.grad_hidden = hidden.new_zeros(flat.shape if wanted & HIDDEN else (0,))
        # Without a pass that clears it: the first chunk is stored, not added.
        self.grad_weight = hidden.new_empty(weight.shape if wanted & WEIGHT else (0,))
        self._is_first = True
        self.grad_bias = hidden.new_zeros(weight.shape[:1] if wanted & BIAS else (0,), dtype=wide)

    def logits(self, part: slice) -> Tensor:
        """The logits `[C, V]` of a chunk; those of the chunk before are overwritten."""
        self._chunk = self.rows.take(self.hidden, part)
        all_columns = self._logits[: len(self._chunk)]
        all_columns[:, self.tokens :] = -torch.inf
        for first in range(0, self.tokens, self._block):
            part_of = slice(first, min(first + self._block, self.tokens))
            bias = None if self.bias is None else self.bias[part_of]
            head_logits(self.source, self._chunk, self.weight[part_of], bias, all_columns[:, part_of])
        return all_columns.to(self.dtype)

    def gradient(self) -> Tensor | None:
        """Where the row kernels put the gradient `[C, V]` of the present chunk; None where it is not wanted."""
        if not self.wanted:
            return None
        if self._gradient is None:
            self._gradient = torch.empty_like(self._logits, dtype=self.dtype)
        return self._gradient[: len(self._chunk)]

    def collect(self, part: slice) -> None:
        """Take in the gradient of the present chunk."""
        gradient = self.gradient()
        if gradient is None:
            return
        gradient = gradient[:, : self.tokens].to(self.hidden.dtype)
        gradient = through_cap(self.source, gradient, self._logits[: len(gradient), : self.tokens])
        scale = self.source.scale
        if self.wanted & BIAS:
            self.grad_bias[: self.tokens] += gradient.sum(0, dtype=self.grad_bias.dtype)
        if scale != 1.0:
            gradient = gradient.mul_(scale)
        if self.wanted & HIDDEN:
            if self.rows.index is None:
                multiply(gradient, self.weight, self.grad_hidden[part])
            else:
                self.rows.put(self.grad_hidden, part, new_product(gradient, self.weight))
        if self.wanted & WEIGHT:
            own = self.grad_weight[: self.tokens]
            multiply(gradient.t(), self._chunk, own, keep=not self._is_first)
            self._is_first = False

    def gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of hidden `[..., H]`, weight `[V, H]` and bias `[V]`, the last not yet rounded."""
        shape = self.source.values.shape if self.wanted & HIDDEN else (0,)
        if self.wanted & WEIGHT:
            self.grad_weight[0 if self._is_first else self.tokens :].zero_()
        return self.grad_hidden.view(shape), self.grad_weight, self.grad_bias


class StoredChunks:
    """Stored rows `[..., V]` a chunk at a time, and their gradient."""

    def __init__(self, source: RowsTensors, rows: RealRows, dtype: torch.dtype, wanted: int) -> None:
        self.rows, self.source, self.dtype, self.wanted = rows, source, dtype, wanted
        self._values = source.values.reshape(-1, source.values.shape[-1])  # (..., V) -> (N, V)
        shape = self._values.shape if wanted & HIDDEN else (0,)
        self._whole = source.values.new_zeros(shape)

    def logits(self, part: slice) -> Tensor:
        """The rows `[C, V]` of a chunk."""
        chunk = self.rows.take(self._values, part).to(self.dtype)
        self._gradient = chunk.new_empty(chunk.shape) if self.wanted & HIDDEN else None
        return chunk

    def gradient(self) -> Tensor | None:
        """Where the row kernels put the gradient `[C, V]` of the present chunk; None where it is not wanted."""
        return self._gradient

    def collect(self, part: slice) -> None:
        """Take in the gradient of the present chunk."""
        if self._gradient is not None:
            self.rows.put(self._whole, part, self._gradient.to(self._whole.dtype))

    def gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of the rows `[..., V]`; stored rows have no weight and no bias."""
        empty = self._whole.new_empty(0, dtype=statistic_dtype(self._whole.dtype))
        shape = self.source.values.shape if self.wanted & HIDDEN else (0,)
        return self._whole.view(shape), empty, empty.clone()


Chunks = HeadChunks | StoredChunks


def open_chunks(
    source: RowsTensors,
    rows: RealRows,
    chunk_rows: int,
    dtype: torch.dtype,
    wanted: int = 0,
    columns: int | None = None,
    block: int | None = None,
) -> Chunks:
    """Chunks of stored rows or of a head, with the gradients that `wanted` has a bit for."""
    if source.weight is None:
        return StoredChunks(source, rows, dtype, wanted)
    return HeadChunks(source, rows, chunk_rows, dtype, wanted, columns, block)


def empty_gradients(source: RowsTensors, wanted: int, *, wide: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Uninitialised gradients of the shapes and dtypes of `Chunks.gradients`; rounded ones unless `wide`."""
    values, weight = source.values, source.weight
    of_bias = statistic_dtype(values.dtype) if wide else values.dtype
    vocabulary = () if weight is None else weight.shape
    return (
        values.new_empty(values.shape if wanted & HIDDEN else (0,)),
        values.new_empty(vocabulary if wanted & WEIGHT else (0,)),
        values.new_empty(vocabulary[:1] if wanted & BIAS else (0,), dtype=of_bias),
    )
