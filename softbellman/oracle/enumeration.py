"""Exact values of ANY payoff where all sequences can be listed: a few tokens, a few steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
from torch import Tensor

from softbellman.oracle.targets import INFINITY, TokenOracle, state_value

Tokens = tuple[int, ...]
LARGEST = 10**6
"""More prefixes than this are refused."""


@dataclass(frozen=True)
class EnumeratedProblem:
    """All sequences of at most `max_length` tokens, each ended by `eos_id`, and their payoffs.

    Tables have one row for each of the S prefixes (the states), short ones first, and one column for each of the V tokens.
    In a prefix of `max_length` tokens the end is forced.

    Attributes:
        payoff: R of a sequence without its end token; of a prefix, the payoff of ending there, Eq. (4).
        vocabulary: V.
        eos_id: the action that ends a sequence.
        max_length: the most tokens before the end.
        ended_payoff: R of the ended sequence, given its tokens without the end, where it differs from `payoff`: the end then
            earns the difference, Eq. (6), instead of 0.
        special_ids: tokens that are never produced.

    Raises:
        ValueError: more than a million prefixes, an id outside the vocabulary, a negative length.
    """

    payoff: Callable[[Tokens], float]
    vocabulary: int
    eos_id: int
    max_length: int
    ended_payoff: Callable[[Tokens], float] | None = None
    special_ids: Tokens = ()

    def __post_init__(self) -> None:
        if self.max_length < 0:
            raise ValueError(f"max_length must be at least 0, got {self.max_length}")
        for name, ids in (("eos_id", (self.eos_id,)), ("special_ids", self.special_ids)):
            for token in ids:
                if not 0 <= token < self.vocabulary:
                    raise ValueError(f"{name} must lie in [0, {self.vocabulary}), got {token}")
        count = sum(len(self.ordinary) ** length for length in range(self.max_length + 1))
        if count > LARGEST:
            raise ValueError(
                f"vocabulary and max_length must give at most a million prefixes, got {count}: "
                f"{len(self.ordinary)} tokens besides the end, up to {self.max_length} of them"
            )

    @cached_property
    def ordinary(self) -> Tokens:
        """The tokens that go on: all but the end and the special ones."""
        left_out = {self.eos_id, *self.special_ids}
        return tuple(token for token in range(self.vocabulary) if token not in left_out)

    @cached_property
    def states(self) -> tuple[Tokens, ...]:
        """The prefixes, in the order of the tables."""
        return tuple(
            prefix
            for length in range(self.max_length + 1)
            for prefix in product(self.ordinary, repeat=length)
        )

    @cached_property
    def position(self) -> dict[Tokens, int]:
        """Where a prefix stands among the states."""
        return {prefix: index for index, prefix in enumerate(self.states)}

    @cached_property
    def successors(self) -> Tensor:
        """The state that each action leads to, int64, `[S, V]`; -1 for the end and what cannot be done."""
        table = torch.full((len(self.states), self.vocabulary), -1)
        for state, prefix in enumerate(self.states):
            if len(prefix) < self.max_length:
                following = [(*prefix, token) for token in self.ordinary]
                places = [self.position[longer] for longer in following]
                table[state, list(self.ordinary)] = torch.tensor(places, dtype=torch.int64)
        return table

    @cached_property
    def possible(self) -> Tensor:
        """Whether an action can be taken, bool, `[S, V]`."""
        return (self.successors >= 0) | (torch.arange(self.vocabulary) == self.eos_id)

    @cached_property
    def payoffs(self) -> Tensor:
        """R of every prefix, float64, `[S]`."""
        return torch.tensor([self.payoff(prefix) for prefix in self.states], dtype=torch.float64)

    @cached_property
    def ended_payoffs(self) -> Tensor:
        """R of every complete sequence (a prefix and its end), float64, `[S]`."""
        if self.ended_payoff is None:
            return self.payoffs
        return torch.tensor([self.ended_payoff(prefix) for prefix in self.states], dtype=torch.float64)

    @cached_property
    def rewards(self) -> Tensor:
        """`R(y w) - R(y)`, Eq. (13), for the end `R(y eos) - R(y)`, Eq. (6), float64, `[S, V]`; 0 if impossible."""
        table = self.payoffs[self.successors.clamp(min=0)] - self.payoffs[:, None]
        table[:, self.eos_id] = self.ended_payoffs - self.payoffs
        return table.masked_fill(~self.possible, 0.0)

    def optimal_q(self, tau: float) -> Tensor:
        """Q* of Eq. (7), solved from the longest prefixes to the empty one: float64, `[S, V]`, `-inf` if impossible.

        At tau = 0 the optimal values: the largest payoff still to come.
        """
        q = self.rewards.masked_fill(~self.possible, -INFINITY)
        lengths = torch.tensor([len(prefix) for prefix in self.states])
        ordinary = list(self.ordinary)
        for length in reversed(range(self.max_length)):
            (states,) = torch.where(lengths == length)
            following = self.successors[states][:, ordinary]  # (states, ordinary)
            q[states[:, None], ordinary] += state_value(q[following], tau)
        return q

    def payoff_distribution(self, tau: float) -> Tensor:
        """`P_R`, Eq. (1), over the complete sequences, in the order of the states: float64, `[S]`; tau above 0."""
        return torch.softmax(self.ended_payoffs / tau, 0)


class EnumeratedOracle(TokenOracle):
    """The exact oracle of an enumerated problem.

    Attributes:
        problem: the sequences and their payoffs.
        table: `Q*`, float64, `[S, V]`.
    """

    def __init__(self, problem: EnumeratedProblem, tau: float) -> None:
        super().__init__(vocabulary=problem.vocabulary, eos_id=problem.eos_id, tau=tau)
        self.problem = problem
        self.table = problem.optimal_q(self.tau)

    def q(self, prefix: Sequence[int]) -> Tensor:
        """`Q*(prefix, .)`, float64, `[V]`; ValueError for a prefix that cannot be reached."""
        try:
            return self.table[self.problem.position[tuple(prefix)]]
        except KeyError:
            raise ValueError(
                f"prefix must hold at most {self.problem.max_length} ordinary tokens, got {tuple(prefix)}"
            ) from None


def enumerate_oracle(
    payoff: Callable[[Tokens], float],
    *,
    vocabulary: int,
    eos_id: int,
    max_length: int,
    tau: float,
    ended_payoff: Callable[[Tokens], float] | None = None,
    special_ids: Iterable[int] = (),
) -> EnumeratedOracle:
    """Exact soft values of a payoff, at tau = 0 the optimal ones, by listing every sequence.

    Args:
        payoff, vocabulary, eos_id, max_length, ended_payoff, special_ids: see `EnumeratedProblem`.
        tau: at least 0, in the unit of the payoff.

    Example:
        >>> oracle = enumerate_oracle(len, vocabulary=3, eos_id=0, max_length=2, tau=0.0)  # every token earns 1
        >>> oracle.q(()), oracle.value((1,))
        (tensor([0., 2., 2.], dtype=torch.float64), 1.0)
    """
    problem = EnumeratedProblem(payoff, vocabulary, eos_id, max_length, ended_payoff, tuple(special_ids))
    return EnumeratedOracle(problem, tau)
