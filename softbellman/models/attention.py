"""Attention over an encoded source: dot product and multi-layer perceptron.

Notation: B sources, Q queries per source (K rows times T steps), S source positions, A attention units, H
hidden units.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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
    """score . tanh(keys + queries) for every pair: [B, S, A], [B, Q, A], [A] -> [B, Q, S].

    Keys and queries beyond 43 (float32) count as 43: their sum saturates tanh unless both are that large with opposite signs.
    """
    wide = torch.promote_types(keys.dtype, torch.float32)  # exponentials of 16-bit numbers would overflow
    graph = torch.is_grad_enabled() and any(part.requires_grad for part in (keys, queries, score))
    scores: Tensor = _AdditiveScores.apply(keys.to(wide), queries.to(wide), score.to(wide), graph)  # type: ignore[no-untyped-call]
    return scores.to(keys.dtype)


class _AdditiveScores(torch.autograd.Function):
    """`additive_scores` from exponentials of the keys and of the queries, which are few, instead of a tanh for every pair.

        tanh(k + q) = 1 - 2 r,   r = 1 / (1 + exp(2k) exp(2q)),   d tanh = 4 r (1 - r)

    The only [B, Q, S, A] tensor is r, kept for the backward pass alone. Both passes go through the sources in blocks that
    stay in the processor's cache.
    """

    @staticmethod
    def forward(ctx: Any, keys: Tensor, queries: Tensor, score: Tensor, graph: bool) -> Tensor:
        sources, positions, size = keys.shape
        count = queries.shape[1]
        bound = 0.485 * math.log(torch.finfo(keys.dtype).max)
        of_keys, of_queries = ((2.0 * part.clamp(-bound, bound)).exp_() for part in (keys, queries))
        scores = keys.new_empty(sources, count, positions)
        block = _block(keys, count)
        inverse = keys.new_empty(sources if graph else block, count, positions, size)
        for start in range(0, sources, block):
            part = slice(start, start + block)
            factors = of_keys[part].unsqueeze(1), of_queries[part].unsqueeze(2)
            target = inverse[part] if graph else inverse[: len(factors[0])]
            torch.mul(*factors, out=target).add_(1.0).reciprocal_()
            torch.matmul(target, score, out=scores[part])
        if graph:
            ctx.save_for_backward(inverse, score)
        return scores.mul_(-2.0).add_(score.sum())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        inverse, score = ctx.saved_tensors
        sources, count, positions, size = inverse.shape
        grad_score = grad.sum() - 2.0 * (grad.reshape(1, -1) @ inverse.view(-1, size)).squeeze(0)
        grad_keys = grad.new_empty(sources, positions, size)
        grad_queries = grad.new_empty(sources, count, size)
        block = _block(grad_keys, count)
        for start in range(0, sources, block):
            part = slice(start, start + block)
            value, weighted = inverse[part], grad[part].unsqueeze(3) * inverse[part]
            slope = torch.addcmul(weighted, weighted, value, value=-1)  # grad * r (1 - r)
            torch.sum(slope, dim=1, out=grad_keys[part])
            torch.sum(slope, dim=2, out=grad_queries[part])
        slope_of_score = 4.0 * score
        return grad_keys.mul_(slope_of_score), grad_queries.mul_(slope_of_score), grad_score, None


def _block(keys: Tensor, queries: int) -> int:
    """Sources that are worked on together; keys: [B, S, A]."""
    sources, positions, size = keys.shape
    if keys.device.type != "cpu":
        return max(1, sources)
    return max(1, min(sources, _BLOCK // max(1, queries * positions * size)))
