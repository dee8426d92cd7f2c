"""Diagnostics of updates: fetched together, summed, turned into means; updates that were skipped are counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from softbellman.training.processes import current
from softbellman.training.stages import Sums

PER_TOKEN = ("td_error", "td_squared", "entropy", "value")


@dataclass
class Totals:
    """Sums over the updates of an interval.

    Attributes:
        sums: by name, `updates` among them; of updates whose loss and gradients were finite.
        skipped: updates that were not.
        in_a_row: how many of them the latest updates were.
        broken: what was not finite in the last of them.
    """

    sums: dict[str, float] = field(default_factory=dict)
    skipped: int = 0
    in_a_row: int = 0
    broken: tuple[str, ...] = ()

    def add(self, updates: Sequence[Sums]) -> dict[str, float]:
        """Add updates, in order, with one transfer from the device (and of several processes one exchange) for all.

        Returns:
            Their own sums.
        """
        latest: dict[str, float] = {}
        for numbers in current().total(_fetched(updates)):
            broken = tuple(name for name, value in numbers.items() if not math.isfinite(value))
            if broken:
                self.skipped, self.in_a_row, self.broken = self.skipped + 1, self.in_a_row + 1, broken
                continue
            self.in_a_row = 0
            for name, value in {"updates": 1.0, **numbers}.items():
                latest[name] = latest.get(name, 0.0) + value
                self.sums[name] = self.sums.get(name, 0.0) + value
        return latest

    def means(self) -> dict[str, float]:
        """The means of the interval, and how many updates were skipped where some were."""
        return means(self.sums) | ({"skipped_updates": float(self.skipped)} if self.skipped else {})


def _fetched(updates: Sequence[Sums]) -> list[dict[str, float]]:
    found = [number.detach().double() for sums in updates for number in sums.values()]
    remote = [number for number in found if number.device.type != "cpu"]
    fetched = iter(torch.stack(remote).tolist() if remote else ())
    numbers = iter([float(number) if number.device.type == "cpu" else next(fetched) for number in found])
    return [{name: next(numbers) for name in sums} for sums in updates]


def means(totals: dict[str, float]) -> dict[str, float]:
    """Sums to means: per token, per reference token, per sequence, per update."""
    found: dict[str, float] = {}
    for name in PER_TOKEN:
        if name in totals:
            found[name] = totals[name] / totals["tokens"]
    if "nll" in totals:
        found["perplexity"] = math.exp(min(totals["nll"] / totals["reference_tokens"], 50.0))
    if "cross_entropy" in totals:
        found["cross_entropy"] = totals["cross_entropy"] / totals["weight"]
    if "effective_samples" in totals:
        found["effective_samples"] = totals["effective_samples"] / totals["sources"]
    if "payoff" in totals:
        found["payoff"] = totals["payoff"] / totals["sequences"]
    for name in totals:
        if name.endswith("_gradient"):
            found[name] = totals[name] / totals["updates"]
    return found
