"""Decoding by `log p + gamma Q`, against plain beam search and on problems that can be enumerated."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
from torch import Tensor, nn

from softbellman.data import BOS, EOS
from softbellman.decoding import ActionValue, Guided, LastScore, beam_search

WORDS, LONGEST = 6, 4  # two words beside the reserved ids
TOKENS = (EOS, 4, 5)
Sequence = tuple[int, ...]


class Table(nn.Module):
    """Numbers of (source, prefix), looked up."""

    def __init__(self, rows: dict[tuple[int, Sequence], list[float]]) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, source: Tensor, prefix: Tensor) -> Tensor:
        count = len(prefix) // len(source)
        found = []
        for row, tokens in enumerate(prefix.tolist()):
            number = int(source[row // count, 0])
            places = [(number, tuple(tokens[1 : end + 1])) for end in range(len(tokens))]
            found.append([self.rows.get(place, [0.0] * WORDS) for place in places])
        return torch.tensor(found, dtype=torch.float64)


class Problem:
    """Random policies and payoffs of all sentences of up to three words, for some sources."""

    def __init__(self, seed: int, sources: int = 8) -> None:
        draw = random.Random(seed)
        self.sources = torch.arange(sources)[:, None]
        self.prefixes = [one for length in range(LONGEST) for one in itertools.product((4, 5), repeat=length)]
        self.payoff = {(n, one): draw.uniform(0, 5) for n in range(sources) for one in self.prefixes}
        logits = {}
        for key in self.payoff:
            row = [0.0] * WORDS
            for token in TOKENS:
                row[token] = draw.gauss(0, 1) if token == EOS or len(key[1]) < LONGEST - 1 else float("-inf")
            logits[key] = row
        self.policy = Table(logits)

    def values(self, *, optimal: bool) -> Table:
        """The payoff of the whole sentence after each token: of the best one, or the mean of what the policy says."""
        rows: dict[tuple[int, Sequence], list[float]] = {}

        def value(key: tuple[int, Sequence]) -> float:
            number, prefix = key
            q = [0.0] * WORDS
            q[EOS] = self.payoff[key]
            if len(prefix) < LONGEST - 1:
                for word in (4, 5):
                    q[word] = value((number, (*prefix, word)))
            rows[key] = q
            tokens = [EOS, 4, 5] if len(prefix) < LONGEST - 1 else [EOS]
            if optimal:
                return max(q[token] for token in tokens)
            chances = torch.tensor([self.policy.rows[key][token] for token in tokens]).softmax(0)
            return float(sum(chance * q[token] for chance, token in zip(chances, tokens, strict=True)))

        for number in self.sources.flatten().tolist():
            value((number, ()))
        return Table(rows)

    def earned(self, model: LastScore | nn.Module, beam: int) -> list[float]:
        found = beam_search(model, self.sources, beam=beam, max_length=LONGEST)
        said = [
            tuple(row[: length - 1])
            for row, length in zip(found.tokens.tolist(), found.lengths.tolist(), strict=True)
        ]
        return [self.payoff[number, one] for number, one in enumerate(said)]


@pytest.mark.parametrize("beam", [1, 2, 4])
def test_gamma_zero_is_the_actor_s_own_search(beam: int) -> None:
    for seed in range(4):
        problem = Problem(seed)
        guided = LastScore(
            Guided(problem.policy, problem.values(optimal=True), gamma=0.0, forbidden=(0, 1, 2)),
            comparable=True,
        )
        own = beam_search(problem.policy, problem.sources, beam=beam, max_length=LONGEST)
        found = beam_search(guided, problem.sources, beam=beam, max_length=LONGEST)
        assert torch.equal(found.tokens, own.tokens)
        torch.testing.assert_close(found.scores, own.scores)


def test_scores_are_the_log_probability_of_the_prefix_and_the_last_value() -> None:
    problem, gamma = Problem(9), 0.7
    values = problem.values(optimal=False)
    guided = LastScore(Guided(problem.policy, values, gamma=gamma, forbidden=(0, 1, 2)), comparable=True)
    found = beam_search(guided, problem.sources, beam=3, max_length=LONGEST)
    for number in range(len(problem.sources)):
        tokens = found.tokens[number, : found.lengths[number]].tolist()
        total = 0.0
        for step, token in enumerate(tokens):
            row = torch.tensor(problem.policy.rows[number, tuple(tokens[:step])])
            allowed = torch.full((WORDS,), -torch.inf).scatter(0, torch.tensor(TOKENS), row[list(TOKENS)])
            total += float(allowed.log_softmax(0)[token])
        total += gamma * values.rows[number, tuple(tokens[:-1])][tokens[-1]]
        assert float(found.scores[number]) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("beam", [1, 3])
def test_exact_values_improve_the_payoff(beam: int) -> None:
    """A large weight finds the best sentence of every source; the policy's own values make sentences better in the mean."""
    for seed in range(3):
        problem = Problem(seed, sources=20)
        best = LastScore(
            Guided(problem.policy, problem.values(optimal=True), gamma=1e4, forbidden=(0, 1, 2)),
            comparable=True,
        )
        wanted = [max(problem.payoff[number, one] for one in problem.prefixes) for number in range(20)]
        assert problem.earned(best, beam) == pytest.approx(wanted)
        own = problem.earned(problem.policy, beam)
        mild = LastScore(
            Guided(problem.policy, problem.values(optimal=False), gamma=1.0, forbidden=(0, 1, 2)),
            comparable=True,
        )
        assert sum(problem.earned(mild, beam)) > sum(own)
        assert sum(wanted) > sum(own)


def test_the_weight_is_kept_with_the_values() -> None:
    problem = Problem(2)
    value = ActionValue(problem.values(optimal=True))
    guided = value.guide(problem.policy, forbidden=(0, 1, 2))
    plain = problem.earned(problem.policy, 2)
    assert problem.earned(guided, 2) == plain
    value.gamma.fill_(50.0)
    assert sum(problem.earned(guided, 2)) > sum(plain)
    assert float(value.state_dict()["gamma"]) == 50.0
    prefix = torch.tensor([[BOS, 4]])
    assert torch.equal(value(problem.sources[:1], prefix), value.network(problem.sources[:1], prefix))
