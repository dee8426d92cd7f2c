"""Exact SOFT values of the edit distance for short references, at any size of the vocabulary.

The payoff to come from a prefix depends on the prefix through its edit row alone, and only through the row's differences:
adding a constant to a row shifts the payoff of the prefix and of all its continuations alike. The rows that can occur, less
their last entry, are the states of a finite automaton. All tokens that the reference does not hold lead to the same state, so
a step has one edge for each distinct token of the reference and one for the class of the others, with the number of its
tokens. Backwards over the remaining length n (Eq. (7); the sum over completions needs a limit on their length):

    V_0(row) = 0,   V_n(row) = tau log [1 + sum_edges multiplicity * exp((last - last' + V_{n-1}(row')) / tau)]

where last = row[L], the 1 is the end token, which earns 0, and at n = 0 the end is forced. The number of states grows
exponentially in L (39,379 rows for 11 distinct tokens, 2.6 times as many with each further one); the vocabulary costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from softbellman.oracle.targets import INFINITY, TokenOracle

Row = tuple[int, ...]


class EditAutomaton(TokenOracle):
    """Soft values of the payoff `R(y) = -d(y, y*)`, at tau = 0 the optimal ones.

    Args:
        reference: token ids of y*, without the end.
        vocabulary: V.
        eos_id: the action that ends a sequence.
        max_length: the most tokens before the end, which is then forced.
        tau: at least 0, in tokens.
        special_ids: tokens that are never produced.
        max_states: more rows than this are refused with a ValueError.

    Example:
        >>> oracle = EditAutomaton([5, 6], vocabulary=32000, eos_id=3, max_length=4, tau=0.05)
        >>> oracle.policy([5])[[3, 5, 6]]  # the end, 5 again, 6
        tensor([2.0607e-09, 4.1219e-09, 9.9987e-01], dtype=torch.float64)
    """

    def __init__(
        self,
        reference: Sequence[int],
        *,
        vocabulary: int,
        eos_id: int,
        max_length: int,
        tau: float,
        special_ids: Iterable[int] = (),
        max_states: int = 200_000,
    ) -> None:
        super().__init__(vocabulary=vocabulary, eos_id=eos_id, tau=tau)
        if max_length < 0:
            raise ValueError(f"max_length must be at least 0, got {max_length}")
        self.reference, self.max_length = tuple(reference), max_length
        self.special_ids = tuple(special_ids)
        left_out = {eos_id, *self.special_ids}
        for name, ids in (("reference", self.reference), ("eos_id and special_ids", tuple(left_out))):
            for token in ids:
                if not 0 <= token < vocabulary:
                    raise ValueError(f"{name} must lie in [0, {vocabulary}), got {token}")
        if eos_id in self.reference:
            raise ValueError(f"reference must not hold the end token {eos_id}")
        # the edges: the distinct tokens of the reference, then the class of all others (None)
        self._tokens = tuple(token for token in dict.fromkeys(self.reference) if token not in left_out)
        others = vocabulary - len(left_out) - len(self._tokens)
        self._symbols: tuple[int | None, ...] = (*self._tokens, *([None] if others else []))
        multiplicity = [1.0] * len(self._tokens) + [float(others)] * bool(others)
        self._multiplicity = torch.tensor(multiplicity, dtype=torch.float64)
        self._states = self._explore(max_states)
        self._values = self._solve()

    @property
    def state_count(self) -> int:
        """How many different rows there are."""
        return len(self._states)

    def q(self, prefix: Sequence[int]) -> Tensor:
        """`Q(prefix, .)`, float64, `[V]`; ValueError for a prefix that cannot be reached."""
        if len(prefix) > self.max_length or {self.eos_id, *self.special_ids} & set(prefix):
            raise ValueError(
                f"prefix must hold at most {self.max_length} ordinary tokens, got {list(prefix)}"
            )
        left = self.max_length - len(prefix)
        row: Row = tuple(range(len(self.reference) + 1))
        for token in prefix:
            row = self._advance(row, token if token in self._tokens else None)
        q = torch.full((self.vocabulary,), -INFINITY, dtype=torch.float64)
        if left > 0:
            values = self._edge_values(torch.tensor([self._states[_shape(row)]]), left)[0]
            q[:] = values[-1] if len(self._symbols) > len(self._tokens) else -INFINITY
            q[list(self._tokens)] = values[: len(self._tokens)]
            q[list(self.special_ids)] = -INFINITY
        q[self.eos_id] = 0.0
        return q

    def _advance(self, row: Row, symbol: int | None) -> Row:
        following = [row[0] + 1]
        for j, wanted in enumerate(self.reference, start=1):
            following.append(min(row[j] + 1, following[-1] + 1, row[j - 1] + (symbol != wanted)))
        return tuple(following)

    def _explore(self, max_states: int) -> dict[Row, int]:
        """The rows within `max_length` steps, less their last entry; sets the edges `[S, C]`: next state, reward."""
        start = _shape(tuple(range(len(self.reference) + 1)))
        states, frontier = {start: 0}, [start]
        following: list[list[int]] = []
        rewards: list[list[int]] = []
        depth: list[int] = [0]
        for row in frontier:  # grows while it is walked
            nexts, earned = [], []
            for symbol in self._symbols if depth[states[row]] < self.max_length else ():
                advanced = self._advance(row, symbol)
                shape = _shape(advanced)
                if shape not in states:
                    if len(states) == max_states:
                        raise ValueError(
                            f"reference must have fewer tokens: {len(self.reference)} give more than "
                            f"{max_states} edit rows"
                        )
                    states[shape] = len(states)
                    depth.append(depth[states[row]] + 1)
                    frontier.append(shape)
                nexts.append(states[shape])
                earned.append(-advanced[-1])  # the row's own last entry is 0
            following.append(
                nexts or [0] * len(self._symbols)
            )  # a row at the last step is never asked for its edges
            rewards.append(earned or [0] * len(self._symbols))
        shape_of_edges = (len(states), len(self._symbols))
        self._following = torch.tensor(following, dtype=torch.int64).reshape(shape_of_edges)
        self._rewards = torch.tensor(rewards, dtype=torch.float64).reshape(shape_of_edges)
        return states

    def _solve(self) -> list[Tensor]:
        """V_n of every state, `[S]` for n = 0 .. max_length."""
        values = [torch.zeros(len(self._states), dtype=torch.float64)]
        self._values = values
        everything = torch.arange(len(self._states))
        weights = torch.cat([self._multiplicity, torch.ones(1)]).log()  # edges, then the end
        for left in range(1, self.max_length + 1):
            q = torch.nn.functional.pad(self._edge_values(everything, left), (0, 1))
            soft = self.tau * torch.logsumexp(q / self.tau + weights, -1) if self.tau > 0 else q.amax(-1)
            values.append(soft)
        return values

    def _edge_values(self, states: Tensor, left: int) -> Tensor:
        """Q of every edge with `left` tokens to go: `[len(states), C]`."""
        return self._rewards[states] + self._values[left - 1][self._following[states]]


def _shape(row: Row) -> Row:
    return tuple(entry - row[-1] for entry in row)
