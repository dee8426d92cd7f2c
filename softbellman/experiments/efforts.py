"""What runs took and where they ran, as their records say: wall time, memory, commands, versions, machines."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from softbellman.experiments.collect import FinishedRun
from softbellman.training.record import NAME as RECORD
from softbellman.training.record import RunRecord
from softbellman.training.runfolder import TRAINING, RunFolder

_MACHINE = ("processor", "device", "threads", "processes")
_SOFTWARE = ("softbellman", "commit", "source", "native", "torch", "python")


class Effort(NamedTuple):
    """One run.

    Attributes:
        name: of what it ends with.
        stage_seconds: by stage, as trained; a stage from the cache keeps the time it took.
        wall_seconds: from start to end, of all starts together; None where one has no end.
        peak_bytes: largest resident size of the process; None where it was not logged.
        command: of the first start.
        sessions: how often the run was started.
        machine, software: of the last start.
        data: digests.
    """

    run: Path
    name: str
    seed: int
    stage_seconds: Mapping[str, float]
    wall_seconds: float | None
    peak_bytes: int | None
    command: str
    sessions: int
    machine: Mapping[str, Any]
    software: Mapping[str, Any]
    data: Mapping[str, str]


def effort_of(run: FinishedRun) -> Effort:
    """Read the record and the metrics of a run; a run without a record has no sessions."""
    record = RunRecord.read(run.path) if (run.path / RECORD).is_file() else None
    sessions = record.sessions if record else []
    seconds: dict[str, float] = {}
    peak = None
    for entry in RunFolder(run.path).read_metrics():
        stage = str(entry.get("stage"))
        if entry.get("kind") in TRAINING and entry.get("time") is not None:
            seconds[stage] = max(seconds.get(stage, 0.0), float(entry["time"]))
        if entry.get("kind") == "test" and entry.get("peak_memory_bytes"):
            peak = max(peak or 0, int(entry["peak_memory_bytes"]))
    last = sessions[-1] if sessions else {}
    return Effort(
        run=run.path,
        name=run.systems[-1].system,
        seed=run.settings.seed,
        stage_seconds=seconds,
        wall_seconds=_wall(sessions),
        peak_bytes=peak,
        command=str(sessions[0].get("command", "")) if sessions else "",
        sessions=len(sessions),
        machine={key: last[key] for key in _MACHINE if last.get(key) is not None},
        software={key: last[key] for key in _SOFTWARE if last.get(key) is not None},
        data=record.data if record else {},
    )


def _wall(sessions: list[dict[str, Any]]) -> float | None:
    total = 0.0
    for session in sessions:
        if not session.get("ended"):
            return None
        begun, ended = (datetime.fromisoformat(str(session[key])) for key in ("started", "ended"))
        total += (ended - begun).total_seconds()
    return total if sessions else None
