"""Runs of the same settings but the seed as one group, named by what tells it from the others."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softbellman.experiments.collect import FinishedRun, FlatSettings, SystemResult

_TRIED_KEYS = 3
"""Names with up to so many keys are searched for the shortest; with more, keys are added one by one."""


@dataclass(frozen=True)
class Group:
    """Systems that differ in their seed alone.

    Attributes:
        system: name of the algorithm, such as ERAC.
        name: the algorithm and, where it has other groups too, the settings that tell them apart.
        settings: the settings in which it differs from the algorithm's other groups, named or not.
        unnamed: keys of these that the name leaves out.
        results: by seed, ascending.
        by_run: by run folder, also of runs whose seed another run has already.
    """

    system: str
    name: str
    settings: FlatSettings
    unnamed: tuple[str, ...]
    results: Mapping[int, SystemResult]
    by_run: Mapping[Path, SystemResult]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Ascending."""
        return tuple(self.results)

    def values(self, metric: str) -> dict[int, float]:
        """A metric by seed, without the runs that did not log it."""
        return {
            seed: result.metrics[metric]
            for seed, result in self.results.items()
            if result.metrics.get(metric) is not None
        }


@dataclass(frozen=True)
class Grouping:
    """All groups, those of MLE first and then in the order of the runs.

    Attributes:
        conflicts: a sentence for every seed that one group has twice with different numbers; the first run counts.
    """

    groups: tuple[Group, ...]
    conflicts: tuple[str, ...]


def group_runs(runs: Iterable[FinishedRun]) -> Grouping:
    """Group the systems of runs.

    Runs that start from the same maximum likelihood (the same settings, seed and scores) share one result of it.
    """
    members: dict[tuple[str, str], dict[int, SystemResult]] = {}
    by_run: dict[tuple[str, str], dict[Path, SystemResult]] = {}
    conflicts: list[str] = []
    for run in runs:
        for result in run.systems:
            key = (result.system, json.dumps(result.settings))
            by_run.setdefault(key, {})[run.path] = result
            same = members.setdefault(key, {})
            known = same.get(result.seed)
            if known is None:
                same[result.seed] = result
            elif _agree(known, result):
                same[result.seed] = _joined(known, result)
            else:
                conflicts.append(
                    f"{result.system} of seed {result.seed} has other scores in {result.run} than in {known.run} "
                    f"under the same settings; the table has those of {known.run}"
                )
    ordered = sorted(members, key=lambda key: key[0] != "MLE")  # stable: the others in the order of the runs
    groups = []
    for key in ordered:
        siblings = [next(iter(members[other].values())) for other in ordered if other[0] == key[0]]
        own = next(iter(members[key].values()))
        name, differing, named = name_among(own, siblings)
        unnamed = tuple(other for other in differing if other not in named)
        groups.append(
            Group(
                system=key[0],
                name=name,
                settings={differs: own.settings.get(differs) for differs in differing},
                unnamed=unnamed,
                results=dict(sorted(members[key].items())),
                by_run=by_run[key],
            )
        )
    return Grouping(tuple(groups), tuple(conflicts))


def name_among(
    own: SystemResult, siblings: Sequence[SystemResult]
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """The name of a system among those of the same algorithm (itself included).

    Returns:
        the name, the keys in which the siblings differ, and those of them that the name has.
    """
    keys = list(dict.fromkeys(key for sibling in siblings for key in sibling.settings))
    differing = tuple(
        key for key in keys if len({_shown(sibling.settings.get(key)) for sibling in siblings}) > 1
    )
    if len(siblings) == 1:
        return own.system, (), ()
    named = _telling(differing, siblings, keys)
    parts = [f"{short_key(key, keys)} {_shown(own.settings.get(key))}" for key in named]
    return f"{own.system} ({', '.join(parts)})", differing, named


def short_key(key: str, keys: Sequence[str]) -> str:
    """The shortest end of a dotted key that no other key has: tau, or critic.schedule.epochs."""
    words = key.split(".")
    for count in range(1, len(words)):
        end = ".".join(words[-count:])
        if not any(other != key and f".{other}".endswith(f".{end}") for other in keys):
            return end
    return key


def _telling(
    differing: Sequence[str], siblings: Sequence[SystemResult], keys: Sequence[str]
) -> tuple[str, ...]:
    """The fewest keys whose values tell all siblings apart; of equally many those with the shortest text."""

    def tells(chosen: Sequence[str]) -> bool:
        seen = {tuple(_shown(sibling.settings.get(key)) for key in chosen) for sibling in siblings}
        return len(seen) == len(siblings)

    for count in range(1, _TRIED_KEYS + 1):
        found = [chosen for chosen in itertools.combinations(differing, count) if tells(chosen)]
        if found:
            return min(found, key=lambda chosen: sum(len(short_key(key, keys)) for key in chosen))
    chosen: list[str] = []
    for key in differing:
        if tells(chosen):
            break
        chosen.append(key)
    return tuple(chosen)


def _shown(value: Any) -> str:
    """A value as one writes it in a config."""
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return value if isinstance(value, str) and value else json.dumps(value)


def _agree(first: SystemResult, second: SystemResult) -> bool:
    common = first.metrics.keys() & second.metrics.keys()
    return all(first.metrics[name] == second.metrics[name] for name in common)


def _joined(first: SystemResult, second: SystemResult) -> SystemResult:
    """The first result with the metrics that only the second one logged."""
    return SystemResult(**{**vars(first), "metrics": {**second.metrics, **first.metrics}})
