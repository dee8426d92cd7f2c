"""The float32 products of output layers on the CPU, by the native core where that is faster than PyTorch's BLAS.

MKL, the BLAS of PyTorch's wheels, runs AVX2 kernels on processors of AMD that have AVX-512. There the products of hidden
states and a vocabulary take half the time here (docs/performance.md); on other processors they stay PyTorch's. The variable
SOFTBELLMAN_PRODUCTS (`native`, `blas`) decides instead.

Notation: M rows, V columns, H inner index.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear as torch_linear

from softbellman.core import native
from softbellman.core.operator import tangent_of, untransformed

LEAST_SIDE = 32
"""Rows and columns of a product that is computed here, at the least: fewer leave most of a tile empty."""

LEAST_WORK = 1 << 20
"""Multiplications of one."""


def multiply(
    left: Tensor,
    right: Tensor,
    out: Tensor,
    *,
    bias: Tensor | None = None,
    scale: float = 1.0,
    keep: bool = False,
) -> Tensor:
    """`scale * left @ right`, plus the bias of the columns, or what `out` holds where `keep` says so; without a graph.

    Args:
        left, right: `[M, H]` and `[H, V]`, of one dtype; either may be the transpose of a contiguous matrix.
        out: `[M, V]`, written; it overlaps neither of them.
        bias: `[V]`; none with `keep`.

    Returns:
        `out`.
    """
    rows, inner = left.shape
    if not _is_ours(left, right, out) or not _is_large(rows, inner, right.shape[1]):
        if keep:
            return out.addmm_(left, right, alpha=scale)
        if bias is not None:
            return torch.addmm(bias, left, right, alpha=scale, out=out)
        torch.mm(left, right, out=out)
        return out if scale == 1.0 else out.mul_(scale)
    native.cpu.product(
        rows=rows,
        columns=right.shape[1],
        inner=inner,
        left=(left.data_ptr(), *left.stride()),
        right=(right.data_ptr(), *right.stride()),
        out=out.data_ptr(),
        out_row=out.stride(0),
        bias=0 if bias is None else bias.contiguous().data_ptr(),
        scale=scale,
        keep=keep,
        threads=torch.get_num_threads(),
    )
    return out


def new_product(left: Tensor, right: Tensor) -> Tensor:
    """`left @ right` without a graph: [M, H], [H, V] -> [M, V]."""
    return multiply(left, right, left.new_empty(len(left), right.shape[1]))


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`inputs @ weight.T + bias` with its derivatives: [..., H], [V, H], [V] -> [..., V]."""
    tensors = [inputs, weight] if bias is None else [inputs, weight, bias]
    rows = inputs.numel() // max(inputs.shape[-1], 1)
    if not _is_large(rows, inputs.shape[-1], len(weight)) or not _is_plain(*tensors):
        return torch_linear(inputs, weight, bias)
    if torch.is_grad_enabled() and any(one.requires_grad for one in tensors):
        found: Tensor = _Linear.apply(inputs, weight, bias)  # type: ignore[no-untyped-call]
        return found
    return _product_with_rows(inputs, weight, bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return _product_with_rows(inputs, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        rows, columns = grad.flatten(0, -2), inputs.flatten(0, -2)  # (..., V) -> (M, V), (..., H) -> (M, H)
        wanted = ctx.needs_input_grad
        # where a graph of the gradient is wanted, torch's own products have one
        product: Callable[[Tensor, Tensor], Tensor] = torch.mm if torch.is_grad_enabled() else new_product
        return (
            product(rows, weight).view(inputs.shape) if wanted[0] else None,
            product(rows.t(), columns) if wanted[1] else None,
            rows.sum(0) if wanted[2] else None,
        )


def _product_with_rows(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows = inputs.detach().flatten(0, -2)  # (..., H) -> (M, H)
    out = rows.new_empty(*inputs.shape[:-1], len(weight))  # no view: what follows may write into it
    own = None if bias is None else bias.detach()
    multiply(rows, weight.detach().t(), out.view(len(rows), len(weight)), bias=own)
    return out


def _is_large(rows: int, inner: int, columns: int) -> bool:
    return min(rows, columns) >= LEAST_SIDE and rows * inner * columns >= LEAST_WORK


def _is_ours(left: Tensor, right: Tensor, out: Tensor) -> bool:
    """Whether the native core multiplies these."""
    return (
        native.cpu.PRODUCT_IS_FASTER
        and left.dtype == right.dtype == out.dtype == torch.float32
        and not (left.is_cuda or right.is_cuda or out.is_cuda)
        and 1 in left.stride()
        and 1 in right.stride()
        and out.stride(1) == 1
    )


def _is_plain(*tensors: Tensor) -> bool:
    """Whether these are float32 on the CPU, and no compiler, autocast, transform or forward-mode derivative is at work."""
    return (
        native.cpu.PRODUCT_IS_FASTER
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and untransformed(tensors)
        and all(
            type(one) in (Tensor, torch.nn.Parameter)
            and one.dtype == torch.float32
            and one.device.type == "cpu"
            and tangent_of(one) is None
            for one in tensors
        )
    )
