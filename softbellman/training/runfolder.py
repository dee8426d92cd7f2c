"""The folder a run writes: what stands where, and how it stays readable when the run is killed.

config.yaml                           the settings
record.json                           what the run was made of, its starts and ends, changed settings
metrics.jsonl                         one JSON object a line, in the order of the run
log.txt                               what was told, with the time
checkpoints/STAGE-best.safetensors    the selected weights
checkpoints/STAGE-NUMBER.*            checkpoints of a stage, the newest last: weights, state, what they are
checkpoints/damaged/                  checkpoints that were found damaged
hypotheses/NAME.txt                   translations, one a line
hypotheses/NAME.jsonl                 the same with their sources and references, one JSON object a line
document_frequencies.safetensors      payoff.metric cider: n-grams of the training references, how many sources have each
curve.png                             the learning curve
logging/NAME/                         what a logger of `logging.to` keeps
lock                                  the process that writes here
"""

from __future__ import annotations

import json
import math
import os
import shlex
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from softbellman.core.files import write_atomically
from softbellman.training.files import append, sweep
from softbellman.training.generations import SUFFIXES, Generation, Generations
from softbellman.training.record import NAME as RECORD
from softbellman.training.record import now

Record = dict[str, Any]

TRAINING = ("train", "dev")
"""The kinds of records that a stage logs while it is trained."""


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
        self.log_path = self.path / "log.txt"
        self.curve_path = self.path / "curve.png"
        self.frequencies_path = self.path / "document_frequencies.safetensors"
        self.checkpoints = self.path / "checkpoints"
        self.guard: Callable[[], object] = lambda: None
        """Asked before something is added: raises where this is not the folder that the run has locked."""
        self.listener: Callable[[Record], object] = lambda record: None
        """Told of every record of metrics.jsonl after it was written."""

    def check_free(self) -> None:
        """Raises RunFolderError where the folder cannot take a new run; makes nothing."""
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"{self.path} is a file, not a folder")
        if (self.path / RECORD).exists() or self.metrics_path.exists():
            place = shlex.quote(str(self.path))
            raise RunFolderError(f"{self.path} already holds a run; continue it with --resume {place}")
        if any(self.checkpoints.glob("*.json")):
            raise RunFolderError(
                f"{self.checkpoints} holds checkpoints of a run whose {RECORD} is lost; give another --output"
            )
        ours = self.checkpoints.is_dir()  # of a run that was killed at its start
        if self.config_path.exists() and not ours:
            raise RunFolderError(
                f"{self.config_path} is in the way: a run writes there; give another --output"
            )

    def create(self, config: str) -> None:
        """Starts a new run with its resolved settings (YAML); a folder that holds a run is an error."""
        self.check_free()
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self.write_config(config)

    def write_config(self, config: str) -> None:
        """Writes the settings (YAML)."""
        write_atomically(self.config_path, config.encode())

    def repair(self) -> None:
        """Deletes what a killed process left half written: temporary files, half a line of metrics. Needs the lock."""
        sweep(self.path)
        if self.metrics_path.exists():
            content = self.metrics_path.read_bytes()
            if not content.endswith(b"\n") and content:
                write_atomically(self.metrics_path, content[: content.rfind(b"\n") + 1])

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """The folder of a run that was started before."""
        if "\0" in str(path):
            raise RunFolderError(f"the path of a run folder holds a NUL character: {str(path)!r}")
        folder = cls(path)
        if not folder.config_path.is_file():
            seen = "does not exist"
            if folder.path.exists():
                seen = "holds no config.yaml" if folder.path.is_dir() else "is a file"
            raise RunFolderError(f"{path} is not a run folder: it {seen}")
        return folder

    def weights(self, stage: str, which: Literal["last", "best"]) -> Path:
        """Where the weights of a stage stand: the selected ones, or those of its newest checkpoint."""
        generations = Generations(self.checkpoints, stage)
        numbers = generations.numbers()
        if which == "best" or not numbers:
            return generations.best_path
        return generations.path(numbers[-1], ".safetensors")

    def expected_weights(self, path: Path) -> str | None:
        """The digest that a file of weights must have; None where none is known: before a checkpoint counts."""
        return Generations(self.checkpoints, path.name.partition("-")[0]).expected_weights(path)

    def has_checkpoints(self, stage: str) -> bool:
        """Whether a stage has a checkpoint that counts."""
        return bool(Generations(self.checkpoints, stage).numbers())

    def newest_checkpoint(self, stage: str) -> Generation | None:
        """The newest checkpoint of a stage as its file says, unchecked; None where there is none."""
        return Generations(self.checkpoints, stage).latest()

    def final_files(self, stage: str) -> list[Path]:
        """What a finished stage leaves: its newest checkpoint, the one that was selected, the selected weights."""
        generations = Generations(self.checkpoints, stage)
        newest = generations.latest()
        numbers = {newest.number, newest.best_number} if newest else set()
        paths = [generations.path(number, suffix) for number in numbers for suffix in SUFFIXES]
        return [generations.best_path, *(path for path in paths if path.exists())]

    def note(self, text: str) -> None:
        """Appends a line to log.txt, with the time."""
        self.guard()
        append(self.log_path, f"{now()} {text}\n")

    def write_hypotheses(self, name: str, lines: Iterable[str]) -> Path:
        """Writes hypotheses/NAME.txt and returns its path; a line break within a line is an error."""
        lines = list(lines)
        for number, line in enumerate(lines, start=1):
            if "\n" in line or "\r" in line:
                raise ValueError(f"hypotheses {name}: line {number} contains a line break")
        self.guard()
        path = self.path / "hypotheses" / f"{name}.txt"
        write_atomically(path, "".join(f"{line}\n" for line in lines).encode())
        return path

    def write_examples(self, name: str, examples: Iterable[Record]) -> Path:
        """Writes hypotheses/NAME.jsonl, an object a line, and returns its path."""
        self.guard()
        path = self.path / "hypotheses" / f"{name}.jsonl"
        write_atomically(path, _lines(examples).encode())
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
        """All records so far, without lines that are none; empty when nothing was logged yet."""
        return read_metrics(self.metrics_path, skip=True) if self.metrics_path.exists() else []

    def test_records(self) -> list[Record]:
        """The records of the test set: those that name their stage and their system."""
        return [
            record
            for record in self.read_metrics()
            if record.get("kind") == "test"
            and isinstance(record.get("stage"), str)
            and isinstance(record.get("system"), str)
        ]

    def count_records(self, stage: str) -> int:
        """How many records of a stage's training and validation there are."""
        return sum(
            record.get("stage") == stage and record.get("kind") in TRAINING for record in self.read_metrics()
        )

    def truncate_metrics(self, stage: str, count: int | None) -> int:
        """Drops what a stage logged after its first `count` records, so that a resumed run repeats none; None: all of it.

        Its test results, which are written again, go too; other stages keep theirs.

        Returns:
            How many records were dropped.
        """
        records, kept, own = self.read_metrics(), [], 0
        for record in records:
            if record.get("stage") == stage:
                own += record.get("kind") in TRAINING
                if record.get("kind") not in TRAINING or own > (count or 0):
                    continue
            kept.append(record)
        if len(kept) < len(records):
            write_atomically(self.metrics_path, _lines(kept).encode())
        return len(records) - len(kept)

    def copy_metrics(self, stage: str, path: Path) -> None:
        """Writes what a stage logged while it was trained (kinds train and dev) to another file."""
        records = [r for r in self.read_metrics() if r.get("stage") == stage and r.get("kind") in TRAINING]
        write_atomically(path, _lines(records).encode())

    def append_metrics(self, path: Path) -> None:
        """Adds the records of another file, as `copy_metrics` wrote them."""
        self._append(read_metrics(path))

    def _append(self, records: Iterable[Record]) -> None:
        self.guard()
        self.path.mkdir(parents=True, exist_ok=True)
        records = list(records)
        append(self.metrics_path, _lines(records))
        for record in records:
            self.listener(record)


def read_metrics(path: str | Path, *, skip: bool = False) -> list[Record]:
    """The records of a metrics.jsonl file. Half a last line, left by a kill, is skipped.

    Args:
        path: the file.
        skip: lines that are no records are skipped as well, since a run must go on whatever became of its log. Else
            they raise RunFolderError.
    """
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
        except (ValueError, RecursionError):
            if skip or number == len(lines):  # no line break after the last: its writer was stopped
                continue
            raise RunFolderError(f"{path}:{number}: not a JSON object") from None
        records.append(record)
    return records


def _lines(records: Iterable[Record]) -> str:
    return "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)


def new_run_path(name: str, *, parent: str | Path = "runs") -> Path:
    """A path for a new run that does not exist yet: PARENT/NAME-DATE-TIME, of FILE.py:NAME the last part."""
    stamp = f"{name.rpartition(':')[2]}-{time.strftime('%Y%m%d-%H%M%S')}"
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
