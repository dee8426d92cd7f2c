"""How tensors reach the native core: rows of unit column stride, flat vectors, one call on their device."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from softbellman.core import native
from softbellman.core.checks import DTYPE_CODES, statistic_dtype

NO_CODE = -1  # of a type that no kernel takes; the binding names the field


class RowMatrix(NamedTuple):
    """A [..., V] tensor as N rows: `tensor` keeps the memory alive, `stride` is in elements, a copy may only be read."""

    tensor: Tensor
    pointer: int
    stride: int
    rows: int
    vocabulary: int
    dtype_code: int
    is_copy: bool = False


def row_matrix(tensor: Tensor) -> RowMatrix:
    """View [..., V] as [N, V], without copying where one row stride describes it, else from a copy.

    Slices, odd storage offsets and expanded leading dimensions (row stride 0) are described; a column stride
    other than 1 is not.
    """
    vocabulary = tensor.size(-1)
    rows, stride, is_copy = tensor.numel() // vocabulary, vocabulary, False
    if not tensor.is_contiguous():
        matrix = _collapse(tensor)
        is_copy = matrix is None
        if matrix is None:
            tensor = tensor.contiguous()
        else:
            tensor = matrix
            stride = matrix.stride(0) if rows > 1 else vocabulary
    code = DTYPE_CODES.get(tensor.dtype, NO_CODE)
    return RowMatrix(tensor, tensor.data_ptr(), stride, rows, vocabulary, code, is_copy)


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


def per_row(rows: Tensor) -> Tensor:
    """An uninitialised result [...] in the statistic type of `rows` [..., V]."""
    sizes = rows.shape[:-1] or ((),)  # torch reads one by one faster than as a shape
    return rows.new_empty(*sizes, dtype=statistic_dtype(rows.dtype))


def several_per_row(rows: Tensor, count: int) -> tuple[Tensor, ...]:
    """As many results as `per_row` makes."""
    first = per_row(rows)
    return (first, *[torch.empty_like(first) for _ in range(count - 1)])


def new_gradient(rows: Tensor) -> Tensor:
    """An uninitialised tensor like `rows` [..., V]; on the CPU a large one asks for huge pages (docs/native.md)."""
    gradient = rows.new_empty(*rows.shape)
    if not rows.is_cuda and gradient.nbytes >= native.cpu.HUGE_PAGE_MINIMUM:
        native.cpu.ask_for_huge_pages(gradient.data_ptr(), gradient.nbytes)
    return gradient


Field = RowMatrix | Tensor | float | None
_PLAIN = frozenset((int, float, bool, type(None)))

# The codes of csrc/core/rows.h.
CODES = {**DTYPE_CODES, torch.int64: 4, torch.int32: 5, torch.bool: 6, torch.uint8: 7}


def launch(kernel: str, like: Tensor, *, share_rows: bool = False, **fields: Field) -> None:
    """Run a native kernel where `like` lives: with torch's threads or on its CUDA stream.

    The kernel's parameter struct in csrc/losses says which fields there are and what each may hold.

    Args:
        kernel: name of the kernel.
        like: the rows `[..., V]` that give the device; without elements nothing is run.
        share_rows: whether the kernel reduces each row to a few numbers; on a GPU a few long rows are then
            shared among blocks.
        fields: a `row_matrix`, a tensor in the type that the kernel wants, a number, or None for an absent field.

    Raises:
        ValueError: A tensor is not on the device of `like`, or the kernel refuses a field.
    """
    if like.numel() == 0:
        return
    index = like.get_device()
    kept: list[Tensor] = []  # contiguous copies live until the kernel was started, as `fields` does
    passed: dict[str, Any] = {}
    for name, value in fields.items():
        if type(value) in _PLAIN:  # most fields; looking for subclasses of Tensor takes longest
            passed[name] = value
        elif type(value) is Tensor and value.is_contiguous() and value.get_device() == index:
            passed[name] = (value.data_ptr(), value.numel(), CODES.get(value.dtype, NO_CODE))
        elif type(value) is RowMatrix and value.tensor.get_device() == index:
            passed[name] = value[1:] if value.is_copy else value[1:-1]
        elif isinstance(value, (Tensor, RowMatrix)):
            passed[name] = copied(name, value, like, kept)
        else:
            passed[name] = value
    if index < 0:
        passed["threads"] = torch.get_num_threads()
        getattr(native.cpu, kernel)(**passed)
        return
    passed["device"] = index
    passed["stream"] = stream = torch.cuda.current_stream(index).cuda_stream
    if share_rows:
        passed["partials"], passed["tickets"] = shared_memory(like, index, stream)
    getattr(native.cuda(), kernel)(**passed)


def copied(name: str, value: Tensor | RowMatrix, like: Tensor, kept: list[Tensor]) -> tuple[Any, ...]:
    """What `launch` passes for a strided vector: a copy that is marked as one, since a kernel may only read it."""
    tensor = value.tensor if isinstance(value, RowMatrix) else value
    if tensor.device != like.device:
        raise ValueError(f"{name} must be on {like.device} like the rows, got {tensor.device}")
    copy = tensor.contiguous()
    kept.append(copy)
    field = (copy.data_ptr(), copy.numel(), CODES.get(copy.dtype, NO_CODE))
    return field if copy.data_ptr() == tensor.data_ptr() else (*field, True)


def shared_memory(like: Tensor, index: int, stream: int) -> tuple[Any, Any]:
    """Where the blocks that share rows of `like` meet, as two fields; None where every row has a block of its own."""
    vocabulary = like.shape[-1]
    units = like.numel() // vocabulary + 1  # one more than rows: erac_critic_loss looks one row ahead
    size = native.cuda().row_workspace(units, vocabulary, DTYPE_CODES[like.dtype], index)
    if size == 0:
        return None, None
    partials = torch.empty(size, dtype=torch.uint8, device=like.device)
    tickets = _tickets(like.device, stream, native.cuda().TICKETS)
    return (partials.data_ptr(), size, CODES[torch.uint8]), (
        tickets.data_ptr(),
        tickets.numel(),
        CODES[torch.int32],
    )


_TICKETS: dict[tuple[torch.device, int], Tensor] = {}


def _tickets(device: torch.device, stream: int, count: int) -> Tensor:
    """Zeros for the launches of one stream, which leave them zero; launches of two streams may overlap.

    While a graph is captured they are made for this launch alone: the graph then fills them itself, and no memory of
    its own pool outlives it here.
    """
    if torch.cuda.is_current_stream_capturing():
        return torch.zeros(count, dtype=torch.int32, device=device)
    tickets = _TICKETS.get((device, stream))
    if tickets is None:
        tickets = _TICKETS[device, stream] = torch.zeros(count, dtype=torch.int32, device=device)
    return tickets
