"""The critic's loss from features equals the one from values, and so do all gradients."""

from __future__ import annotations

import pytest
import torch
from softbellman.objectives.linear_critic import vocabulary_spread

from softbellman.objectives import critic_objective, linear_critic_objective


def case(dtype: torch.dtype, *, rows: int = 7, vocabulary: int = 11, features: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    shapes = ((rows, features), (vocabulary, features), (vocabulary,))
    made = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    made[1] += 3.0  # far from centred
    made[2] += 20.0
    return [tensor.to(dtype).requires_grad_() for tensor in made]


@pytest.mark.parametrize("penalty", ["mean", "sum", "published"])
@pytest.mark.parametrize("smoothness", [0.0, 0.3])
def test_loss_and_gradients_equal_those_of_values(penalty, smoothness):
    features, weight, bias = leaves = case(torch.float64)
    actions = torch.tensor([0, 3, 3, 10, 1, 0, 7])  # a token twice: its gradients add up
    targets = torch.linspace(-1, 1, 7, dtype=torch.float64)
    options = {"sequences": 3, "smoothness": smoothness, "penalty": penalty}
    found = linear_critic_objective(features, weight, bias, actions, targets, **options)
    expected = critic_objective(features @ weight.t() + bias, actions, targets, **options)
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-12, atol=0)
    for name, value in expected.diagnostics.items():
        torch.testing.assert_close(found.diagnostics[name], value, rtol=1e-12, atol=0)
    for one, other in zip(
        torch.autograd.grad(found.loss, leaves), torch.autograd.grad(expected.loss, leaves), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-11)


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
