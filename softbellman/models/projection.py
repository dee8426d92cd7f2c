"""The output layer's products: with bfloat16 factors where asked for, and not a second time where the logits are known.

The product of features and vocabulary is most of a training step. A processor with bfloat16 dot products (avx512_bf16, AMX)
does it about twice as fast when its factors have 16 bits; one without them does not.

Notation: M rows, V vocabulary, H features.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, pad

from softbellman.core.products import linear as fast_linear
from softbellman.core.products import new_product

Bfloat16: TypeAlias = Literal["none", "gradients", "output", "all"]
"""Which matmuls have bfloat16 factors. `gradients`: those of the output layer's gradient. `output`: the logits as well,
which are bfloat16 themselves then. `all`: those of LSTM layers and of the attention's output too. Sums run in float32, and
weights and their gradients stay in it."""

_used: ContextVar[Bfloat16] = ContextVar("bfloat16 products", default="none")
_rounded: ContextVar[dict[int, tuple[Tensor, int, Tensor]] | None] = ContextVar(
    "rounded weights", default=None
)


@contextmanager
def bfloat16_products(use: Bfloat16) -> Iterator[None]:
    """Within the block, and in backward passes of what is computed there, layers work as `use` says.

    Rounded weights are kept until the end of the block and used again without a graph, unless the weights have been changed in
    place since. (Through `.data` they must not be: torch does not count such changes.)
    """
    tokens = _used.set(use), _rounded.set({})
    try:
        yield
    finally:
        _used.reset(tokens[0])
        _rounded.reset(tokens[1])


def bfloat16_in_use() -> Bfloat16:
    """What the block around says."""
    return _used.get()


def project(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Logits `features @ weight.T + bias`: [..., H], [V, H], [V] -> [..., V]."""
    use = _used.get()
    if use == "none":
        return fast_linear(features, weight, bias)
    with torch.no_grad():
        if use == "gradients":
            logits = fast_linear(features, weight, bias)
        else:
            logits = _narrow_linear(features, weight, _narrow(bias))
    return known_logits(features, weight, bias, logits)


def multiply(inputs: Tensor, weight: Tensor) -> Tensor:
    """`inputs @ weight.T` of a layer that is no output layer: [..., D], [H, D] -> [..., H]."""
    if _used.get() != "all":
        return fast_linear(inputs, weight, None)
    if torch.is_grad_enabled():
        return linear(_narrow(inputs), _narrow(weight)).to(inputs.dtype)
    return _narrow_linear(inputs, weight).to(inputs.dtype)


def known_logits(features: Tensor, weight: Tensor, bias: Tensor, logits: Tensor) -> Tensor:
    """`logits`, which are `features @ weight.T + bias` or that with `-inf` at some tokens, as their function.

    Sampling computes the logits of every drawn token without a graph. To learn from them the decoder runs once more with a
    graph, over whole prefixes, but the product with the vocabulary, most of its work, need not be repeated: its gradient reads
    features and weights alone. At `-inf` the gradient of what follows must be 0, as that of a softmax is.

    Args:
        features: what the output layer reads, `[..., H]`.
        weight, bias: the output layer, `[V, H]` and `[V]`.
        logits: their product without a graph; neither copied nor written, `[..., V]`.
    """
    found: Tensor = _KnownLogits.apply(features, weight, bias, logits)  # type: ignore[no-untyped-call]
    return found


class _KnownLogits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, logits: Tensor) -> Tensor:
        ctx.narrow = _used.get() != "none"
        ctx.save_for_backward(features, weight)
        return logits.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        features, weight = ctx.saved_tensors
        rows, columns = grad.flatten(0, -2), features.flatten(0, -2)  # (..., V) -> (M, V), (..., H) -> (M, H)
        wide = weight.dtype
        if ctx.narrow:
            rows, columns, weight = _narrow(rows), _narrow(columns), _narrow_weight(weight)
        elif rows.dtype != wide:  # logits of autocast, whose products are in their dtype
            columns, weight = columns.to(rows.dtype), weight.to(rows.dtype)
        found = new_product(rows, weight), new_product(rows.t(), columns), rows.sum(0)
        in_features, in_weight, in_bias = found[0].to(features.dtype), found[1].to(wide), found[2].to(wide)
        return in_features.view(features.shape), in_weight, in_bias, None


def _narrow(factor: Tensor) -> Tensor:
    return factor.to(torch.bfloat16)


def _narrow_linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`inputs @ weight.T + bias` in bfloat16, without a graph: [..., D], [H, D], [H] -> [..., H].

    Rows are filled up to a multiple of 8: oneDNN prepares a kernel for every new number of rows, which takes half a
    millisecond, and sampling has all numbers from the whole batch down to 1.
    """
    rows = _narrow(inputs).flatten(0, -2)  # (..., D) -> (M, D)
    found = linear(pad(rows, (0, 0, 0, -len(rows) % 8)), _narrow_weight(weight), bias)
    return found[: len(rows)].view(*inputs.shape[:-1], -1)


def _narrow_weight(weight: Tensor) -> Tensor:
    """A weight rounded, without a graph; kept within a block of `bfloat16_products`."""
    kept, changes = _rounded.get(), _changes(weight)
    if kept is None or changes is None:
        return _narrow(weight.detach())
    found = kept.get(id(weight))
    if found is None or found[0] is not weight or found[1] != changes:
        found = kept[id(weight)] = (weight, changes, _narrow(weight.detach()))
    return found[2]


def _changes(tensor: Tensor) -> int | None:
    """How often a tensor was changed in place; None where torch does not say, and then nothing is kept.

    Autograd's own count has no public name. `_version` was tried with torch 2.13.
    """
    return getattr(tensor, "_version", None)
