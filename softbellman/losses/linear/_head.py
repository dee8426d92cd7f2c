"""A linear head over chunks of rows: logits on the way there, gradients of its three inputs on the way back.

Each product runs in the type of its inputs. The gradients of 16-bit weights and biases are added up over the chunks
in float32 and rounded once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from softbellman.core.checks import statistic_dtype
from softbellman.losses.linear._rows import RealRows

HIDDEN, WEIGHT, BIAS = 1, 2, 4  # which gradients are wanted, one bit each
# Tokens whose 16-bit gradients are widened at one time: little memory on the CPU, few launches on a device.
_CPU_BLOCK, _CUDA_BLOCK = 1024, 16384


class Head:
    """`hidden @ weight.T + bias` for one chunk at a time, in one buffer [C, V]."""

    def __init__(
        self, hidden: Tensor, weight: Tensor, bias: Tensor | None, rows: RealRows, chunk_rows: int
    ) -> None:
        self.rows, self.hidden = rows, rows.matrix(hidden)
        self.weight = weight if 1 in weight.stride() else weight.contiguous()
        self.bias = bias
        self._logits = hidden.new_empty(chunk_rows, weight.shape[0])
        # The CPU's row kernels write a gradient over the logits it is of. The CUDA kernels may not: several blocks
        # share a row and some read all of it.
        self._gradient = None if hidden.is_cuda else self._logits

    def logits(self, part: slice) -> Tensor:
        """The logits [C, V] of a chunk; those of the chunk before are overwritten."""
        self.chunk = self.rows.take(self.hidden, part)
        logits = self._logits[: len(self.chunk)]
        if self.bias is None:
            return torch.mm(self.chunk, self.weight.t(), out=logits)
        return torch.addmm(self.bias, self.chunk, self.weight.t(), out=logits)

    def gradient(self) -> Tensor:
        """Where the row kernels put the gradient [C, V] of the present chunk."""
        if self._gradient is None:
            self._gradient = torch.empty_like(self._logits)
        return self._gradient[: len(self.chunk)]


class HeadGradients:
    """What the gradients of the logits amount to for hidden, weight and bias, those that `wanted` has a bit for.

    A gradient that is not wanted is an empty tensor. Those of 16-bit weights and biases are float32 until `rounded`.
    """

    def __init__(self, head: Head, wanted: int) -> None:
        hidden, weight = head.hidden, head.weight
        self.head, self.wanted = head, wanted
        wide = statistic_dtype(weight.dtype)
        self.hidden = hidden.new_zeros(hidden.shape if wanted & HIDDEN else (0,))
        self.weight = hidden.new_zeros(weight.shape if wanted & WEIGHT else (0,), dtype=wide)
        self.bias = hidden.new_zeros(weight.shape[:1] if wanted & BIAS else (0,), dtype=wide)

    def add(self, part: slice) -> None:
        """Take in the chunk whose logits' gradient the head holds."""
        head, gradient = self.head, self.head.gradient()
        if self.wanted & HIDDEN:
            if head.rows.index is None:
                torch.mm(gradient, head.weight, out=self.hidden[part])
            else:
                head.rows.put(self.hidden, part, gradient.mm(head.weight))
        if self.wanted & BIAS:
            self.bias += gradient.sum(0, dtype=self.bias.dtype)
        if self.wanted & WEIGHT:
            if self.weight.dtype == gradient.dtype:
                self.weight.addmm_(gradient.t(), head.chunk)
            else:
                self._add_widened(gradient)

    def _add_widened(self, gradient: Tensor) -> None:
        """The weight's gradient in float32: on the CPU by a float32 product, on a device by the 16-bit one."""
        chunk = self.head.chunk if gradient.is_cuda else self.head.chunk.float()
        size = _CUDA_BLOCK if gradient.is_cuda else _CPU_BLOCK
        for first in range(0, gradient.shape[1], size):
            block = slice(first, first + size)
            if gradient.is_cuda:
                self.weight[block] += gradient[:, block].t().mm(chunk)
            else:
                self.weight[block].addmm_(gradient[:, block].float().t(), chunk)

    def wide(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of hidden [..., H], weight [V, H] and bias [V], the last two not yet rounded."""
        return self.hidden.view(hidden.shape if self.wanted & HIDDEN else (0,)), self.weight, self.bias

    def rounded(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of hidden [..., H], weight [V, H] and bias [V] in the type of these."""
        grad_hidden, grad_weight, grad_bias = self.wide(hidden)
        return grad_hidden, grad_weight.to(hidden.dtype), grad_bias.to(hidden.dtype)


def empty_gradients(
    hidden: Tensor, weight: Tensor, wanted: int, *, wide: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Uninitialised gradients of the shapes and types that `HeadGradients` gives; `wide` ones are not rounded."""
    dtype = statistic_dtype(hidden.dtype) if wide else hidden.dtype
    return (
        hidden.new_empty(hidden.shape if wanted & HIDDEN else (0,)),
        hidden.new_empty(weight.shape if wanted & WEIGHT else (0,), dtype=dtype),
        hidden.new_empty(weight.shape[:1] if wanted & BIAS else (0,), dtype=dtype),
    )


def wanted_gradients(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> int:
    """The bits of the inputs that autograd will ask a gradient for."""
    if not torch.is_grad_enabled():
        return 0
    return (
        HIDDEN * hidden.requires_grad
        + WEIGHT * weight.requires_grad
        + BIAS * (bias is not None and bias.requires_grad)
    )
