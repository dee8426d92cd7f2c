"""The two attentions against their formulas written out pair by pair."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from softbellman.models import attention
from softbellman.models.attention import DotAttention, MlpAttention, additive_scores


def tensors(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("block", [1, 2 * 3 * 5 * 4, 1 << 18])
def test_additive_scores_and_gradients_for_any_block(monkeypatch, block):
    monkeypatch.setattr(attention, "_BLOCK", block)
    keys, queries, score = tensors((5, 3, 4), (5, 5, 4), (4,))
    found = additive_scores(keys, queries, score)
    expected = (torch.tanh(keys[:, None] + queries[:, :, None]) * score).sum(dim=-1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    (weight,) = tensors((5, 5, 3))
    gradients = torch.autograd.grad(found, (keys, queries, score), weight.detach())
    references = torch.autograd.grad(expected, (keys, queries, score), weight.detach())
    for gradient, reference in zip(gradients, references, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_additive_scores_of_large_numbers(dtype):
    """Exponentials overflow where tanh does not; with a graph and without one."""
    numbers = torch.tensor([-300.0, -50.0, -12.0, -1.0, 0.0, 1e-3, 7.0, 44.0, 120.0], dtype=dtype)
    keys, queries = numbers[None, :, None].requires_grad_(), numbers[None, :, None].clone().requires_grad_()
    score = torch.ones(1, dtype=dtype)
    found = additive_scores(keys, queries, score)
    left, right = keys.detach().double().squeeze(2), queries.detach().double()
    wanted = (left.unsqueeze(1) + right).tanh()
    defined = (left.unsqueeze(1).abs() < 43) | (right.abs() < 43) | (left.unsqueeze(1).sign() == right.sign())
    assert (found.dtype, found.shape) == (dtype, wanted.shape)
    error = (found.detach().double() - wanted)[defined]
    assert float(error.abs().max()) <= max(torch.finfo(dtype).eps, 4e-7)
    assert defined.double().mean() > 0.85
    with torch.no_grad():
        assert torch.equal(additive_scores(keys, queries, score), found)
    found.sum().backward()
    assert keys.grad.isfinite().all() and queries.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["dot", "mlp"])
def test_context_is_the_weighted_mean_of_the_unpadded_states(kind):
    values, queries = tensors((2, 4, 6), (2, 3, 6))
    bias = torch.zeros(2, 4, dtype=torch.float64)
    bias[1, 2:] = torch.finfo(torch.float64).min / 2
    module = DotAttention() if kind == "dot" else MlpAttention(6, 6, 5).double()
    found = module(queries, module.keys(values), values, bias)
    for source, real in enumerate([4, 2]):
        for query in range(3):
            if isinstance(module, MlpAttention):
                inner = module.project_keys(values[source]) + module.project_queries(queries[source, query])
                scores = torch.tanh(inner) @ module.score
            else:
                scores = values[source] @ queries[source, query]
            weights = scores[:real].softmax(dim=0)
            expected = weights @ values[source, :real]
            torch.testing.assert_close(found[source, query], expected, rtol=0, atol=1e-12)
