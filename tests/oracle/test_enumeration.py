"""The enumerated oracle: Proposition 1, the limit of no temperature, and questions it refuses."""

from __future__ import annotations

import doctest
import importlib
import math

import pytest
import torch

from softbellman.oracle import (
    enumerate_oracle,
    kullback_leibler,
    maximal_actions,
    target_distribution,
    total_variation,
)

MODULES = (
    "targets",
    "enumeration",
    "edit_distance",
    "bleu_completion",
    "hamming",
    "edit_automaton",
    "report",
)


def odd_payoff(tokens: tuple[int, ...]) -> float:
    """Nothing a recursion could use: the place of the sequence in a shuffled line."""
    return (hash((tokens, 7)) % 1000) / 500.0 if tokens else 0.0


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_the_docstrings_are_true(module: str) -> None:
    found = importlib.import_module(f"softbellman.oracle.{module}")
    result = doctest.testmod(found, extraglobs={"torch": torch})
    assert result.attempted > 0 and result.failed == 0


@pytest.mark.parametrize("tau", [0.045, 0.5, 3.0])
@pytest.mark.parametrize("special_ids", [(), (0, 3)])
def test_token_policies_multiply_to_the_payoff_distribution(tau: float, special_ids: tuple[int, ...]) -> None:
    oracle = enumerate_oracle(
        odd_payoff, vocabulary=5, eos_id=2, max_length=4, tau=tau, special_ids=special_ids
    )
    expected = oracle.problem.payoff_distribution(tau)
    for prefix, probability in zip(oracle.problem.states[::7], expected[::7].tolist(), strict=True):
        found = oracle.log_probability((*prefix, 2))
        assert found == pytest.approx(math.log(probability), rel=1e-9)
    assert len(oracle.problem.states) == sum((4 - len(special_ids)) ** length for length in range(5))
    payoffs = oracle.problem.ended_payoffs
    assert oracle.value(()) == pytest.approx((tau * torch.logsumexp(payoffs / tau, 0)).item(), rel=1e-12)


def test_without_temperature_the_values_are_the_best() -> None:
    oracle = enumerate_oracle(odd_payoff, vocabulary=4, eos_id=0, max_length=4, tau=0.0)
    for prefix in oracle.problem.states:
        endings = [odd_payoff(other) for other in oracle.problem.states if other[: len(prefix)] == prefix]
        assert oracle.value(prefix) == pytest.approx(max(endings) - odd_payoff(prefix), abs=1e-12)
        policy, q = oracle.policy(prefix), oracle.q(prefix)
        assert policy.sum().item() == pytest.approx(1.0) and bool((q[policy > 0] == q.max()).all())
    cold = enumerate_oracle(odd_payoff, vocabulary=4, eos_id=0, max_length=4, tau=1e-4)
    torch.testing.assert_close(cold.table, oracle.table, rtol=0, atol=1e-3)


def test_the_end_may_earn_a_reward_of_its_own() -> None:
    oracle = enumerate_oracle(
        len, vocabulary=3, eos_id=0, max_length=1, tau=0.0, ended_payoff=lambda tokens: 5.0 - len(tokens)
    )
    assert oracle.q(()).tolist() == [5.0, 4.0, 4.0]  # 1, and 5 - 1 - 1 at the end
    assert oracle.q((1,)).tolist() == [3.0, -math.inf, -math.inf]


def test_refusals() -> None:
    options = {"vocabulary": 4, "eos_id": 0, "max_length": 2, "tau": 1.0}
    oracle = enumerate_oracle(len, **options, special_ids=(3,))  # type: ignore[arg-type]
    for prefix in ((1, 1, 1), (3,), (0,)):
        with pytest.raises(ValueError, match="prefix must hold at most 2 ordinary tokens"):
            oracle.q(prefix)
    for changed, message in (
        ({"max_length": 30}, "vocabulary and max_length must give at most a million prefixes"),
        ({"max_length": -1}, "max_length must be at least 0, got -1"),
        ({"eos_id": 4}, r"eos_id must lie in \[0, 4\), got 4"),
        ({"tau": -1.0}, "tau must be a finite number of at least 0, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            enumerate_oracle(len, **{**options, **changed})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="tau must be a Python number, got str"):
        enumerate_oracle(len, **{**options, "tau": "1"})  # type: ignore[arg-type]
    assert oracle.log_probability((1, 3)) == -math.inf


def test_targets_and_distances() -> None:
    infinity = float("inf")
    q = torch.tensor([[1.0, 2.0, 2.0, -infinity], [-infinity] * 4, [0.0] * 4])
    uniform = torch.tensor([[0.0, 0.5, 0.5, 0.0], [0.0] * 4, [0.25] * 4])
    assert torch.equal(target_distribution(q, 0.0), uniform)
    assert torch.equal(target_distribution(q.bfloat16(), 0.0), uniform)
    assert maximal_actions(q)[1].tolist() == [-infinity] * 4
    soft = target_distribution(q, 2.0)
    torch.testing.assert_close(soft[0], torch.softmax(q[0] / 2.0, 0))
    assert not soft[1].any() and target_distribution(q.double(), 2.0).dtype == torch.float64
    p, other = uniform[0], torch.tensor([0.25, 0.25, 0.5, 0.0])
    assert total_variation(p, other).item() == pytest.approx(0.25)
    assert kullback_leibler(p, other).item() == pytest.approx(0.5 * math.log(2.0))
    assert kullback_leibler(other, p).item() == infinity and kullback_leibler(p, p).item() == 0.0
