"""`soft_target_cross_entropy` and `token_cross_entropy` against torch and against each other."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from softbellman import soft_target_cross_entropy, token_cross_entropy

TAU = 0.4


def rows() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(6, 30, generator=generator, dtype=torch.float64)
    q = torch.randn(6, 30, generator=generator, dtype=torch.float64)
    return logits, q, torch.randint(0, 30, (6,), generator=generator)


def test_tokens_agree_with_torch() -> None:
    logits, _, targets = rows()
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(token_cross_entropy(logits, targets), expected)


def test_soft_targets_agree_with_torch() -> None:
    logits, q, _ = rows()
    expected = torch.nn.functional.cross_entropy(logits, torch.softmax(q / TAU, -1), reduction="none")
    torch.testing.assert_close(soft_target_cross_entropy(logits, q, tau=TAU), expected)


@pytest.mark.parametrize("alpha", (0.0, 0.3, 1.0))
def test_the_mixture_is_linear_in_alpha(alpha: float) -> None:
    logits, q, targets = rows()
    expected = alpha * soft_target_cross_entropy(logits, q, tau=TAU)
    expected = expected + (1 - alpha) * token_cross_entropy(logits, targets)
    for weight in (alpha, torch.full((6,), alpha)):
        mixed = soft_target_cross_entropy(logits, q, tau=TAU, targets=targets, oracle_weight=weight)
        torch.testing.assert_close(mixed, expected)


def test_alpha_may_choose_row_by_row() -> None:
    logits, q, targets = rows()
    chosen = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    mixed = soft_target_cross_entropy(logits, q, tau=TAU, targets=targets, oracle_weight=chosen)
    soft, hard = soft_target_cross_entropy(logits, q, tau=TAU), token_cross_entropy(logits, targets)
    torch.testing.assert_close(mixed, torch.where(chosen == 1, soft, hard))


def test_the_policy_of_the_oracle_is_stationary() -> None:
    _, q, _ = rows()
    logits = (q / TAU).requires_grad_()
    soft_target_cross_entropy(logits, q, tau=TAU).sum().backward()
    assert logits.grad is not None
    assert logits.grad.abs().max().item() < 1e-15


def test_q_is_a_constant() -> None:
    logits, q, _ = rows()
    q.requires_grad_()
    soft_target_cross_entropy(logits.requires_grad_(), q, tau=TAU).sum().backward()
    assert q.grad is None


def test_impossible_targets_and_rows() -> None:
    logits = torch.zeros(2, 70)
    logits[0, 3] = -math.inf
    logits[1] = -math.inf
    assert token_cross_entropy(logits, torch.tensor([3, 3])).tolist() == [math.inf, 0.0]
    q = torch.zeros(2, 70)
    assert soft_target_cross_entropy(logits, q, tau=TAU).tolist() == [math.inf, 0.0]
    q[0, 3] = -math.inf
    assert soft_target_cross_entropy(logits, q, tau=TAU)[0].item() == pytest.approx(math.log(69), rel=1e-6)


def test_an_oracle_without_an_opinion_drops_its_part() -> None:
    logits, q, targets = rows()
    mixed = soft_target_cross_entropy(
        logits, torch.full_like(q, -math.inf), tau=TAU, targets=targets, oracle_weight=0.25
    )
    torch.testing.assert_close(mixed, 0.75 * token_cross_entropy(logits, targets))


def test_errors_name_the_argument() -> None:
    logits, q, targets = rows()
    with pytest.raises(ValueError, match="targets must be given unless oracle_weight is 1, got None"):
        soft_target_cross_entropy(logits, q, tau=TAU, oracle_weight=0.5)
    with pytest.raises(ValueError, match="targets must be given unless oracle_weight is 1, got None"):
        soft_target_cross_entropy(logits, q, tau=TAU, oracle_weight=torch.ones(6))
    with pytest.raises(ValueError, match=r"oracle_weight must be between 0 and 1, got 1.5"):
        soft_target_cross_entropy(logits, q, tau=TAU, targets=targets, oracle_weight=1.5)
    with pytest.raises(ValueError, match=r"oracle_weight must have shape \(6,\)"):
        soft_target_cross_entropy(logits, q, tau=TAU, targets=targets, oracle_weight=torch.ones(5))
    with pytest.raises(TypeError, match="q must have the dtype of logits"):
        soft_target_cross_entropy(logits, q.float(), tau=TAU)
    with pytest.raises(TypeError, match=r"targets must hold int64 token ids, got torch.float64"):
        token_cross_entropy(logits, targets.double())
    for wrong in (-1, 30):
        with pytest.raises(ValueError, match=rf"target.*{wrong}"):
            token_cross_entropy(logits, torch.full_like(targets, wrong))
