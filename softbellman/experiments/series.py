"""Numbers of many runs along an axis: validation curves with the band of the seeds, and sweeps of a setting."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from softbellman.experiments.collect import FinishedRun, SystemResult
from softbellman.experiments.groups import Group
from softbellman.training.runfolder import Record, RunFolder

CURVES = (
    ("dev", "dev_bleu"),
    ("train", "entropy"),
    ("train", "payoff"),
    ("dev", "rank_correlation"),
)  # fmt: skip
"""Kind of record and number that are followed over a stage; beside BLEU what selected, where that is another metric."""

LEAST_VALUES = 3
"""A setting with fewer values among the systems is no sweep."""


class Band(NamedTuple):
    """A number over the updates of a stage: mean, least and most over the runs, and how many runs reached the update."""

    updates: tuple[int, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    runs: tuple[int, ...]


class SweepPoint(NamedTuple):
    """A value of the setting that is swept, and the system that has it."""

    value: float
    group: Group


class Sweep(NamedTuple):
    """Systems that differ in one setting alone, by its value, ascending."""

    key: str
    points: tuple[SweepPoint, ...]


class Grid(NamedTuple):
    """Systems that differ in two settings alone: `cells[row value, column value]`."""

    row_key: str
    column_key: str
    rows: tuple[float, ...]
    columns: tuple[float, ...]
    cells: Mapping[tuple[float, float], Group]


def curve_bands(
    runs: Iterable[FinishedRun], groups: Sequence[Group], *, start: bool
) -> dict[str, dict[str, Band]]:
    """The curves of the systems, by the number that is followed and the system's name.

    Args:
        start: of maximum likelihood, by the runs' start; otherwise of the stage that each run ends with.
    """
    members = list(runs)
    records = {run.path: RunFolder(run.path).read_metrics() for run in members}
    selecting = [("dev", f"dev_{run.settings.evaluation.select_by}") for run in members]
    followed = dict.fromkeys((*CURVES[:1], *selecting, *CURVES[1:]))
    found: dict[str, dict[str, Band]] = {}
    for group in groups:
        if start != any(result.stage == "actor" for result in group.results.values()):
            continue
        for kind, name in followed:
            lines = [_line(records[result.run], result, kind, name) for result in group.results.values()]
            band = _band([line for line in lines if line])
            if band is not None:
                found.setdefault(name, {})[group.name] = band
    return found


def _line(records: Sequence[Record], result: SystemResult, kind: str, name: str) -> dict[int, float]:
    return {
        int(record["step"]): float(record[name])
        for record in records
        if record.get("kind") == kind and record.get("stage") == result.stage and record.get(name) is not None
        and record.get("step") is not None
    }  # fmt: skip


def _band(lines: Sequence[Mapping[int, float]]) -> Band | None:
    """Over the updates at which some run was judged; a run counts as long as it lasted."""
    updates = sorted({update for line in lines for update in line})
    if not updates:
        return None
    columns = [[line[update] for line in lines if update in line] for update in updates]
    return Band(
        tuple(updates),
        tuple(sum(column) / len(column) for column in columns),
        tuple(map(min, columns)),
        tuple(map(max, columns)),
        tuple(map(len, columns)),
    )


def find_sweep(groups: Sequence[Group], key: str) -> Sweep | None:
    """The most systems that differ in one numeric setting alone, with at least `LEAST_VALUES` values."""
    families: dict[str, dict[float, Group]] = {}
    for group in _final(groups):
        settings = _settings(group)
        value = settings.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            families.setdefault(_without(settings, key), {}).setdefault(float(value), group)
    widest = max(families.values(), key=len, default={})
    if len(widest) < LEAST_VALUES:
        return None
    return Sweep(key, tuple(SweepPoint(value, widest[value]) for value in sorted(widest)))


def find_grid(groups: Sequence[Group], row_key: str, column_key: str) -> Grid | None:
    """The most systems that differ in two numeric settings alone, with at least two values of each."""
    families: dict[str, dict[tuple[float, float], Group]] = {}
    for group in _final(groups):
        settings = _settings(group)
        values = settings.get(row_key), settings.get(column_key)
        if all(isinstance(value, (int, float)) for value in values):
            cell = (float(values[0]), float(values[1]))  # type: ignore[arg-type]
            families.setdefault(_without(settings, row_key, column_key), {}).setdefault(cell, group)
    widest = max(families.values(), key=len, default={})
    rows, columns = (tuple(sorted({cell[side] for cell in widest})) for side in (0, 1))
    if len(rows) < 2 or len(columns) < 2:
        return None
    return Grid(row_key, column_key, rows, columns, widest)


def _final(groups: Sequence[Group]) -> list[Group]:
    """The systems that are the end of their runs and no maximum likelihood."""
    return [group for group in groups if all(result.stage != "actor" for result in group.results.values())]


def _settings(group: Group) -> Mapping[str, object]:
    return next(iter(group.results.values())).settings


def _without(settings: Mapping[str, object], *keys: str) -> str:
    return json.dumps({key: value for key, value in settings.items() if key not in keys}, sort_keys=True)
