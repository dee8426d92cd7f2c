"""`actor_loss`: the sign, the three entropies, and q as a constant."""

from __future__ import annotations

import math

import pytest
import torch

from softbellman import actor_loss, policy_value

TAU = 0.25


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(4, 30, generator=generator, dtype=torch.float64)
    return logits.requires_grad_(), torch.randn(4, 30, generator=generator, dtype=torch.float64)


def test_the_loss_is_minus_the_value_of_the_policy() -> None:
    logits, q = rows()
    expected = policy_value(logits, q, tau=TAU)
    loss, entropy = actor_loss(logits, q, tau=TAU)
    assert torch.equal(loss, -expected.value)
    assert torch.equal(entropy, expected.entropy)


def test_without_entropy_the_gradient_is_that_of_the_expected_q() -> None:
    logits, q = rows()
    actor_loss(logits, q, tau=TAU, entropy="none").loss.sum().backward()
    policy = torch.softmax(logits.detach(), -1)
    advantage = q - (policy * q).sum(-1, keepdim=True)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, -policy * advantage)


def test_the_normalized_entropy_is_divided_by_the_norm_of_log_pi() -> None:
    logits, q = rows()
    log_policy = torch.log_softmax(logits.detach(), -1)
    weight = TAU / (1e-8 + log_policy.norm(dim=-1))
    entropy = -(log_policy.exp() * log_policy).sum(-1)
    expected = -((log_policy.exp() * q).sum(-1) + weight * entropy)
    torch.testing.assert_close(actor_loss(logits, q, tau=TAU, entropy="normalized").loss.detach(), expected)


def test_a_zero_advantage_is_stationary() -> None:
    q = torch.randn(4, 30, dtype=torch.float64)
    logits = (q / TAU).requires_grad_()
    actor_loss(logits, q, tau=TAU).loss.sum().backward()
    assert logits.grad is not None
    assert logits.grad.abs().max().item() < 1e-14


def test_q_is_a_constant() -> None:
    logits, q = rows()
    q.requires_grad_()
    actor_loss(logits, q, tau=TAU).loss.sum().backward()
    assert q.grad is None


def test_a_masked_row_has_no_loss_and_no_gradient() -> None:
    logits, q = rows()
    mask = torch.tensor([True, False, True, False])
    loss = actor_loss(logits, q, tau=TAU, mask=mask).loss
    loss.sum().backward()
    assert logits.grad is not None
    assert (loss != 0).tolist() == mask.tolist()
    assert logits.grad.any(-1).tolist() == mask.tolist()


def test_errors_name_the_argument() -> None:
    logits, q = rows()
    with pytest.raises(ValueError, match="entropy must be one of 'exact', 'normalized', 'none', got 'exakt'"):
        actor_loss(logits, q, tau=TAU, entropy="exakt")
    with pytest.raises(ValueError, match="tau must be 0 or between 1e-30 and 1e30, got nan"):
        actor_loss(logits, q, tau=math.nan)
