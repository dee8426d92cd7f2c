"""How tensors reach the native core: rows of unit column stride, flat vectors, one call on their device."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from softbellman.core import native
from softbellman.core.checks import DTYPE_CODES, statistic_dtype


class RowMatrix(NamedTuple):
    """A [..., V] tensor as N rows: `tensor` keeps the memory alive, `stride` is in elements."""

    tensor: Tensor
    pointer: int
    stride: int
    rows: int
    vocabulary: int
    dtype_code: int


def row_matrix(tensor: Tensor) -> RowMatrix:
    """View [..., V] as [N, V], without copying where one row stride describes it, else from a copy.

    Slices, odd storage offsets and expanded leading dimensions (row stride 0) are described; a column stride
    other than 1 is not.
    """
    vocabulary = tensor.size(-1)
    rows, stride = tensor.numel() // vocabulary, vocabulary
    if not tensor.is_contiguous():
        matrix = _collapse(tensor)
        if matrix is None:
            tensor = tensor.contiguous()
        else:
            tensor = matrix
            stride = matrix.stride(0) if rows > 1 else vocabulary
    return RowMatrix(tensor, tensor.data_ptr(), stride, rows, vocabulary, DTYPE_CODES[tensor.dtype])


def _collapse(tensor: Tensor) -> Tensor | None:
    if tensor.shape[-1] > 1 and tensor.stride(-1) != 1:
        return None
    try:
        return tensor.view(-1, tensor.shape[-1])  # [..., V] -> [N, V]
    except RuntimeError:  # the leading dimensions do not lie at one stride
        return None


def vector(tensor: Tensor | None, dtype: torch.dtype | None = None) -> Tensor | None:
    """A contiguous tensor, in `dtype` where given; the caller holds it until the kernel ran."""
    if tensor is None:
        return None
    if dtype is not None and tensor.dtype != dtype:
        tensor = tensor.to(dtype)
    return tensor.contiguous()


def pointer(tensor: Tensor | None) -> int:
    """The address of the data, 0 for an absent tensor."""
    return 0 if tensor is None else tensor.data_ptr()


def per_row(rows: Tensor) -> Tensor:
    """An uninitialised result [...] in the statistic type of `rows` [..., V]."""
    sizes = rows.shape[:-1] or ((),)  # torch reads one by one faster than as a shape
    return rows.new_empty(*sizes, dtype=statistic_dtype(rows.dtype))


def several_per_row(rows: Tensor, count: int) -> tuple[Tensor, ...]:
    """As many results as `per_row` makes."""
    first = per_row(rows)
    return (first, *[torch.empty_like(first) for _ in range(count - 1)])


def launch(kernel: str, like: Tensor, *, share_rows: bool = False, **fields: Any) -> None:
    """TEMPORARY: named fields to the positional arguments of the bound function."""
    import re

    if like.numel() == 0:
        return
    name = kernel.replace("cross_entropy", "distillation")
    source = (native.Path(__file__).resolve().parents[2] / "csrc/bind/cpu.cpp").read_text()
    m = re.search(rf"void {name}\(([^)]*)\)", source)
    order = [a.split()[-1] for a in m.group(1).replace("\n", " ").split(",")]
    matrix = row_matrix(like)
    values = {
        "rows": matrix.rows,
        "vocab": matrix.vocabulary,
        "dtype": matrix.dtype_code,
        "threads": torch.get_num_threads(),
    }
    keep = []
    for key, value in fields.items():
        if isinstance(value, RowMatrix):
            values[key] = value.pointer
            values[key + "_stride"] = value.stride
        elif isinstance(value, Tensor):
            value = value.contiguous()
            keep.append(value)
            values[key] = value.data_ptr()
        elif value is None:
            values[key] = 0
            values[key + "_stride"] = 0
        else:
            values[key] = value
    values.setdefault("prior", 0)
    values.setdefault("prior_stride", 0)
    values.setdefault("normalizer", 0)
    getattr(native.cpu, name)(*(values[o] for o in order))
    if fields.get("normalizer") is not None:
        fields["normalizer"].copy_(fields["value"])


launch_rows = launch


def new_gradient(rows: Tensor) -> Tensor:
    return rows.new_empty(rows.shape)
