"""How tensors reach the native core: rows of unit column stride, flat vectors, one call on their device."""

from __future__ import annotations

from typing import NamedTuple

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


_ALIKE, _SHIFT = 256 << 20, 4096  # bytes


def new_gradient(rows: Tensor) -> Tensor:
    """An uninitialised tensor like `rows` [..., V].

    On the CPU a large one asks for huge pages, and does not begin where its block of memory does if the block beside it, an
    input or another gradient, would lie a multiple of 256 MiB away: memory serves such pairs slowly (docs/native.md).
    """
    size = rows.numel() * rows.element_size()
    if rows.is_cuda or size < native.cpu.HUGE_PAGE_MINIMUM:
        return rows.new_empty(*rows.shape)
    if size % _ALIKE < _SHIFT:
        shift = _SHIFT // rows.element_size()
        inside = rows.new_empty(rows.numel() + 2 * shift)[shift:-shift].view(rows.shape)
        # the same, but no view of a base
        gradient = rows.new_empty(0).set_(inside.untyped_storage(), shift, inside.shape, inside.stride())
    else:
        gradient = rows.new_empty(*rows.shape)
    native.cpu.ask_for_huge_pages(gradient.data_ptr(), size)
    return gradient


def launch(kernel: str, like: Tensor, *arguments: float) -> None:
    """Run a native kernel where `like` lives: with torch's threads or on its CUDA stream."""
    if like.numel() == 0:
        return
    if like.is_cuda:
        index = like.device.index
        stream = torch.cuda.current_stream(index).cuda_stream
        getattr(native.cuda(), kernel)(*arguments, index, stream)
    else:
        getattr(native.cpu, kernel)(*arguments, torch.get_num_threads())


def launch_rows(kernel: str, like: Tensor, *arguments: float) -> None:
    """`launch` of a kernel that reduces each row of `like` to a few numbers.

    On a GPU a few long rows are shared among several blocks; what these need to meet in is added here.
    """
    if not like.is_cuda or like.numel() == 0:
        launch(kernel, like, *arguments)
        return
    vocabulary, index = like.shape[-1], like.device.index
    units = like.numel() // vocabulary + 1  # one more than rows: erac_critic_loss looks one row ahead
    size = native.cuda().row_workspace(units, vocabulary, DTYPE_CODES[like.dtype], index)
    if size == 0:
        launch(kernel, like, *arguments, 0, 0)
        return
    partials = torch.empty(size, dtype=torch.uint8, device=like.device)
    tickets = _tickets(like.device, torch.cuda.current_stream(index).cuda_stream, native.cuda().TICKETS)
    launch(kernel, like, *arguments, partials.data_ptr(), tickets.data_ptr())


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
