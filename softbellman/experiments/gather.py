"""Run folders below some folders, and their compact form: what reports read, without checkpoints, small enough to commit."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from softbellman import config
from softbellman.core.files import write_atomically
from softbellman.experiments.collect import actor_stages
from softbellman.experiments.description import NAME as EXPERIMENT
from softbellman.experiments.outputs import read_measured, read_outputs, write_compact, write_measured
from softbellman.experiments.tuning import NAME as TUNING
from softbellman.training.files import read_json, write_json
from softbellman.training.record import NAME as RECORD
from softbellman.training.runfolder import RunFolder, RunFolderError
from softbellman.training.settings import Settings

_FOLDERS = re.compile(r"(?<![\w.:/~-])(?:~?/[^/\s'\"]+)*~?/(?=[^/\s'\"]+)")
"""The folders of an absolute path, up to its last part."""
_OUTPUTS = (".txt", ".jsonl", ".npz")
_PRIVATE = ("host", "process")
"""What a session's record says of the machine beside its make."""


def find_runs(paths: Iterable[str | Path]) -> list[Path]:
    """The run folders among and below some folders, each once, sorted below each.

    Raises:
        RunFolderError: a folder that is no run and has none below; names it.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        runs = [path] if _is_run(path) else sorted(_runs_below(path))
        if not runs:
            RunFolder.open(path)  # says what it is not
            raise RunFolderError(f"{path} holds no run")
        for run in runs:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def _is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file() and any(
        (path / name).is_file() for name in (RECORD, "metrics.jsonl")
    )


def _runs_below(path: Path) -> Iterator[Path]:
    return (file.parent for file in path.rglob("config.yaml") if _is_run(file.parent))


def gather(paths: Sequence[str | Path], folder: str | Path, *, texts: bool = True) -> list[Path]:
    """Copy the small files of run folders: settings, record, metrics, hypotheses; the test sets once.

    Runs of an experiment keep their places below its folder's name, so those of several machines come together. A run that is
    there already is written anew. Absolute paths are shortened to their last part, names of machines left out.

    Args:
        paths: run folders, or folders with such below.
        folder: where the copies go.
        texts: hypotheses, sources and references; without them the numbers of each sentence that paired tests need.

    Returns:
        The copies.

    Raises:
        RunFolderError: no run; or another run has the place of one, by its settings and its first start.
    """
    root = Path(folder)
    copies = []
    for given in map(Path, paths):
        for run in find_runs([given]):
            place = root / (run.name if run == given else given.resolve().name / run.relative_to(given))
            _copy_run(run, place, root, texts)
            copies.append(place)
        for path in itertools.chain.from_iterable(map(given.rglob, (EXPERIMENT, TUNING))):
            place = root / given.resolve().name / path.relative_to(given)
            write_atomically(place, shorten_paths(path.read_text(encoding="utf-8")).encode())
    return copies


def _copy_run(run: Path, place: Path, root: Path, texts: bool) -> None:
    settings: Settings = config.load(Settings, run / "config.yaml")
    content = shorten_paths((run / "config.yaml").read_text(encoding="utf-8"))
    if _is_run(place) and _identity(place) != _identity(run):
        raise RunFolderError(f"{place} holds another run than {run}; rename one, or give another folder")
    stages = [
        stage
        for stage in actor_stages(settings)
        if any((run / "hypotheses" / f"test-{stage}{ending}").is_file() for ending in _OUTPUTS)
    ]
    if texts:
        write_compact([(stage, read_outputs(run, stage)) for stage in stages], place, root)
    else:
        logged = {name for record in RunFolder(run).test_records() for name in record}
        write_measured(
            [(stage, read_measured(run, stage)) for stage in stages],
            place,
            metrics=sorted(name.removeprefix("test_") for name in logged),
            tokenize=settings.evaluation.tokenize,
        )
    write_atomically(place / "config.yaml", content.encode())
    if (run / "metrics.jsonl").is_file():
        write_atomically(place / "metrics.jsonl", (run / "metrics.jsonl").read_bytes())
    if (run / RECORD).is_file():
        write_json(place / RECORD, _public(read_json(run / RECORD)))


def _identity(run: Path) -> object:
    """What tells two runs apart: when they were started first, and their seed."""
    record = run / RECORD
    if not record.is_file():
        return (run / "metrics.jsonl").read_bytes()
    content = read_json(record)
    sessions = content.get("sessions") or [{}]
    return content.get("settings", {}).get("seed"), sessions[0].get("started")


def _public(value: object) -> object:
    """A record without the names of machines and without their folders."""
    if isinstance(value, dict):
        return {key: _public(entry) for key, entry in value.items() if key not in _PRIVATE}
    if isinstance(value, list):
        return [_public(entry) for entry in value]
    return shorten_paths(value) if isinstance(value, str) else value


def shorten_paths(text: str) -> str:
    """A text whose absolute paths are their last parts.

    Example:
        >>> shorten_paths("train --data.path /home/me/corpora/multi30k --output=/home/me/runs/erac-1")
        'train --data.path multi30k --output=erac-1'
    """
    return _FOLDERS.sub("", text)
