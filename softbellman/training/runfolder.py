"""The folder a run writes: what stands where, and how it stays readable when the run is killed.

config.yaml                         the resolved settings
metrics.jsonl                       one JSON object a line, in the order of the run
checkpoints/STAGE-last.safetensors  weights after the last validation
checkpoints/STAGE-best.safetensors  weights after the best one
hypotheses/NAME.txt                 translations, one a line
document_frequencies.safetensors    payoff.metric cider: the n-grams of the training references, and how many sources have each
curve.png                           the learning curve
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from softbellman.training.checkpoint import write_atomically

Record = dict[str, Any]


class RunFolderError(ValueError):
    """A folder that cannot serve as a run; the message is one line for the user."""


class RunFolder:
    """The files of one run. Nothing is created before something is written.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config_path = self.path / "config.yaml"
        self.metrics_path = self.path / "metrics.jsonl"
        self.curve_path = self.path / "curve.png"
        self.frequencies_path = self.path / "document_frequencies.safetensors"
        self.checkpoints = self.path / "checkpoints"

    def create(self, config: str) -> None:
        """Starts a new run with its resolved settings (YAML); a folder that holds a run is an error."""
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"{self.path} is a file, not a folder")
        if self.config_path.exists() or self.metrics_path.exists():
            raise RunFolderError(f"{self.path} already holds a run; continue it with --resume {self.path}")
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        write_atomically(self.config_path, config.encode())

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """The folder of a run that was started before."""
        folder = cls(path)
        if not folder.config_path.is_file():
            seen = "does not exist"
            if folder.path.exists():
                seen = "holds no config.yaml" if folder.path.is_dir() else "is a file"
            raise RunFolderError(f"{path} is not a run folder: it {seen}")
        return folder

    def checkpoint(self, stage: str, which: Literal["last", "best"]) -> Path:
        """Where the weights of a stage stand."""
        return self.checkpoints / f"{stage}-{which}.safetensors"

    def write_hypotheses(self, name: str, lines: Iterable[str]) -> Path:
        """Writes hypotheses/NAME.txt and returns its path; a line break within a line is an error."""
        lines = list(lines)
        for number, line in enumerate(lines, start=1):
            if "\n" in line or "\r" in line:
                raise ValueError(f"hypotheses {name}: line {number} contains a line break")
        path = self.path / "hypotheses" / f"{name}.txt"
        write_atomically(path, "".join(f"{line}\n" for line in lines).encode())
        return path

    def read_hypotheses(self, name: str) -> list[str]:
        """The lines of hypotheses/NAME.txt; a file that is not there is an error that names it."""
        path = self.path / "hypotheses" / f"{name}.txt"
        if not path.is_file():
            raise RunFolderError(f"{path} does not exist")
        return path.read_bytes().decode().split("\n")[:-1]

    def log(self, **record: Any) -> None:
        """Appends one record to metrics.jsonl and flushes it; NaN and infinity are written as null."""
        self._append([{key: _plain(value) for key, value in record.items()}])

    def read_metrics(self) -> list[Record]:
        """All records so far; empty when nothing was logged yet."""
        return read_metrics(self.metrics_path) if self.metrics_path.exists() else []

    def best(self, metric: str, stage: str) -> float:
        """The largest value a stage's validations logged; NaN when there is none."""
        values = [
            float(record[metric])
            for record in self.read_metrics()
            if record.get("stage") == stage and record.get("kind") == "dev" and record.get(metric) is not None
        ]
        return max(values, default=math.nan)

    def truncate_metrics(self, stage: str, step: int) -> int:
        """Drops what a stage logged after its update `step`, so that a resumed run repeats no record.

        A `step` below zero drops all of the stage. Records of the stage without a step (its test results,
        which are written again) go too; other stages keep theirs. Half a line at the end of the file,
        left by a kill, disappears.

        Returns:
            How many records were dropped.
        """
        records = self.read_metrics()
        kept = [r for r in records if r.get("stage") != stage or ("step" in r and r["step"] <= step)]
        if self.metrics_path.exists():
            write_atomically(self.metrics_path, _lines(kept).encode())
        return len(records) - len(kept)

    def copy_metrics(self, stage: str, path: Path) -> None:
        """Writes what a stage logged while it was trained (kinds train and dev) to another file."""
        kinds = ("train", "dev")
        records = [r for r in self.read_metrics() if r.get("stage") == stage and r.get("kind") in kinds]
        write_atomically(path, _lines(records).encode())

    def append_metrics(self, path: Path) -> None:
        """Adds the records of another file, as `copy_metrics` wrote them."""
        self._append(read_metrics(path))

    def _append(self, records: Iterable[Record]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.metrics_path, "a", encoding="utf-8") as stream:
            stream.write(_lines(records))


def read_metrics(path: str | Path) -> list[Record]:
    """The records of a metrics.jsonl file. Half a last line, left by a kill, is skipped."""
    records: list[Record] = []
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError
        except ValueError:
            if number == len(lines):  # no line break after it: the writer was stopped
                continue
            raise RunFolderError(f"{path}:{number}: not a JSON object") from None
        records.append(record)
    return records


def _lines(records: Iterable[Record]) -> str:
    return "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)


def new_run_path(name: str, *, parent: str | Path = "runs") -> Path:
    """A path for a new run that does not exist yet: PARENT/NAME-DATE-TIME."""
    stamp = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = Path(parent) / stamp, 2
    while os.path.lexists(path):
        path, number = Path(parent) / f"{stamp}-{number}", number + 1
    return path


def _plain(value: Any) -> Any:
    """A value JSON can hold: one-element tensors become numbers, NaN and infinity null."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
