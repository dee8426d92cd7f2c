"""The passes over the chunks that all linear operators share, and the gradient of a reduced one.

An operator brings its row kernels as a `RowKernel`. There are two ways to a gradient:

- `reduction="none"`: what arrives at each row is known only in the backward pass, which makes each chunk's logits once
  more (four products in all; saved are the inputs and a few numbers a row).
- a sum: what arrives at each row is known but for one factor, so the forward pass takes the gradients along (three
  products, as many as with whole logits) and the backward pass multiplies them by the factor, in place where it may.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from softbellman.core.checks import statistic_dtype
from softbellman.core.operator import register_backward
from softbellman.losses.linear._donation import may_write
from softbellman.losses.linear._head import Head, HeadGradients
from softbellman.losses.linear._rows import RealRows


class RowKernel(Protocol):
    """The row kernels of one operator with their arguments for all N rows."""

    results: int  # how many numbers a row gets

    def forward(self, rows: RealRows, part: slice, *logits: Tensor) -> Sequence[Tensor]:
        """The results of a chunk, [C] each, from the logits [C, V] of each head."""

    def backward(
        self,
        rows: RealRows,
        part: slice,
        upstream: Sequence[Tensor | None],
        saved: Sequence[Tensor],
        heads: Sequence[Head],
        *logits: Tensor,
    ) -> None:
        """Write the gradients of a chunk's logits where the heads want them."""

    def unit(self, rows: RealRows, part: slice, like: Tensor) -> Sequence[Tensor | None]:
        """What arrives at the rows [C] of a chunk when the sum of all losses is differentiated."""


def forward_pass(
    kernel: RowKernel,
    heads: Sequence[Head],
    rows: RealRows,
    chunk_rows: int,
    gradients: HeadGradients | None = None,
) -> list[Tensor]:
    """The results [N] of all rows, 0 where masked; with `gradients` also those of the summed loss, of the first head."""
    like = heads[0].hidden
    results = [like.new_zeros(rows.total, dtype=statistic_dtype(like.dtype)) for _ in range(kernel.results)]
    for part in rows.chunks(chunk_rows):
        logits = [head.logits(part) for head in heads]
        terms = kernel.forward(rows, part, *logits)
        for result, term in zip(results, terms, strict=True):
            rows.put(result, part, term)
        if gradients is not None:
            kernel.backward(rows, part, kernel.unit(rows, part, terms[0]), terms, heads, *logits)
            gradients.add(part)
    return results


def backward_pass(
    kernel: RowKernel,
    heads: Sequence[Head],
    rows: RealRows,
    chunk_rows: int,
    upstream: Sequence[Tensor | None],
    saved: Sequence[Tensor],
    gradients: Sequence[HeadGradients | None],
) -> None:
    """Make each chunk's logits again and take in their gradients for the `upstream` [...] ones of the results."""
    arriving = [None if gradient is None else gradient.reshape(-1) for gradient in upstream]
    kept = [statistic.reshape(-1) for statistic in saved]
    for part in rows.chunks(chunk_rows):
        logits = [head.logits(part) for head in heads]
        kernel.backward(
            rows,
            part,
            [None if gradient is None else rows.take(gradient, part) for gradient in arriving],
            [rows.take(statistic, part) for statistic in kept],
            heads,
            *logits,
        )
        for collected in gradients:
            if collected is not None:
                collected.add(part)


def _scaled(
    factor: Tensor,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    grad_hidden: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    def scale(gradient: Tensor) -> Tensor:
        return (gradient * factor).to(hidden.dtype)

    return scale(grad_hidden), scale(grad_weight), scale(grad_bias)


# The inputs are there for the graph: a second derivative would go through them, and is refused.
_sum_backward = register_backward(
    "linear_sum_backward",
    "(Tensor factor, Tensor hidden, Tensor weight, Tensor? bias, Tensor grad_hidden, Tensor grad_weight, "
    "Tensor grad_bias) -> (Tensor, Tensor, Tensor)",
    kernel=_scaled,
    fake=lambda factor, hidden, weight, bias, *gradients: tuple(
        torch.empty_like(gradient, dtype=hidden.dtype) for gradient in gradients
    ),
)


def sum_gradients(ctx: Any, factor: Tensor | None, wanted: int) -> list[Tensor | None]:
    """The gradients that a forward pass took along, times what arrives at the sum; None where not wanted.

    `ctx` saved hidden, weight, bias and the three gradients.
    """
    if factor is None:
        return no_gradients()
    hidden, weight, bias, *gradients = ctx.saved_tensors
    if may_write(ctx, gradients, factor):
        return [
            gradient.mul_(factor).to(hidden.dtype) if wanted >> bit & 1 else None
            for bit, gradient in enumerate(gradients)
        ]
    return select(_sum_backward(factor, hidden, weight, bias, *gradients), wanted)


def empty_sum(hidden: Tensor) -> Tensor:
    """An uninitialised sum over rows."""
    return hidden.new_empty((), dtype=statistic_dtype(hidden.dtype))


def no_gradients() -> list[Tensor | None]:
    """Of hidden, weight and bias."""
    return [None, None, None]


def select(gradients: Sequence[Tensor], wanted: int) -> list[Tensor | None]:
    """The gradients of hidden, weight and bias that are wanted, None for the others."""
    return [gradient if wanted >> bit & 1 else None for bit, gradient in enumerate(gradients)]


def needed(ctx: Any, first: int) -> int:
    """The bits of three neighbouring inputs of an autograd context."""
    return sum(bool(ctx.needs_input_grad[first + bit]) << bit for bit in range(3))
