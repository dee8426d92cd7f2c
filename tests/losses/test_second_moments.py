"""The critic's loss from second moments equals the one from values, and so do all gradients."""

from __future__ import annotations

import pytest
import torch

import softbellman.losses.critic
from softbellman import Head, critic_loss
from softbellman.losses.second_moments import moments_pay, vocabulary_spread


def case(dtype: torch.dtype, *, rows: int = 7, vocabulary: int = 11, features: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    shapes = ((rows, features), (vocabulary, features), (vocabulary,))
    made = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    made[1] += 3.0  # far from centred
    made[2] += 20.0
    return [tensor.to(dtype).requires_grad_() for tensor in made]


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("smoothness", [0.0, 0.3])
@pytest.mark.parametrize("forbidden", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_loss_and_gradients_equal_those_of_values(reduction, smoothness, forbidden, masked, monkeypatch):
    hidden, weight, bias = leaves = case(torch.float64)
    if forbidden:
        bias.data[[2, 9]] = -torch.inf
    actions = torch.tensor([0, 3, 3, 10, 1, 0, 7])  # a token twice: its gradients add up
    targets = torch.linspace(-1, 1, 7, dtype=torch.float64)
    mask = torch.tensor([True, True, False, True, True, True, False]) if masked else None
    options = {"mask": mask, "smoothness": smoothness, "reduction": reduction}
    head = Head(hidden, weight, bias, scale=0.7)
    assert moments_pay(head)
    asked = []
    real = softbellman.losses.critic.moments_terms
    monkeypatch.setattr(
        softbellman.losses.critic, "moments_terms", lambda *a, **o: asked.append(1) or real(*a, **o)
    )
    found = critic_loss(head, actions, targets, **options)
    assert asked
    expected = critic_loss(head.logits(), actions, targets, **options)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)
    assert not found.td_error.requires_grad and not found.spread.requires_grad
    for one, other in zip(
        torch.autograd.grad(found.loss.sum(), leaves),
        torch.autograd.grad(expected.loss.sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)


def test_moments_are_taken_where_they_are_exact_and_cheaper():
    hidden, weight, bias = case(torch.float64)
    assert moments_pay(Head(hidden, weight, bias))
    assert not moments_pay(Head(hidden, weight, bias, softcap=3.0))
    assert not moments_pay(Head(hidden[:5], weight, bias))


def test_nothing_cancels_in_single_precision():
    """Values around 1000 that differ by thousandths: squares minus squared means would leave nothing."""
    features, weight, bias = (tensor.detach() for tensor in case(torch.float64))
    weight, bias = weight * 1e-3, bias + 1000.0
    q = features @ weight.t() + bias
    expected = (q - q.mean(1, keepdim=True)).square().sum(1)
    found = vocabulary_spread(features.float(), weight.float(), bias.float())
    exact = vocabulary_spread(features, weight, bias)
    torch.testing.assert_close(exact, expected, rtol=1e-9, atol=0)
    # the bias itself is rounded to 6e-5
    torch.testing.assert_close(found.double(), expected, rtol=2e-3, atol=0)


def test_one_word_has_no_spread():
    features, weight, bias = case(torch.float64, vocabulary=1)
    assert not vocabulary_spread(features, weight, bias).any()
