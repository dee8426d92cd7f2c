"""`soft_bellman_residual` by hand: bootstrapping, the end of a sequence, both gradients."""

from __future__ import annotations

import math

import pytest
import torch

from softbellman import reference, soft_bellman_residual, soft_value

TAU = 0.4


def test_a_sequence_of_three_tokens_by_hand() -> None:
    q = torch.tensor([[[1.0, 2.0], [0.0, 0.0], [3.0, 5.0]]], dtype=torch.float64)
    actions, rewards = torch.tensor([[1, 0, 1]]), torch.tensor([[0.5, 0.25, 0.0]], dtype=torch.float64)
    following = [TAU * math.log(2), 5 + TAU * math.log(1 + math.exp(-2 / TAU)), 0.0]
    expected = [2.0 - 0.5 - following[0], 0.0 - 0.25 - following[1], 5.0]
    residual = soft_bellman_residual(q, actions, rewards, tau=TAU)
    assert residual.squeeze(0).tolist() == pytest.approx(expected, rel=1e-14)


def test_nothing_is_bootstrapped_after_the_last_real_position() -> None:
    q = torch.randn(2, 4, 6, dtype=torch.float64)
    actions, rewards = torch.randint(0, 6, (2, 4)), torch.randn(2, 4, dtype=torch.float64)
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    residual = soft_bellman_residual(q, actions, rewards, mask, tau=TAU)
    short = soft_bellman_residual(q[:1, :2], actions[:1, :2], rewards[:1, :2], tau=TAU)
    assert torch.equal(residual[0, :2], short[0])
    assert residual[0, 2:].tolist() == [0.0, 0.0]


def test_sequences_packed_behind_each_other_are_the_padded_ones() -> None:
    q = torch.randn(3, 4, 6, dtype=torch.float64, requires_grad=True)
    actions, rewards = torch.randint(0, 6, (3, 4)), torch.randn(3, 4, dtype=torch.float64)
    lengths = torch.tensor([2, 4, 1])
    mask = torch.arange(4) < lengths[:, None]
    padded = soft_bellman_residual(q, actions, rewards, mask, tau=TAU)
    weights = torch.rand(3, 4, dtype=torch.float64)
    (wanted,) = torch.autograd.grad((weights * padded)[mask].square().sum(), q)

    terminal = torch.zeros(1, 7, dtype=torch.bool)
    terminal[0, lengths.cumsum(0) - 1] = True
    packed = soft_bellman_residual(
        q[mask][None], actions[mask][None], rewards[mask][None], tau=TAU, terminal=terminal
    )
    (found,) = torch.autograd.grad((weights[mask] * packed[0]).square().sum(), q)
    assert torch.equal(packed[0], padded[mask])
    torch.testing.assert_close(found, wanted, rtol=1e-14, atol=1e-14)


def test_gradcheck_with_ends_within_the_row() -> None:
    q = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
    rewards = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    actions = torch.randint(0, 4, (2, 5))
    terminal = torch.tensor([[False, True, False, False, True], [True, False, False, True, False]])

    def residual(q: torch.Tensor, rewards: torch.Tensor) -> torch.Tensor:
        return soft_bellman_residual(q, actions, rewards, tau=TAU, terminal=terminal)

    assert torch.autograd.gradcheck(residual, (q, rewards))
    torch.testing.assert_close(
        residual(q, rewards),
        reference.soft_bellman_residual(q, actions, rewards, tau=TAU, terminal=terminal),
    )


def test_gradient_runs_through_q_and_through_the_value() -> None:
    q = torch.randn(1, 2, 3, dtype=torch.float64, requires_grad=True)
    residual = soft_bellman_residual(
        q, torch.tensor([[2, 0]]), torch.zeros(1, 2, dtype=torch.float64), tau=TAU
    )
    residual[0, 0].backward()
    assert q.grad is not None
    assert q.grad[0, 0].tolist() == [0.0, 0.0, 1.0]
    torch.testing.assert_close(q.grad[0, 1], -torch.softmax(q[0, 1].detach() / TAU, -1))


def test_it_is_the_difference_of_the_operators_it_is_made_of() -> None:
    q = torch.randn(3, 5, 70)
    actions, rewards = torch.randint(0, 70, (3, 5)), torch.randn(3, 5)
    following = torch.nn.functional.pad(soft_value(q, tau=TAU)[:, 1:], (0, 1))
    expected = q.gather(-1, actions.unsqueeze(-1)).squeeze(-1) - (rewards + following)
    assert torch.equal(soft_bellman_residual(q, actions, rewards, tau=TAU), expected)


def test_two_impossible_sides_agree() -> None:
    q = torch.zeros(1, 2, 3)
    q[0, 0, 1] = -math.inf
    q[0, 1] = -math.inf
    residual = soft_bellman_residual(q, torch.tensor([[1, 0]]), torch.zeros(1, 2), tau=TAU)
    assert residual.tolist() == [[0.0, -math.inf]]


def test_rewards_are_not_written() -> None:
    rewards = torch.ones(1, 2)
    soft_bellman_residual(torch.zeros(1, 2, 3), torch.zeros(1, 2, dtype=torch.int64), rewards, tau=TAU)
    assert rewards.tolist() == [[1.0, 1.0]]


def test_errors_name_the_argument() -> None:
    q, actions, rewards = torch.zeros(2, 3, 5), torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"q must have 3 dimensions, got shape \(6, 5\)"):
        soft_bellman_residual(q.view(6, 5), actions, rewards, tau=TAU)
    with pytest.raises(ValueError, match=r"actions must have shape \(2, 3\).* got \(2, 2\)"):
        soft_bellman_residual(q, actions[:, :2], rewards, tau=TAU)
    with pytest.raises(TypeError, match=r"actions must hold int64 token ids, got torch.int32"):
        soft_bellman_residual(q, actions.int(), rewards, tau=TAU)
    with pytest.raises(TypeError, match=r"rewards must be a floating tensor, got torch.int64"):
        soft_bellman_residual(q, actions, actions, tau=TAU)
    with pytest.raises(ValueError, match="rewards must be on the device of q, cpu, got meta"):
        soft_bellman_residual(q, actions, rewards.to("meta"), tau=TAU)
    with pytest.raises(TypeError, match="terminal must be a bool tensor"):
        soft_bellman_residual(q, actions, rewards, tau=TAU, terminal=rewards)
    for wrong in (-1, 5):
        with pytest.raises(ValueError, match=rf"action.*{wrong}"):
            soft_bellman_residual(q, actions.index_fill(1, torch.tensor(1), wrong), rewards, tau=TAU)
