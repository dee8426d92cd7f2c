"""`policy_value` on examples worked by hand and its identities with the soft value."""

from __future__ import annotations

import math

import pytest
import torch

from softbellman import policy_value, soft_value


def test_a_policy_of_one_and_three_quarters_by_hand() -> None:
    logits = torch.tensor([math.log(1.0), math.log(3.0)], dtype=torch.float64)
    q = torch.tensor([8.0, 4.0], dtype=torch.float64)
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    result = policy_value(logits, q, tau=0.5)
    assert result.entropy.item() == pytest.approx(entropy, rel=1e-14)
    assert result.value.item() == pytest.approx(5.0 + 0.5 * entropy, rel=1e-14)


def test_the_soft_optimal_policy_is_worth_the_soft_value() -> None:
    q, tau = torch.randn(7, 50, dtype=torch.float64), 0.3
    torch.testing.assert_close(
        policy_value(q / tau, q, tau=tau).value, soft_value(q, tau=tau), rtol=1e-13, atol=0
    )


def test_no_policy_is_worth_more_than_the_soft_value() -> None:
    q, tau = torch.randn(50, 20, dtype=torch.float64), 0.3
    assert (policy_value(torch.randn_like(q), q, tau=tau).value < soft_value(q, tau=tau)).all()


def test_an_impossible_token_contributes_nothing_whatever_its_q() -> None:
    logits = torch.tensor([[0.0, -math.inf, 0.0]])
    for q in (-math.inf, 1e30, -1e30):
        result = policy_value(logits, torch.tensor([[1.0, q, 2.0]]), tau=0.0)
        assert result.value.item() == pytest.approx(1.5)
        assert result.entropy.item() == pytest.approx(math.log(2))


def test_a_policy_without_a_token_gives_zeros() -> None:
    logits = torch.full((1, 70), -math.inf, requires_grad=True)
    q = torch.randn(1, 70, requires_grad=True)
    value, entropy = policy_value(logits, q, tau=0.5)
    (value + entropy).backward(torch.ones(1))
    assert (value.item(), entropy.item()) == (0.0, 0.0)
    assert logits.grad is not None and not logits.grad.any()
    assert q.grad is not None and not q.grad.any()


def test_entropy_of_a_uniform_policy_over_a_large_vocabulary() -> None:
    result = policy_value(torch.full((2, 50257), 3.0), torch.zeros(2, 50257), tau=1.0)
    assert result.entropy.tolist() == pytest.approx([math.log(50257)] * 2, rel=1e-6)


@pytest.mark.parametrize("wanted", ("logits", "q"))
def test_a_gradient_that_is_not_needed_is_not_computed(wanted: str) -> None:
    rows = {"logits": torch.randn(3, 5), "q": torch.randn(3, 5)}
    rows[wanted].requires_grad_()
    policy_value(**rows, tau=0.5).value.sum().backward()
    assert [name for name, row in rows.items() if row.grad is not None] == [wanted]


def test_the_entropy_alone_can_be_differentiated() -> None:
    logits, q = torch.randn(3, 5, requires_grad=True), torch.randn(3, 5, requires_grad=True)
    policy_value(logits, q, tau=0.5).entropy.sum().backward()
    expected = logits.detach().requires_grad_()
    torch.distributions.Categorical(logits=expected).entropy().sum().backward()
    assert logits.grad is not None and expected.grad is not None
    torch.testing.assert_close(logits.grad, expected.grad)
    assert q.grad is None or not q.grad.any()


def test_errors_name_the_argument() -> None:
    logits = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"q must have the shape of logits, \(2, 3\), got \(2, 4\)"):
        policy_value(logits, torch.zeros(2, 4), tau=0.5)
    with pytest.raises(TypeError, match=r"q must have the dtype of logits, torch.float32, got torch.bf"):
        policy_value(logits, logits.bfloat16(), tau=0.5)
    with pytest.raises(ValueError, match=r"tau must be 0 or between 1e-30 and 1e30, got -0.5"):
        policy_value(logits, logits, tau=-0.5)
    with pytest.raises(ValueError, match=r"mask must have shape \(2,\)"):
        policy_value(logits, logits, tau=0.5, mask=torch.ones(2, 3, dtype=torch.bool))
