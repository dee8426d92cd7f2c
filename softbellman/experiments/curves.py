"""Learning curves of runs of any state, systems side by side, with the band of their seeds.

The stages of a run are laid end to end, by updates or by wall time. Between two validations a curve is a straight line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from softbellman import config
from softbellman.experiments.collect import FinishedRun, SystemResult, deciding_settings
from softbellman.experiments.gather import find_runs
from softbellman.experiments.groups import group_runs
from softbellman.training.own_algorithm import algorithm_of
from softbellman.training.runfolder import TRAINING, Record, RunFolder
from softbellman.training.settings import Settings, follow_data

Axis = Literal["updates", "time"]
Line = tuple[tuple[float, float], ...]
"""Points of a run: position on the axis, value."""

_MOST_POSITIONS = 400


class CurveBand(NamedTuple):
    """A number along the axis: mean, least and most over the runs, and how many runs reached the position."""

    position: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    runs: tuple[int, ...]


class Curves(NamedTuple):
    """What is drawn.

    Attributes:
        bands: by the system's name.
        lines: each run alone, by the system's name.
        left_out: a sentence about each run without the number.
    """

    bands: Mapping[str, CurveBand]
    lines: Mapping[str, tuple[Line, ...]]
    left_out: tuple[str, ...]


def read_curves(paths: Iterable[str | Path], *, metric: str = "dev_bleu", axis: Axis = "updates") -> Curves:
    """The curves of the runs among and below some folders; a run need not be finished.

    Args:
        paths: run folders, or folders with such below.
        metric: name in metrics.jsonl; of a number that validations and training both log, the validations' is taken.
        axis: updates, or seconds of training.

    Raises:
        RunFolderError, ConfigError: a folder that is no run and has none below, settings that cannot be read.
        ValueError: no run logged the metric; names those there are.
    """
    runs = [_as_run(path) for path in find_runs(paths)]
    lines: dict[str, list[Line]] = {}
    left_out, known = [], dict[str, None]()
    for group in group_runs(runs).groups:
        for path in group.by_run:
            records = RunFolder(path).read_metrics()
            known |= dict.fromkeys(_numbers(records))
            line = curve_of(records, metric, axis)
            if line:
                lines.setdefault(group.name, []).append(line)
            else:
                left_out.append(f"{path} has no {metric} yet")
    if not lines:
        there = ", ".join(known) or "none"
        raise ValueError(f"none of the runs logged {metric!r}; the numbers there are: {there}")
    bands = {name: band_of(group) for name, group in lines.items()}
    return Curves(bands, {name: tuple(group) for name, group in lines.items()}, tuple(left_out))


def curve_of(records: Sequence[Record], metric: str, axis: Axis) -> Line:
    """The points of a run in the order of the axis; those of validations where they have the metric."""
    key = "step" if axis == "updates" else "time"
    found: dict[str, dict[float, float]] = {kind: {} for kind in TRAINING}
    stage, start, end = "", 0.0, 0.0
    for record in records:
        if record.get("kind") not in TRAINING or not isinstance(record.get(key), (int, float)):
            continue
        if record.get("stage") != stage:
            stage, start = str(record.get("stage")), end
        position = start + float(record[key])
        end = max(end, position)
        if isinstance(record.get(metric), (int, float)):
            found[str(record["kind"])][position] = float(record[metric])
    chosen = found["dev"] or found["train"]
    return tuple(sorted(chosen.items()))


def band_of(lines: Sequence[Line]) -> CurveBand:
    """Mean, least and most over runs; a run counts from its first point to its last one."""
    positions = sorted({position for line in lines for position, _ in line})
    if len(positions) > _MOST_POSITIONS:
        positions = np.linspace(positions[0], positions[-1], _MOST_POSITIONS).tolist()
    columns: list[list[float]] = []
    parts = [np.array(line).T for line in lines]  # (2, points) each
    for position in positions:
        covering = [part for part in parts if part[0, 0] <= position <= part[0, -1]]
        columns.append([float(np.interp(position, part[0], part[1])) for part in covering])
    kept = [(position, column) for position, column in zip(positions, columns, strict=True) if column]
    return CurveBand(
        tuple(position for position, _ in kept),
        tuple(sum(column) / len(column) for _, column in kept),
        tuple(min(column) for _, column in kept),
        tuple(max(column) for _, column in kept),
        tuple(len(column) for _, column in kept),
    )


def _as_run(path: Path) -> FinishedRun:
    """A run of any state by its settings, as one system without scores."""
    settings = follow_data(config.load(Settings, RunFolder.open(path).config_path))
    stage = algorithm_of(settings).last_stage(settings)
    system = settings.label or algorithm_of(settings).title
    result = SystemResult(
        path, settings.seed, system, stage, True, deciding_settings(settings, stage), {}, ""
    )
    return FinishedRun(path, settings, (result,))


def _numbers(records: Iterable[Record]) -> Iterable[str]:
    apart = {"step", "time", "run_step", "run_time", "epoch"}
    return (
        name
        for record in records
        if record.get("kind") in TRAINING
        for name, value in record.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and name not in apart
    )
