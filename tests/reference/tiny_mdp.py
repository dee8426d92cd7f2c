"""A sequence problem small enough to enumerate: its prefixes, its sequences, their payoffs, the exact Q*."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from softbellman import soft_value

Sequence = tuple[int, ...]
EOS = 0
INFINITY = float("inf")


@dataclass(frozen=True)
class TinyMDP:
    """Sequences of at most `horizon` tokens that end with EOS, the last of them forced.

    S prefixes (the states), N complete sequences, V tokens, T = horizon. Tables are [S, V]; an impossible
    action, any token but EOS in the last step, has the value `-inf`.
    """

    vocabulary: int
    horizon: int
    payoff: Callable[[Sequence], float]  # R of a prefix, with or without EOS
    states: tuple[Sequence, ...]  # prefixes without EOS, short ones first

    @property
    def possible(self) -> Tensor:
        """[S, V], whether the action exists."""
        last = torch.tensor([len(state) == self.horizon - 1 for state in self.states])
        ends = torch.arange(self.vocabulary) == EOS
        return ends | ~last.unsqueeze(-1)

    @property
    def rewards(self) -> Tensor:
        """[S, V], `R(y + w) - R(y)` (equation 13), 0 where the action does not exist."""
        table = [
            [self.payoff((*state, token)) - self.payoff(state) for token in range(self.vocabulary)]
            for state in self.states
        ]
        return torch.tensor(table, dtype=torch.float64).masked_fill(~self.possible, 0.0)

    def next_states(self, state: int) -> list[int]:
        """Positions of `y + w` for every w but EOS, which has no successor."""
        return [self.states.index((*self.states[state], token)) for token in range(1, self.vocabulary)]

    def future(self, values: Tensor) -> Tensor:
        """[S, V], the value [S] of the state each action leads to; 0 after EOS (equation 6)."""
        table = torch.zeros(len(self.states), self.vocabulary, dtype=values.dtype)
        for state, prefix in enumerate(self.states):
            if len(prefix) < self.horizon - 1:
                table[state, 1:] = values[self.next_states(state)]
        return table

    def optimal_q(self, tau: float) -> Tensor:
        """Q* [S, V] by the recursion of equation 7 solved from the longest prefixes to the empty one."""
        q = self.rewards.masked_fill(~self.possible, -INFINITY)
        for state in reversed(range(len(self.states))):
            if len(self.states[state]) < self.horizon - 1:
                q[state, 1:] += soft_value(q[self.next_states(state)], tau=tau)
        return q

    def sequences(self) -> tuple[Tensor, Tensor, Tensor]:
        """All N complete sequences: state and token of each step and the mask of real steps, all [N, T]."""
        shape = (len(self.states), self.horizon)
        states, tokens = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
        mask = torch.zeros(shape, dtype=torch.bool)
        for row, prefix in enumerate(self.states):  # a complete sequence is a prefix and EOS
            for step, token in enumerate((*prefix, EOS)):
                states[row, step] = self.states.index(prefix[:step])
                tokens[row, step], mask[row, step] = token, True
        return states, tokens, mask

    def payoff_distribution(self, tau: float) -> Tensor:
        """`P_R` [N] over the complete sequences (equation 1)."""
        payoffs = torch.tensor([self.payoff((*prefix, EOS)) for prefix in self.states], dtype=torch.float64)
        return torch.softmax(payoffs / tau, 0)

    def sequence_distribution(self, logits: Tensor) -> Tensor:
        """[N], the product of softmax(logits) [S, V] along every complete sequence."""
        states, tokens, mask = self.sequences()
        steps = torch.log_softmax(logits, -1)[states, tokens]
        return steps.masked_fill(~mask, 0.0).sum(-1).exp()


def build(vocabulary: int, horizon: int, payoff: Callable[[Sequence], float]) -> TinyMDP:
    """All prefixes of at most horizon - 1 tokens other than EOS."""
    states = tuple(
        prefix for length in range(horizon) for prefix in product(range(1, vocabulary), repeat=length)
    )
    return TinyMDP(vocabulary, horizon, payoff, states)


def random_payoff(seed: int) -> Callable[[Sequence], float]:
    """An independent number for every prefix, with EOS or without: EOS earns a reward of its own."""
    generator = torch.Generator().manual_seed(seed)
    table: dict[Sequence, float] = {(): 0.0}

    def payoff(sequence: Sequence) -> float:
        if sequence not in table:
            table[sequence] = float(torch.randn((), generator=generator, dtype=torch.float64))
        return table[sequence]

    return payoff


def bleu_like_payoff(reference: Sequence) -> Callable[[Sequence], float]:
    """Clipped unigram and bigram precision with a brevity penalty; EOS, not counted, earns 0 (equation 4)."""

    def payoff(sequence: Sequence) -> float:
        words = tuple(token for token in sequence if token != EOS)
        score = 0.0
        for order in (1, 2):
            grams = [words[i : i + order] for i in range(len(words) - order + 1)]
            known = [reference[i : i + order] for i in range(len(reference) - order + 1)]
            matches = sum(min(grams.count(gram), known.count(gram)) for gram in set(grams))
            score += (matches + 1) / (len(grams) + 1) / 2
        return score * min(1.0, len(words) / len(reference)) * len(reference)

    return payoff
