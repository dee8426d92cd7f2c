"""Mean and sample standard deviation over seeds, and differences paired by seed."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from softbellman.experiments.groups import Group


class Summary(NamedTuple):
    """Some numbers, summed up.

    Attributes:
        size: how many.
        mean: their mean.
        deviation: their sample standard deviation, with size - 1 in the denominator; None for a single number.
    """

    size: int
    mean: float
    deviation: float | None


def summarise(values: Iterable[float]) -> Summary | None:
    """Count, mean and sample standard deviation; None of nothing."""
    numbers = list(values)
    if not numbers:
        return None
    deviation = statistics.stdev(numbers) if len(numbers) > 1 else None
    return Summary(len(numbers), statistics.fmean(numbers), deviation)


class PairedDifference(NamedTuple):
    """A metric of one group minus that of another, seed by seed.

    Attributes:
        by_seed: the differences.
        summary: of them.
        agreeing: how many of them have the sign of their mean; one that is zero has no sign.
    """

    by_seed: Mapping[int, float]
    summary: Summary
    agreeing: int


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> PairedDifference | None:
    """Differences `values[seed] - baseline[seed]` of the seeds that both have; None where they share none."""
    by_seed = {seed: values[seed] - baseline[seed] for seed in values if seed in baseline}
    summary = summarise(by_seed.values())
    if summary is None:
        return None
    agreeing = sum(difference * summary.mean > 0 for difference in by_seed.values())
    return PairedDifference(by_seed, summary, agreeing)


@dataclass(frozen=True)
class Comparison:
    """A group against its baseline.

    Attributes:
        group, baseline: the two.
        differences: by metric, of those that both logged.
        unpaired: seeds of the group that the baseline does not have.
    """

    group: Group
    baseline: Group
    differences: Mapping[str, PairedDifference]
    unpaired: tuple[int, ...]


def compare(groups: Sequence[Group], baseline: str, metrics: Sequence[str]) -> list[Comparison]:
    """Every other group against the baseline, paired by seed.

    Args:
        groups: all groups.
        baseline: name of a group or of an algorithm, in any case. Of an algorithm with several groups each other group
            takes the one that its own runs started from.
        metrics: names of metrics.

    Raises:
        ValueError: no such group, or several of which a group started from none; names the groups.
    """
    wanted = baseline.casefold()
    candidates = [group for group in groups if group.name.casefold() == wanted]
    candidates = candidates or [group for group in groups if group.system.casefold() == wanted]
    if not candidates:
        known = ", ".join(repr(group.name) for group in groups)
        raise ValueError(f"--baseline {baseline!r} is none of the groups: {known}")
    return [
        _compare(group, _baseline_of(group, candidates, baseline), metrics)
        for group in groups
        if group not in candidates
    ]


def _baseline_of(group: Group, candidates: Sequence[Group], asked: str) -> Group:
    if len(candidates) == 1:
        return candidates[0]
    started = [candidate for candidate in candidates if _starts_from(group, candidate)]
    if len(started) != 1:
        names = ", ".join(repr(candidate.name) for candidate in candidates)
        raise ValueError(
            f"--baseline {asked!r} is several groups: {names}; name the one that {group.name} is compared with"
        )
    return started[0]


def _starts_from(group: Group, candidate: Group) -> bool:
    """Whether the settings of the candidate (of maximum likelihood) are those of the group's own start."""
    own = next(iter(group.results.values())).settings
    start = next(iter(candidate.results.values())).settings
    return all(key in own and own[key] == value for key, value in start.items())


def _compare(group: Group, baseline: Group, metrics: Sequence[str]) -> Comparison:
    # the start that a run had itself, which is another one's of that seed only where both have the same scores
    partners = {
        seed: baseline.by_run.get(result.run) or baseline.results.get(seed)
        for seed, result in group.results.items()
    }
    differences: dict[str, PairedDifference] = {}
    for name in metrics:
        partner_values = {
            seed: partner.metrics[name]
            for seed, partner in partners.items()
            if partner is not None and name in partner.metrics
        }
        found = paired_difference(group.values(name), partner_values)
        if found is not None:
            differences[name] = found
    unpaired = tuple(seed for seed, partner in partners.items() if partner is None)
    return Comparison(group, baseline, differences, unpaired)
