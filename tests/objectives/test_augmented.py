"""RAML, VAML and soft Q-learning as objectives, by hand; tests/reference/test_exact_augmented.py enumerates."""

from __future__ import annotations

import math

import pytest
import torch

from softbellman.objectives import oracle_distillation, soft_q_objective, weighted_likelihood

TAU = 0.4


def test_a_row_that_does_not_count_lends_its_value_alone() -> None:
    q = torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, 3.0]], dtype=torch.float64)
    actions, rewards = torch.tensor([1, 0, 0]), torch.tensor([0.5, 0.0, 0.0], dtype=torch.float64)
    found = soft_q_objective(
        q,
        actions,
        rewards,
        sequences=1,
        tau=1.0,
        terminal=torch.tensor([False, False, True]),
        counted=torch.tensor([True, True, False]),
    )
    first = 2.0 - 0.5 - math.log(2)
    second = 0.0 - (3.0 + math.log(2))  # the end token bootstraps from the padding state
    assert found.loss.item() == pytest.approx(first**2 + second**2)
    assert found.diagnostics["td_error"].item() == pytest.approx(abs(first) + abs(second))


def test_packed_rows_need_their_ends() -> None:
    rows = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="terminal must be given"):
        soft_q_objective(rows, torch.zeros(2, dtype=torch.int64), torch.zeros(2), sequences=1, tau=1.0)


def test_shares_and_weights_by_hand() -> None:
    logits = torch.tensor([[0.0, 1.0], [2.0, 0.0]], dtype=torch.float64)
    q = torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    labels, weights = torch.tensor([1, 0]), torch.tensor([0.25, 0.75], dtype=torch.float64)
    log_policy = torch.log_softmax(logits, -1)
    oracle = torch.softmax(q / TAU, -1)
    likelihood = -(weights * log_policy.gather(1, labels[:, None]).squeeze(1)).sum()
    distilled = -(weights * (oracle * log_policy).sum(1)).sum()

    raml = weighted_likelihood(logits, labels, weights, sources=2)
    assert raml.loss.item() == pytest.approx(likelihood.item() / 2)
    assert raml.diagnostics["cross_entropy"].item() == pytest.approx(likelihood.item())
    assert raml.diagnostics["weight"].item() == pytest.approx(1.0)
    vaml = oracle_distillation(logits, q, weights, sources=2, tau=TAU)
    assert vaml.loss.item() == pytest.approx(distilled.item() / 2)
    mixed = oracle_distillation(logits, q, weights, sources=2, tau=TAU, labels=labels, oracle_share=0.2)
    assert mixed.loss.item() == pytest.approx((0.2 * distilled + 0.8 * likelihood).item() / 2)
    one_of_two = torch.tensor([1.0, 0.0], dtype=torch.float64)
    split = oracle_distillation(
        logits, q, weights, sources=2, tau=TAU, labels=labels, oracle_share=one_of_two
    )
    by_row = -weights * torch.where(
        one_of_two.bool(), (oracle * log_policy).sum(1), log_policy.gather(1, labels[:, None]).squeeze(1)
    )
    assert split.loss.item() == pytest.approx(by_row.sum().item() / 2)
