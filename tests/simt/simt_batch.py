"""Random rows in buffers of sentinels, and calls of the CUDA launchers on them through the SIMT shim."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

CODES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
TYPES = {
    **CODES,
    torch.int64: 4,
    torch.int32: 5,
    torch.bool: 6,
    torch.uint8: 7,
}  # as csrc/core/rows.h numbers them
MAIN_DTYPES = [torch.float32, torch.float64, torch.bfloat16]
# 1030 float32 and 2057 bfloat16 are just beyond 256 vectors of 16 bytes, where a row gets a block of its own
SIZES = [(v, d) for v in (1, 3, 31, 33, 100, 257, 1030) for d in MAIN_DTYPES]
SIZES += [(2057, torch.bfloat16), (100, torch.float16), (2057, torch.float16)]
SENTINEL = 77.0
STREAM = 0x5EED
# Statistics are reduced in float32 (float64 for float64) from the very inputs the reference sees: a few roundings of sums.
# A gradient is rounded once more, to the input's own type; half precision also has subnormals.
STATISTIC = {torch.float32: 4e-6, torch.float64: 1e-13, torch.bfloat16: 4e-6, torch.float16: 4e-6}
ROUNDING = {torch.float32: 4e-6, torch.float64: 1e-13, torch.bfloat16: 2**-8, torch.float16: 2**-10}
SMALLEST = {torch.float32: 4e-6, torch.float64: 1e-13, torch.bfloat16: 4e-6, torch.float16: 4e-6}


def native_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields as the binding takes them: tensors by address and size, whatever their device."""
    passed = dict(fields)
    for name, value in fields.items():
        if isinstance(value, Tensor) and value.dim() == 2:
            passed[name] = (value.data_ptr(), value.stride(0), *value.shape, TYPES[value.dtype])
        elif isinstance(value, Tensor):
            passed[name] = (value.data_ptr(), value.numel(), TYPES[value.dtype])
    return passed


def wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


class Batch:
    """Random rows of one shape, and calls of the launchers on them with every output checked for stray writes."""

    def __init__(
        self, vocab: int, dtype: torch.dtype, *, rows: int = 7, shift: int = 0, gap: int = 0, seed: int = 0
    ):
        self.vocab, self.dtype, self.rows, self.shift, self.gap = vocab, dtype, rows, shift, gap
        self.code, self.wide = CODES[dtype], wide(dtype)
        self.generator = torch.Generator().manual_seed(1000 * vocab + 10 * self.code + seed)
        self.mask = torch.ones(rows, dtype=torch.bool)
        if rows > 2:
            self.mask[rows // 2] = False
        self.actions = torch.randint(vocab, (rows,), generator=self.generator)
        self._outputs: list[tuple[Tensor, Tensor]] = []
        self._meeting: tuple[Tensor, Tensor] | None = None

    def share_rows(self, simt: ModuleType) -> None:
        """Give the forward launchers the memory in which blocks of one row meet, as much as they ask for."""
        numbers = simt.row_workspace(self.rows + 1, self.vocab, self.code, 0) // self.wide.itemsize
        partials = torch.full((numbers + 2,), SENTINEL, dtype=self.wide)
        self._meeting = partials, torch.zeros(simt.TICKETS, dtype=torch.int32)

    def random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def _matrix(self, fill: float, shift: int) -> tuple[Tensor, Tensor]:
        stride = self.vocab + self.gap
        buffer = torch.full((shift + stride * self.rows + 9,), fill, dtype=self.dtype)
        return buffer, torch.as_strided(buffer, (self.rows, self.vocab), (stride, 1), shift)

    def matrix(self, values: Tensor, shift: int | None = None) -> Tensor:
        """`values` [rows, V] rounded to the batch's type; masked rows NaN."""
        _, view = self._matrix(float("nan"), self.shift if shift is None else shift)
        view[self.mask] = values.to(self.dtype)[self.mask]
        return view

    def gradient(self, shift: int | None = None) -> Tensor:
        buffer, view = self._matrix(SENTINEL, self.shift if shift is None else shift)
        self._outputs.append((buffer, view))
        return view

    def statistic(self) -> Tensor:
        buffer = torch.full((self.rows + 2,), SENTINEL, dtype=self.wide)
        self._outputs.append((buffer, buffer[1:-1]))
        return buffer[1:-1]

    def call(self, function: Callable[..., None], **fields: Any) -> None:
        """Run a launcher on fields given as `launch` takes them, matrices as [rows, V] tensors; check what it wrote."""
        function(**native_fields(fields), **self.where(0))
        if self._meeting is not None:
            partials, tickets = self._meeting
            assert (partials[-2:] == SENTINEL).all(), "something was written behind the partial states"
            assert not tickets.any(), "a ticket was not reset"
        for buffer, view in self._outputs:
            outside = torch.ones_like(buffer, dtype=torch.bool)
            torch.as_strided(outside, view.shape, view.stride(), view.storage_offset()).fill_(False)
            assert (buffer[outside] == SENTINEL).all(), "something was written outside the output"
            assert (view != SENTINEL).all(), "part of the output was not written"

    def where(self, device: int) -> dict[str, Any]:
        """Device, stream and the place where blocks of one row meet."""
        if self._meeting is None:
            return {"device": device, "stream": STREAM}
        partials, tickets = (meeting[:1].data_ptr() for meeting in self._meeting)
        size = (self._meeting[0].numel() - 2) * self.wide.itemsize
        return {
            "device": device,
            "stream": STREAM,
            "partials": (partials, size, TYPES[torch.uint8]),
            "tickets": (tickets, self._meeting[1].numel(), TYPES[torch.int32]),
        }

    def leaf(self, values: Tensor) -> Tensor:
        """What the kernels read, in float64, with a graph; masked rows are zeros."""
        return values.double().masked_fill(~self.mask.unsqueeze(-1), 0.0).requires_grad_()

    def check(self, actual: Tensor, expected: Tensor, *, scale: float = 1.0) -> None:
        matrix = actual.dim() == 2
        relative = (ROUNDING if matrix else STATISTIC)[self.dtype]
        absolute = (SMALLEST if matrix else STATISTIC)[self.dtype]
        torch.testing.assert_close(
            actual.double(), expected.detach(), rtol=relative * scale, atol=absolute * scale
        )


PATTERNS = ["finite", "first", "last", "all but one", "all", "scattered"]


def remove_tokens(values: Tensor, pattern: str) -> Tensor:
    """`values` with -inf in the named places."""
    values, columns = values.clone(), values.shape[-1]
    if pattern == "first":
        values[:, : (columns + 1) // 2] = float("-inf")
    elif pattern == "last":
        values[:, columns // 2 :] = float("-inf")
    elif pattern == "all but one":
        keep = values[:, columns // 3].clone()
        values.fill_(float("-inf"))
        values[:, columns // 3] = keep
    elif pattern == "all":
        values[::2] = float("-inf")
    elif pattern == "scattered":
        values[:, ::3] = float("-inf")
    return values
