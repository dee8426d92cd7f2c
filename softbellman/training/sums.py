"""Diagnostics of updates: fetched together, summed, turned into means; updates that were skipped are counted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from softbellman.training.processes import current
from softbellman.training.stages import Metric, Sums

METRICS = {
    "td_error": Metric("tokens", "payoff, in tokens"),
    "td_squared": Metric("tokens", "its square"),
    "entropy": Metric("tokens", "nats"),
    "prior_divergence": Metric("tokens", "nats"),
    "missed_return": Metric("tokens", "payoff, in tokens"),
    "path_error": Metric("paths", "payoff, in tokens"),
    "path_squared": Metric("paths", "its square"),
    "violations": Metric("tokens", "share of the steps"),
    "value": Metric("tokens", "payoff, in tokens"),
    "baseline": Metric("tokens", "payoff, in tokens"),
    "baseline_squared": Metric("tokens", "its square"),
    "reference_share": Metric("tokens", "share of the words read"),
    "own_share": Metric("tokens", "share of the words said"),
    "payoff_share": Metric("tokens", "share of the words said"),
    "advantage_size": Metric("tokens", "payoff, in tokens"),
}
"""Means over drawn tokens, by the name of their sum."""
_FURTHER = {
    "discriminator_accuracy": Metric("sequences", "share"),
    "adversarial_loss": Metric("sequences", "nats"),
    "adversarial_share": Metric("sequences", "share of the updates"),
    "margin_loss": Metric("sequences", "score"),
    "reader_nll": Metric("read_tokens", "nats"),
    "violation_cost": Metric("violations", "1 - BLEU, 0 to 1"),
    "cross_entropy": Metric("weight", "nats a token"),
    "effective_samples": Metric("sources", "sequences"),
    "payoff": Metric("sequences", "payoff, in tokens"),
}
"""Other means, logged behind the perplexity."""


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

    def means(self, own: Mapping[str, Metric] | None = None) -> dict[str, float]:
        """The means of the interval, and how many updates were skipped where some were; `own` as for `means`."""
        return means(self.sums, own) | ({"skipped_updates": float(self.skipped)} if self.skipped else {})


def _fetched(updates: Sequence[Sums]) -> list[dict[str, float]]:
    found = [number.detach().double() for sums in updates for number in sums.values()]
    remote = [number for number in found if number.device.type != "cpu"]
    fetched = iter(torch.stack(remote).tolist() if remote else ())
    numbers = iter([float(number) if number.device.type == "cpu" else next(fetched) for number in found])
    return [{name: next(numbers) for name in sums} for sums in updates]


def means(totals: dict[str, float], own: Mapping[str, Metric] | None = None) -> dict[str, float]:
    """Sums to means: per token, per reference token, per sequence, per update.

    Args:
        totals: sums by name, `updates` among them.
        own: metrics of a stage of the user's own, by the name of their sum.

    Raises:
        ValueError: a sum is there, but not the one that it is divided by.
    """
    found = _quotients(totals, METRICS)
    if "nll" in totals:
        found["perplexity"] = math.exp(min(totals["nll"] / totals["reference_tokens"], 50.0))
    found |= _quotients(totals, _FURTHER) | _quotients(totals, own or {})
    for name in totals:
        if name.endswith("_gradient"):
            found[name] = totals[name] / totals["updates"]
    return found


def _quotients(totals: Mapping[str, float], metrics: Mapping[str, Metric]) -> dict[str, float]:
    present = {name: metric.per for name, metric in metrics.items() if name in totals}
    for name, per in present.items():
        if per not in totals:
            given = ", ".join(one for one in totals if one != "updates")
            raise ValueError(
                f"the sum {name} of a stage is logged per {per.removesuffix('s')}, but the stage does not give the sum "
                f"{per}; it gives {given}"
            )
    return {name: totals[name] / totals[per] for name, per in present.items()}
