"""Attention over an encoded source: dot product and multi-layer perceptron.

Notation: B sources, Q queries per source (K rows times T steps), S source positions, A attention units, H
hidden units.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

_BLOCK = 1 << 18  # numbers in a block of the backward pass: 1 MiB in float32


class DotAttention(nn.Module):
    """score(s, h) = s . h; the keys are the encoder's states themselves, no parameter."""

    def keys(self, values: Tensor) -> Tensor:
        """The keys of the encoder's states `values` [B, S, H]: `values` itself."""
        return values

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """Contexts of all queries by two batched matrix products.

        Args:
            queries: [B, Q, H].
            keys: [B, S, H].
            values: [B, S, H].
            bias: [B, S], added to the scores.

        Returns:
            [B, Q, H].
        """
        scores = torch.baddbmm(bias.unsqueeze(1), queries, keys.transpose(1, 2))  # (B, Q, S)
        return torch.bmm(scores.softmax(dim=-1), values)


class MlpAttention(nn.Module):
    """score(s, h) = v . tanh(W_key h + W_query s), with W_key h computed once for a source."""

    def __init__(self, key_size: int, query_size: int, attention_size: int) -> None:
        super().__init__()
        self.project_keys = nn.Linear(key_size, attention_size)
        self.project_queries = nn.Linear(query_size, attention_size, bias=False)
        self.score = nn.Parameter(torch.empty(attention_size))
        nn.init.uniform_(self.score, -0.1, 0.1)

    def keys(self, values: Tensor) -> Tensor:
        """The projected keys of the encoder's states: [B, S, H] -> [B, S, A]."""
        projected: Tensor = self.project_keys(values)
        return projected

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """Contexts of all queries; the largest tensor is [B, Q, S, A].

        Args:
            queries: [B, Q, H].
            keys: [B, S, A], from `keys`.
            values: [B, S, H].
            bias: [B, S], added to the scores.

        Returns:
            [B, Q, H].
        """
        scores = additive_scores(keys, self.project_queries(queries), self.score)
        return torch.bmm((scores + bias.unsqueeze(1)).softmax(dim=-1), values)


def additive_scores(keys: Tensor, queries: Tensor, score: Tensor) -> Tensor:
    """score . tanh(keys + queries) for every pair: [B, S, A], [B, Q, A], [A] -> [B, Q, S]."""
    scores: Tensor = _AdditiveScores.apply(keys, queries, score)  # type: ignore[no-untyped-call]
    return scores


class _AdditiveScores(torch.autograd.Function):
    """`additive_scores` with a backward pass that never holds a second [B, Q, S, A] tensor.

    It goes through the sources in blocks that stay in the processor's cache, which halves its time.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, keys: Tensor, queries: Tensor, score: Tensor) -> Tensor:
        activation = (keys.unsqueeze(1) + queries.unsqueeze(2)).tanh_()  # [B, Q, S, A]
        ctx.save_for_backward(activation, score)
        return activation.matmul(score)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        activation, score = ctx.saved_tensors
        sources, queries, positions, size = activation.shape
        grad_score = (grad.reshape(1, -1) @ activation.view(-1, size)).squeeze(0)
        grad_keys = grad.new_empty(sources, positions, size)
        grad_queries = grad.new_empty(sources, queries, size)
        block = sources
        if grad.device.type == "cpu":
            block = max(1, _BLOCK // max(1, queries * positions * size))
        for start in range(0, sources, block):
            part = slice(start, start + block)
            value, weight = activation[part], grad[part].unsqueeze(3)
            slope = torch.addcmul(weight, weight * value, value, value=-1)  # grad * (1 - tanh^2)
            torch.sum(slope, dim=1, out=grad_keys[part])
            torch.sum(slope, dim=2, out=grad_queries[part])
        return grad_keys.mul_(score), grad_queries.mul_(score), grad_score
