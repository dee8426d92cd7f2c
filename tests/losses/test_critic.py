"""`critic_loss` on examples worked by hand, and a spread that does not cancel."""

from __future__ import annotations

import pytest
import torch

from softbellman import critic_loss


def test_three_tokens_by_hand() -> None:
    q = torch.tensor([[1.0, 2.0, 6.0]], dtype=torch.float64, requires_grad=True)
    loss, td_error, spread = critic_loss(
        q, torch.tensor([2]), torch.tensor([4.0], dtype=torch.float64), smoothness=0.5
    )
    assert (td_error.item(), spread.item(), loss.item()) == (2.0, 14.0, 11.0)
    loss.backward()
    assert q.grad is not None
    assert q.grad.tolist() == [[-2.0, -1.0, 3.0 + 4.0]]


def test_only_the_loss_carries_a_graph() -> None:
    q = torch.randn(3, 5, requires_grad=True)
    result = critic_loss(q, torch.zeros(3, dtype=torch.int64), torch.zeros(3, requires_grad=True))
    assert [part.requires_grad for part in result] == [True, False, False]


def test_targets_are_constants() -> None:
    q, targets = torch.randn(3, 5, requires_grad=True), torch.zeros(3, requires_grad=True)
    critic_loss(q, torch.zeros(3, dtype=torch.int64), targets).loss.sum().backward()
    assert targets.grad is None


@pytest.mark.parametrize("offset", (0.0, 30.0, 1e4))
def test_a_small_spread_far_from_zero_does_not_cancel(offset: float) -> None:
    generator = torch.Generator().manual_seed(5)
    q = (offset + 0.03 * torch.randn(3, 8191, generator=generator)).float()
    spread = critic_loss(q, torch.zeros(3, dtype=torch.int64), torch.zeros(3), smoothness=1.0).spread
    exact = q.double().var(-1, correction=0) * 8191
    torch.testing.assert_close(spread.double(), exact, rtol=1e-4, atol=0)


def test_one_token_has_no_spread() -> None:
    q = torch.randn(4, 1)
    assert (
        critic_loss(q, torch.zeros(4, dtype=torch.int64), torch.zeros(4), smoothness=1.0).spread.tolist()
        == [0.0] * 4
    )


def test_an_impossible_token_is_left_out_of_the_spread() -> None:
    q = torch.tensor([[1.0, -torch.inf, 3.0]], requires_grad=True)
    result = critic_loss(q, torch.tensor([0]), torch.tensor([1.0]), smoothness=1.0)
    result.loss.backward(torch.ones(1))
    assert result.spread.item() == 2.0
    assert q.grad is not None and q.grad.tolist() == [[-2.0, 0.0, 2.0]]


def test_errors_name_the_argument() -> None:
    q, actions, targets = torch.zeros(2, 5), torch.zeros(2, dtype=torch.int64), torch.zeros(2)
    with pytest.raises(ValueError, match=r"targets must have shape \(2,\).* got \(2, 5\)"):
        critic_loss(q, actions, q)
    with pytest.raises(ValueError, match="smoothness must be a finite number of at least 0, got -1"):
        critic_loss(q, actions, targets, smoothness=-1.0)
    for wrong in (-1, 5):
        with pytest.raises(ValueError, match=rf"action.*{wrong}"):
            critic_loss(q, actions + wrong, targets)
    critic_loss(q, actions - 1, targets, torch.zeros(2, dtype=torch.bool))  # an id nobody reads
