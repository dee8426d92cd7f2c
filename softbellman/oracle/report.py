"""What the exact oracle says along a hypothesis, beside what others say: records for a table, JSON and a figure.

Notation: P positions (the tokens of the hypothesis and the place behind them), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softbellman.oracle.edit_distance import EditDistanceOracle
from softbellman.oracle.targets import INFINITY, kullback_leibler, target_distribution, total_variation
from softbellman.payoffs import prefix_edit_distance


class Action(NamedTuple):
    """A token, its probability under a target, and its value (None where there is only a probability)."""

    token: str
    probability: float
    q: float | None


@dataclass(frozen=True)
class Belief:
    """What one party holds of the next token, at every position.

    Attributes:
        title: who, such as `exact oracle`.
        probabilities: float64, `[P, V]`.
        q: the values behind them, `[P, V]`; None for a policy.
    """

    title: str
    probabilities: Tensor
    q: Tensor | None = None

    @classmethod
    def of_values(cls, title: str, q: Tensor, tau: float, special_ids: Iterable[int] = ()) -> Belief:
        """`softmax(q / tau)` over the tokens that can be produced; q of `[P, V]`."""
        q = q.detach().to("cpu", torch.float64).clone()
        q[:, list(special_ids)] = -INFINITY
        return cls(title, target_distribution(q, tau), q)

    @classmethod
    def of_logits(cls, title: str, logits: Tensor, special_ids: Iterable[int] = ()) -> Belief:
        """`softmax(logits)` over the tokens that can be produced; logits of `[P, V]`."""
        return cls(title, cls.of_values(title, logits, 1.0, special_ids).probabilities)

    def top(self, position: int, labels: Sequence[str], count: int) -> list[Action]:
        """The `count` most probable tokens that have a label, the likelier ones first, those of the smaller id on a tie."""
        probabilities = self.probabilities[position, : len(labels)]
        order = torch.sort(probabilities, descending=True, stable=True).indices[:count].tolist()
        values = None if self.q is None else self.q[position].tolist()
        return [
            Action(labels[token], float(probabilities[token]), None if values is None else values[token])
            for token in order
            if probabilities[token] > 0
        ]


@dataclass(frozen=True)
class OracleReport:
    """The exact oracle of the edit distance along one hypothesis, and others to compare with it.

    Attributes:
        labels: the tokens by id; ids beyond are tokens without a name.
        reference, hypothesis: token ids, without the end.
        eos_id: the end.
        tau: temperature of the exact targets.
        distances: of every prefix to the reference, the empty one first, P numbers.
        exact: the exact oracle.
        others: the parties compared with it.
    """

    labels: Sequence[str]
    reference: tuple[int, ...]
    hypothesis: tuple[int, ...]
    eos_id: int
    tau: float
    distances: tuple[int, ...]
    exact: Belief
    others: tuple[Belief, ...] = ()

    @property
    def actions(self) -> tuple[int, ...]:
        """The token taken at every position; behind the hypothesis, the end."""
        return (*self.hypothesis, self.eos_id)

    @property
    def beliefs(self) -> tuple[Belief, ...]:
        """All parties, the exact oracle first."""
        return (self.exact, *self.others)

    def rows(self, count: int) -> list[dict[str, Any]]:
        """One mapping a position for a printed table, with the `count` most probable tokens of every party."""
        assert self.exact.q is not None
        rows = []
        for position, action in enumerate(self.actions):
            row: dict[str, Any] = {
                "position": position + 1,
                "token": self.labels[action],
                "distance": self.distances[position],
                "V": _number(float(self.exact.q[position].max())),
                "Q(token)": _number(float(self.exact.q[position, action])),
            }
            for belief in self.beliefs:
                actions = belief.top(position, self.labels, count)
                row[belief.title] = "  ".join(map(_describe, actions))
                if belief is not self.exact:
                    away, divergence = self.gap(belief, position)
                    row[f"TV {belief.title}"], row[f"KL {belief.title}"] = away, divergence
            rows.append(row)
        return rows

    def gap(self, belief: Belief, position: int) -> tuple[float, float]:
        """Total variation, and the divergence of the party from the exact target, in nats."""
        exact, other = self.exact.probabilities[position], belief.probabilities[position]
        return float(total_variation(exact, other)), float(kullback_leibler(exact, other))

    def as_record(self, count: int) -> dict[str, Any]:
        """Everything as plain values for JSON; infinite numbers are None."""
        assert self.exact.q is not None
        positions = []
        for position, action in enumerate(self.actions):
            entry: dict[str, Any] = {
                "position": position + 1,
                "token": self.labels[action],
                "distance": self.distances[position],
                "value": float(self.exact.q[position].max()),
                "q": _plain(float(self.exact.q[position, action])),
                "targets": {
                    belief.title: [
                        {"token": token, "probability": probability, "q": None if q is None else _plain(q)}
                        for token, probability, q in belief.top(position, self.labels, count)
                    ]
                    for belief in self.beliefs
                },
            }
            for belief in self.others:
                away, divergence = self.gap(belief, position)
                gaps = entry.setdefault("gaps", {})
                gaps[belief.title] = {"total_variation": away, "kl": _plain(divergence)}
            positions.append(entry)
        return {
            "reference": [self.labels[token] for token in self.reference],
            "hypothesis": [self.labels[token] for token in self.hypothesis],
            "tau": self.tau,
            "vocabulary": self.exact.probabilities.shape[-1],
            "positions": positions,
        }


def report_along(
    reference: Sequence[int],
    hypothesis: Sequence[int],
    *,
    labels: Sequence[str],
    vocabulary: int,
    eos_id: int,
    tau: float,
    special_ids: Sequence[int] = (),
    others: Iterable[Belief] = (),
) -> OracleReport:
    """Ask the exact oracle of the edit distance at every position of a hypothesis.

    Args:
        reference, hypothesis: token ids, without the end.
        labels: the tokens by id, at most V.
        vocabulary: V.
        eos_id: the end.
        tau: temperature of the exact targets, at least 0.
        special_ids: tokens that are never produced.
        others: parties to compare with, P = len(hypothesis) + 1 positions each.

    Example:
        >>> report = report_along([1], [2], labels=["</s>", "a", "b"], vocabulary=3, eos_id=0, tau=0.0)
        >>> report.distances, [action.token for action in report.exact.top(0, report.labels, 2)]
        ((1, 1), ['a'])
    """
    oracle = EditDistanceOracle(
        reference, vocabulary=vocabulary, eos_id=eos_id, tau=tau, special_ids=special_ids
    )
    q = oracle.along(hypothesis)
    exact = Belief("exact oracle", target_distribution(q, tau), q)
    rows = torch.tensor([[*hypothesis]], dtype=torch.int64), torch.tensor([[*reference]], dtype=torch.int64)
    distances = (len(reference), *prefix_edit_distance(*rows)[0].tolist())
    return OracleReport(
        labels, tuple(reference), tuple(hypothesis), eos_id, tau, distances, exact, tuple(others)
    )


def _describe(action: Action) -> str:
    value = "" if action.q is None else f" ({_number(action.q)})"
    return f"{action.token} {action.probability:.3f}{value}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value, 9) and value.is_integer() else f"{value:.2f}"


def _plain(value: float) -> float | None:
    return value if abs(value) < INFINITY else None
