"""What may differ when a run is continued: the machine, and how long its last stage goes on. All else makes another run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from softbellman import config
from softbellman.core.objects import facts_of, is_object_name, load_object, same_name, what_changed
from softbellman.data import Codec
from softbellman.payoffs.settings import WITHOUT_EFFECT
from softbellman.training.algorithms import Algorithm
from softbellman.training.files import DamagedFile
from softbellman.training.own_algorithm import algorithm_of
from softbellman.training.record import NAME as RECORD
from softbellman.training.record import RunRecord
from softbellman.training.settings import Settings
from softbellman.training.stages import SPECS
from softbellman.training.task import Task, load_task, vocabulary_digest

FREE = (
    "threads", "process_timeout", "keep_memory", "device", "output", "cache", "label", "data.path", "data.features",
    "data.names", "data.tokenizer_path", "model.path", *(f"payoff.{name}" for name in WITHOUT_EFFECT),
)  # fmt: skip
FREE_SECTIONS = ("checkpoint", "logging")
"""Keys that change no result, or whose change is noticed by the digests of the data."""

NAMED = ("algorithm", "model.kind", "data.kind", "payoff.metric")
"""Keys that may name an object of the user's, whose file may lie in another folder than it did."""

LONGER = ("schedule.epochs", "schedule.max_updates")
"""Keys of the last stage that may grow."""

_SHOWN = 3


class ResumeError(ValueError):
    """A run cannot be continued like this; the message is one line for the user."""


def changed_settings(record: RunRecord, settings: Settings) -> dict[str, Any]:
    """The settings that differ from those in force, by key; what an older version did not know had its default.

    Args:
        record: of the run.
        settings: what the run shall be continued with.

    Raises:
        ResumeError: names the settings that cannot change.
    """
    given, known = (
        _spread(flat)
        for flat in (config.flatten(settings), {**config.flatten(Settings()), **record.settings})
    )
    changed = {key: given.get(key) for key, value in known.items() if given.get(key) != value}
    algorithm = algorithm_of(settings)
    stage = algorithm.last_stage(settings)
    last_stage = algorithm.key_of(stage)
    planned = (
        algorithm.section(settings, stage).schedule.kind == "cosine"
    )  # its rates depend on the last update
    refused = [
        key
        for key, value in changed.items()
        if not _is_of_another_stage(key, algorithm)
        and (not _may_change(known, key, value, last_stage) or (planned and key.endswith("max_updates")))
    ]
    if not refused:
        return changed
    shown = [f"{key} is {_show(known[key])}, given {_show(given.get(key))}" for key in refused[:_SHOWN]]
    more = f" (and {len(refused) - _SHOWN} more)" if len(refused) > _SHOWN else ""
    raise ResumeError(
        f"a run cannot be continued with other settings: {'; '.join(shown)}{more}. "
        f"Leave them as they are in {record.path}, or start a new run. "
        f"More epochs of the last stage ({last_stage}.schedule.epochs), threads, device, cache and checkpoint.* may change"
    )


def check_brought(record: RunRecord, settings: Settings) -> None:
    """Raises ResumeError where an object that the settings name is not the one that a run was trained with.

    For runs that are not opened: what is continued or loaded is looked at where it is loaded.
    """
    named = [("algorithm", settings.algorithm), ("model.kind", settings.model.kind)]
    named += [("payoff.metric", term.metric) for term in settings.payoff.parts()]
    for key, name in named:
        known = facts_of(record.objects, name) if is_object_name(name) else None
        if known is None:
            continue
        found = load_object(name, key=key, place=known["path"], as_class=key == "model.kind")
        if (change := what_changed(known, found)) is not None:
            raise ResumeError(f"{key} {name} {change}: it is not what the run was trained with; restore it")


def _spread(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with those of stages of the user's own by their dotted keys; what was changed since comes later, and wins."""
    found: dict[str, Any] = {}

    def put(key: str, value: Any) -> None:
        if isinstance(value, dict) and key.partition(".")[0] == "stages":
            for name, item in value.items():
                put(f"{key}.{name}", item)
        else:
            found[key] = value

    for key, value in flat.items():
        put(key, value)
    return found


def _is_of_another_stage(key: str, algorithm: Algorithm) -> bool:
    """Whether a setting is of a stage of the package that the algorithm does not have, and that none of its stages reads."""
    return key.partition(".")[0] in SPECS and not algorithm.uses(key)


def _may_change(known: Mapping[str, Any], key: str, value: Any, last_stage: str) -> bool:
    if key in NAMED and isinstance(value, str) and same_name(str(known[key]), value):
        return True  # whether it is the same file is looked at where it is loaded
    if key in FREE or key.partition(".")[0] in FREE_SECTIONS:
        return True
    if key not in [f"{last_stage}.{name}" for name in LONGER]:
        return False
    before = known[key]
    if not isinstance(before, int) or not isinstance(value, int):
        return False
    unlimited = key.endswith("max_updates") and value == 0
    return unlimited or (value > before and not (key.endswith("max_updates") and before == 0))


def _show(value: Any) -> str:
    return "nothing" if value is None else repr(value) if isinstance(value, str) else str(value)


def check_data(record: RunRecord, found: Mapping[str, str]) -> None:
    """Raises ResumeError where the data are not those that the run was started with; names the parts that differ."""
    if "training_data" not in record.data:
        raise DamagedFile(f"{record.path} is damaged: it does not say what data the run was started with")
    parts: Sequence[str] = [name for name in record.data if record.data[name] != found.get(name)]
    if parts:
        raise ResumeError(
            f"the data are not those that the run was started with: {', '.join(parts).replace('_', ' ')} changed "
            f"since; restore the files, or start a new run"
        )


def recorded_task(path: Path, settings: Settings) -> Task:
    """The data of a run, read again.

    Args:
        path: of the run folder; one of an earlier version, which has no record, is not checked.
        settings: of the run.

    Raises:
        ResumeError: they are no longer those that the run was started with.
        DataError: they cannot be read.
    """
    task = load_task(settings.data)
    if (path / RECORD).is_file():
        record = RunRecord.read(path)
        payoff = {name: found for name, found in record.data.items() if name == "payoff"}
        check_data(record, {**task.digests(), **payoff})
    return task


def vocabularies_of(path: Path) -> dict[str, str]:
    """Digests of the vocabularies that a run was started with, by name; empty where its folder has no record."""
    if not (path / RECORD).is_file():
        return {}
    return {name: found for name, found in RunRecord.read(path).data.items() if name.endswith("_vocabulary")}


def check_vocabularies(weights: Path, metadata: Mapping[str, str], run: Path) -> None:
    """Raises ValueError where weights from elsewhere were trained with other vocabularies than a run has.

    Args:
        weights: the file, of `softbellman average` or of another run's folder.
        metadata: of the file.
        run: the run's folder.
    """
    own, others = vocabularies_of(run), {**vocabularies_of(weights.parent.parent), **metadata}
    for name, found in own.items():
        if others.get(name, found) != found:
            words = name.replace("_", " ")
            raise ValueError(
                f"{weights} was trained with another {words} than {run} has; give weights of that run"
            )


def load_codec(folder: Path, name: str) -> Codec:
    """A vocabulary of a run folder with its tokeniser, `source` or `target`.

    Raises:
        DamagedFile: it is not the one that the run was started with, by the digest in its record. A folder without a record,
            of an earlier version, is not checked.
    """
    codec = Codec.load(folder, name)
    try:
        recorded = RunRecord.read(folder).data.get(f"{name}_vocabulary")
    except DamagedFile:
        recorded = None
    if recorded not in (None, vocabulary_digest(codec)):
        raise DamagedFile(
            f"{folder / name}.vocabulary.json was changed: it is not the vocabulary that the run was started with"
        )
    return codec
