"""Edit distance and Hamming oracles against the enumeration of every sequence."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from softbellman import optimal_completion_values, soft_target_cross_entropy
from softbellman.oracle import (
    EditAutomaton,
    EditDistanceOracle,
    edit_distance_targets,
    enumerate_oracle,
    hamming_state_values,
    hamming_values,
    maximal_actions,
)

Tokens = tuple[int, ...]
EOS = 0
REFERENCES: list[Tokens] = [(), (1,), (1, 2), (1, 1, 2), (2, 3, 2, 1), (1, 2, 3, 3)]
every_reference = pytest.mark.parametrize("reference", REFERENCES, ids=str)


def edit_distance(one: Tokens, other: Tokens) -> int:
    row = list(range(len(other) + 1))
    for token in one:
        following = [row[0] + 1]
        for j, wanted in enumerate(other, start=1):
            following.append(min(row[j] + 1, following[-1] + 1, row[j - 1] + (token != wanted)))
        row = following
    return row[-1]


@every_reference
@pytest.mark.parametrize("special_ids", [(), (2,)], ids=str)
def test_optimal_values_are_those_of_the_enumeration(reference: Tokens, special_ids: Tokens) -> None:
    """As long as the longest useful completion fits: prefixes of up to 2 tokens, sequences of up to 6."""
    options = {"vocabulary": 4, "eos_id": EOS, "special_ids": special_ids}
    exact = enumerate_oracle(
        lambda tokens: -float(edit_distance(tokens, reference)), max_length=6, tau=0.0, **options
    )
    oracle = EditDistanceOracle(reference, tau=0.0, **options)
    for prefix in exact.problem.states:
        if len(prefix) <= 2:
            assert torch.equal(oracle.q(prefix), exact.q(prefix)), prefix
            assert torch.equal(oracle.policy(prefix), exact.policy(prefix))
            assert oracle.value(prefix) == exact.value(prefix)


@every_reference
@pytest.mark.parametrize("tau", [0.0, 0.2, 1.5])
@pytest.mark.parametrize("special_ids", [(), (3,), (1, 4)], ids=str)
def test_soft_values_are_those_of_the_enumeration(reference: Tokens, tau: float, special_ids: Tokens) -> None:
    options = {"vocabulary": 5, "eos_id": EOS, "max_length": 5, "tau": tau, "special_ids": special_ids}
    exact = enumerate_oracle(lambda tokens: -float(edit_distance(tokens, reference)), **options)  # type: ignore[arg-type]
    oracle = EditAutomaton(reference, **options)  # type: ignore[arg-type]
    for prefix in exact.problem.states[::3]:
        torch.testing.assert_close(oracle.q(prefix), exact.q(prefix), rtol=1e-12, atol=1e-12)
        assert oracle.value(prefix) == pytest.approx(exact.value(prefix), rel=1e-12, abs=1e-12)
    sequence = (*exact.problem.states[-1], EOS)
    assert oracle.log_probability(sequence) == pytest.approx(exact.log_probability(sequence), rel=1e-9)
    if tau > 0:  # Proposition 1, over sequences of every length
        total = sum(
            torch.tensor(oracle.log_probability((*prefix, EOS)), dtype=torch.float64).exp()
            for prefix in exact.problem.states[: 1 + 4 + 16]
        )
        wanted = exact.problem.payoff_distribution(tau)
        places = [exact.problem.position[prefix] for prefix in exact.problem.states[: 1 + 4 + 16]]
        assert float(total) == pytest.approx(float(wanted[places].sum()), rel=1e-9)


def test_a_vocabulary_of_no_others_and_a_large_one() -> None:
    """All tokens in the reference, and 50,000 of which all but two behave alike."""
    oracle = EditAutomaton((1, 2), vocabulary=3, eos_id=0, max_length=3, tau=0.5)
    exact = enumerate_oracle(
        lambda tokens: -float(edit_distance(tokens, (1, 2))), vocabulary=3, eos_id=0, max_length=3, tau=0.5
    )
    for prefix in exact.problem.states:
        torch.testing.assert_close(oracle.q(prefix), exact.q(prefix), rtol=1e-12, atol=1e-12)
    large = EditAutomaton((5, 9), vocabulary=50_000, eos_id=3, max_length=6, tau=0.05)
    policy = large.policy((5,))
    assert policy.sum().item() == pytest.approx(1.0) and policy.argmax().item() == 9
    assert policy[4] == policy[40_000] and large.state_count == 7


def test_the_soft_values_tend_to_the_optimal_ones() -> None:
    options = {"vocabulary": 6, "eos_id": 0}
    best = EditDistanceOracle((1, 2, 2), tau=0.0, **options)
    for tau, difference in ((0.2, 1.1), (0.02, 0.11), (0.002, 0.011)):
        soft = EditAutomaton((1, 2, 2), max_length=9, tau=tau, **options)
        for prefix in product(range(1, 6), repeat=2):
            torch.testing.assert_close(soft.q(prefix), best.q(prefix), rtol=0, atol=difference)


def test_refusals() -> None:
    options = {"vocabulary": 5, "eos_id": 0, "max_length": 8, "tau": 1.0}
    with pytest.raises(ValueError, match="reference must have fewer tokens: 4 give more than 10 edit rows"):
        EditAutomaton((1, 2, 3, 4), **options, max_states=10)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"reference must lie in \[0, 5\), got 7"):
        EditAutomaton((7,), **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reference must not hold the end token 0"):
        EditAutomaton((1, 0), **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_length must be at least 0, got -1"):
        EditAutomaton((1,), **{**options, "max_length": -1})  # type: ignore[arg-type]
    oracle = EditAutomaton((1,), **options, special_ids=(4,))  # type: ignore[arg-type]
    for prefix in ((1,) * 9, (4,), (0,)):
        with pytest.raises(ValueError, match="prefix must hold at most 8 ordinary tokens"):
            oracle.q(prefix)
    with pytest.raises(ValueError, match="hypothesis must not hold the end token 0"):
        EditDistanceOracle((1,), vocabulary=3, eos_id=0, tau=0.0).along((1, 0))


def test_targets_of_a_batch() -> None:
    """softmax(Q / tau) of the operator's values; at tau = 0 the cross entropy of the maximal actions."""
    hypotheses = torch.tensor([[1, 3, 2, 0], [2, 0, 1, 1]])
    references = torch.tensor([[1, 2, 3], [3, 3, 0]])
    options = {"vocabulary": 5, "eos_id": 0, "special_ids": (4,)}
    rows = torch.tensor([0, 1, 2, 3, 4, 5])
    q = optimal_completion_values(hypotheses, references, **options, rows=rows)
    soft = edit_distance_targets(hypotheses, references, tau=0.7, **options, rows=rows)
    torch.testing.assert_close(soft, torch.softmax(q / 0.7, -1))
    hard = edit_distance_targets(hypotheses, references, tau=0.0, **options)
    assert hard.shape == (2, 4, 5)
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    loss = soft_target_cross_entropy(logits, maximal_actions(q), tau=1.0)
    expected = -(hard.view(8, 5)[rows] * torch.log_softmax(logits, -1)).sum(-1)
    torch.testing.assert_close(loss, expected)
    for row, oracle in enumerate([EditDistanceOracle(y, tau=0.0, **options) for y in ((1, 2, 3), (3, 3))]):
        tokens = hypotheses[row].tolist()
        along = oracle.along(tokens[: tokens.index(0)])
        assert torch.equal(along.float(), q[4 * row : 4 * row + len(along)])


@pytest.mark.parametrize("tau", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("special_ids", [(), (1,)], ids=str)
def test_hamming_values_are_those_of_the_enumeration(tau: float, special_ids: Tokens) -> None:
    """A payoff that forbids every other length, so that the end is forced where the reference ends."""
    references = [(2, 1, 3), (3, 3), ()]
    padded = torch.tensor([[2, 1, 3, 0], [3, 3, 0, 2], [0, 1, 1, 1]])
    options = {"vocabulary": 4, "eos_id": EOS, "tau": tau, "special_ids": special_ids}
    q = hamming_values(padded, **options, dtype=torch.float64)
    values = hamming_state_values(padded, **options)
    assert q.shape == (3, 4, 4)
    for row, reference in enumerate(references):
        length = len(reference)

        def payoff(tokens: Tokens, reference: Tokens = reference) -> float:
            return float(sum(one == other for one, other in zip(tokens, reference, strict=False)))

        def ended(tokens: Tokens, length: int = length) -> float:
            return payoff(tokens) if len(tokens) == length else -float("inf")

        exact = enumerate_oracle(payoff, max_length=length, ended_payoff=ended, **options)  # type: ignore[arg-type]
        for prefix in exact.problem.states:
            t = len(prefix)
            torch.testing.assert_close(q[row, t], exact.q(prefix), rtol=1e-12, atol=1e-12)
            assert values[row, t].item() == pytest.approx(exact.value(prefix), rel=1e-12, abs=1e-12)
        assert not q[row, length + 1 :].any() and not values[row, length:].any()


def test_hamming_of_stated_lengths_and_refusals() -> None:
    references, options = torch.tensor([[1, 2, 3], [2, 2, 2]]), {"vocabulary": 50_000, "eos_id": 0}
    lengths = torch.tensor([2, 0])
    values = hamming_state_values(references, **options, tau=0.1, reference_lengths=lengths)
    step = 0.1 * torch.tensor(10.0, dtype=torch.float64).exp().add(49_998).log()
    torch.testing.assert_close(values, torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]]).double() * step)
    q = hamming_values(
        references, **options, tau=1e-6, reference_lengths=lengths
    )  # exp(1 / tau) has no number
    assert q[0, 0, :3].tolist() == [-torch.inf, 2.0, 1.0] and not q[0, 2].any() and not q[1].any()
    with pytest.raises(ValueError, match=r"references must hold ids in \[0, 3\)"):
        hamming_values(references, vocabulary=3, eos_id=0, tau=1.0)
    with pytest.raises(
        ValueError, match="vocabulary must hold a token besides eos_id and special_ids, got 2"
    ):
        hamming_values(references, vocabulary=2, eos_id=0, tau=1.0, special_ids=(1,))
    with pytest.raises(TypeError, match="references must be int64 tokens"):
        hamming_values(references[0], **options, tau=1.0)
    with pytest.raises(ValueError, match=r"reference_lengths must have shape \(2,\), got \(3,\)"):
        hamming_values(references, **options, tau=1.0, reference_lengths=torch.ones(3))
