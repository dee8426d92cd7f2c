"""Logits that are known already, with a graph behind them.

Sampling computes the logits of every drawn token without a graph. To learn from them the decoder runs once more with a graph,
over whole prefixes, but the product with the vocabulary, most of its work, need not be repeated: its gradient reads features
and weights alone.

Notation: M rows, V vocabulary, H features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def known_logits(features: Tensor, weight: Tensor, bias: Tensor, logits: Tensor) -> Tensor:
    """`logits`, which are ``features @ weight.T + bias`` or that with ``-inf`` at some tokens, as their function.

    At ``-inf`` the gradient of what follows must be 0, as that of a softmax is.

    Args:
        features: what the output layer reads, Shape: ``[M, H]``.
        weight, bias: the output layer, Shape: ``[V, H]`` and ``[V]``.
        logits: their product without a graph; neither copied nor written, Shape: ``[M, V]``.
    """
    found: Tensor = _KnownLogits.apply(features, weight, bias, logits)  # type: ignore[no-untyped-call]
    return found


class _KnownLogits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, features: Tensor, weight: Tensor, bias: Tensor, logits: Tensor) -> Tensor:
        ctx.save_for_backward(features, weight)
        return logits.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        features, weight = ctx.saved_tensors
        return grad @ weight, grad.t() @ features, grad.sum(0), None
