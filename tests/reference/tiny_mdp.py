"""Sequence problems small enough to enumerate (`softbellman.oracle.EnumeratedProblem`), as the tests use them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from softbellman.oracle import EnumeratedProblem

Sequence = tuple[int, ...]
EOS = 0
INFINITY = float("inf")


class TinyMDP(EnumeratedProblem):
    """Sequences of at most `horizon` tokens that end with EOS, the last of them forced.

    S prefixes (the states), N complete sequences (a prefix and EOS each, so N = S), V tokens, T = horizon. Tables are [S, V];
    an impossible action, any token but EOS in the last step, has the value `-inf`.
    """

    @property
    def horizon(self) -> int:
        return self.max_length + 1

    def future(self, values: Tensor) -> Tensor:
        """[S, V], the value [S] of the state each action leads to; 0 after EOS (equation 6)."""
        return torch.where(self.successors >= 0, values[self.successors.clamp(min=0)], 0.0)

    def sequences(self) -> tuple[Tensor, Tensor, Tensor]:
        """All N complete sequences: state and token of each step and the mask of real steps, all [N, T]."""
        shape = (len(self.states), self.horizon)
        states, tokens = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
        mask = torch.zeros(shape, dtype=torch.bool)
        for row, prefix in enumerate(self.states):  # a complete sequence is a prefix and EOS
            for step, token in enumerate((*prefix, EOS)):
                states[row, step] = self.position[prefix[:step]]
                tokens[row, step], mask[row, step] = token, True
        return states, tokens, mask

    def sequence_distribution(self, logits: Tensor) -> Tensor:
        """[N], the product of softmax(logits) [S, V] along every complete sequence."""
        states, tokens, mask = self.sequences()
        steps = torch.log_softmax(logits, -1)[states, tokens]
        return steps.masked_fill(~mask, 0.0).sum(-1).exp()


def build(vocabulary: int, horizon: int, payoff: Callable[[Sequence], float]) -> TinyMDP:
    """`payoff` is R of a prefix, with or without EOS: all prefixes of at most horizon - 1 tokens other than EOS."""
    mdp = TinyMDP(payoff, vocabulary, EOS, horizon - 1, ended_payoff=lambda prefix: payoff((*prefix, EOS)))
    for (
        prefix
    ) in mdp.states:  # a payoff that draws its numbers when it is asked is always asked in this order
        for token in range(vocabulary):
            payoff((*prefix, token))
        payoff(prefix)
    return mdp


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
