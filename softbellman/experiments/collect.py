"""Finished run folders, read back: which systems a run compared on the test set, by which settings, with which numbers."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from softbellman import config
from softbellman.core.objects import is_object_name
from softbellman.payoffs.settings import WITHOUT_EFFECT
from softbellman.training.own_algorithm import algorithm_of
from softbellman.training.record import NAME as RECORD
from softbellman.training.record import RunRecord
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import MEAN_PAYOFF, Settings, follow_data

FlatSettings = Mapping[str, Any]
"""Settings by their dotted key, in the order of the settings classes."""

_MACHINE = (
    "seed", "threads", "keep_memory", "logits", "cuda_graphs", "device", "output", "cache", "algorithm",
    "preset", "process_timeout", "label", "actor_seed", "reader_seed",
)  # fmt: skip
"""Keys of the whole run that are no part of what a system is; the algorithm's name and its preset's keys are elsewhere."""
_APART = (
    "data.path",
    "data.captions",
    "data.names",
    "data.encoder",
    "data.encoder_weights",
    "evaluation.batch_size",
    "evaluation.metrics",
    *(f"payoff.{name}" for name in WITHOUT_EFFECT),
)
"""Keys that say where files lie, or what is computed beside the scores."""
_TRAINING_TEXT = (
    "train", "path", "captions", "features", "names", "encoder", "encoder_weights", "tokenizer", "vocabulary_size",
    "min_frequency", "max_length", "pairs", "empty_lines",
)  # fmt: skip
"""Keys of the data that leave the sentences and references of the validation and test sets as they are, or only say where
and in which form they lie."""
_FILE_NAMES = ("data.source", "data.target", "data.train", "data.dev", "data.test")
"""Keys that name files: generated data have none."""
_NO_METRICS = ("peak_memory_bytes",)


class UnfinishedRunError(ValueError):
    """A run without its comparison on the test set; the message is one line for the user."""


class OtherDataError(ValueError):
    """A run that was tested on another data set; the message is one line for the user."""


@dataclass(frozen=True)
class SystemResult:
    """One system of a finished run on the test set.

    Attributes:
        run: the run's folder.
        seed: of the run; of maximum likelihood that of its stage.
        system: name in tables, such as MLE, ERAC, or the run's label.
        stage: the stage whose selected actor was decoded.
        final: it is what the run ends with.
        settings: what decides the system.
        metrics: numbers by the name they were logged under: dev_bleu, test_bleu, length_ratio, test_...
        signature: sacrebleu's.
        start: seed of the maximum-likelihood actor that the run began with.
    """

    run: Path
    seed: int
    system: str
    stage: str
    final: bool
    settings: FlatSettings
    metrics: Mapping[str, float]
    signature: str
    start: int = 0


def _system(settings: Settings, stage: str, record: Mapping[str, Any]) -> str:
    """The name of a system: the run's label of what it ends with, else that of the algorithm."""
    final = stage == actor_stages(settings)[-1]
    return settings.label if final and settings.label else str(record["system"])


def algorithm_name(settings: Settings) -> str:
    """The algorithm of a run in the names of systems: the title of one of the user's own."""
    name = settings.algorithm
    return algorithm_of(settings).title if is_object_name(name) else name.upper()


@dataclass(frozen=True)
class FinishedRun:
    """A run folder, its settings and its systems in the order of its stages."""

    path: Path
    settings: Settings
    systems: tuple[SystemResult, ...]


@dataclass(frozen=True)
class Collection:
    """Runs of one data set.

    Attributes:
        runs: the finished ones.
        unfinished: a sentence about each of the others.
    """

    runs: tuple[FinishedRun, ...]
    unfinished: tuple[str, ...] = field(default=())


def collect_runs(paths: Iterable[str | Path]) -> Collection:
    """Read run folders; a folder named twice counts once.

    Raises:
        RunFolderError, ConfigError: a folder that is no run, or one with settings of another version.
        OtherDataError: two finished runs were tested on different data; names both and the first key that differs.
        UnfinishedRunError: none of the runs is finished.
    """
    runs: dict[Path, FinishedRun] = {}
    unfinished: list[str] = []
    for path in dict.fromkeys(map(Path, paths)):
        try:
            runs.setdefault(path.resolve(), read_run(path))
        except UnfinishedRunError as error:
            unfinished.append(str(error))
    if not runs:
        raise UnfinishedRunError(unfinished[0] if len(unfinished) == 1 else "none of the runs is finished")
    first, *others = runs.values()
    for other in others:
        check_same_data(first, other)
    return Collection(tuple(runs.values()), tuple(unfinished))


def read_run(path: str | Path) -> FinishedRun:
    """Read one run folder.

    Raises:
        RunFolderError, ConfigError: see `collect_runs`.
        UnfinishedRunError: a stage that trains the actor has no test record yet; names it.
    """
    folder = RunFolder.open(path)
    settings = follow_data(config.load(Settings, folder.config_path))
    stages = actor_stages(settings)
    records = {record["stage"]: record for record in folder.test_records()}
    for stage in stages:
        if stage not in records:
            place = shlex.quote(str(path))
            raise UnfinishedRunError(
                f"{path} is not finished: stage {stage} has no test record; softbellman-train --resume {place} continues it"
            )
    systems = tuple(
        SystemResult(
            run=folder.path,
            seed=settings.seed_of(stage),
            system=_system(settings, stage, records[stage]),
            stage=stage,
            final=stage == stages[-1],
            settings=deciding_settings(settings, stage),
            metrics={
                name: float(value)
                for name, value in records[stage].items()
                if isinstance(value, (int, float)) and name not in _NO_METRICS
            },
            signature=str(records[stage].get("signature", "")),
            start=settings.seed_of_network("actor"),
        )
        for stage in stages
    )
    return FinishedRun(folder.path, settings, systems)


def actor_stages(settings: Settings) -> list[str]:
    """The stages of a run after which its actor is compared on the test set, in order."""
    algorithm = algorithm_of(settings)
    return [name for name in algorithm.trained(settings) if algorithm.spec(name).trains_actor]


def deciding_settings(settings: Settings, stage: str) -> FlatSettings:
    """What decides the actor at the end of a stage, the seed and the place of files left out.

    After maximum likelihood these are data, model, precision, the stage itself and how it is selected, by the payoff as well
    where that selects. Later they are all that the algorithm uses.
    """
    algorithm = algorithm_of(settings)
    sections = {"data", "model", "precision", stage, "evaluation"}
    if settings.evaluation.select_by == MEAN_PAYOFF:
        sections.add("payoff")
    apart = {*_MACHINE, *_APART, *_nameless(settings)}

    def decides(key: str) -> bool:
        section = key.partition(".")[0]
        if algorithm.spec(stage).likelihood:
            return section in sections
        return algorithm.uses(key) and section not in ("checkpoint", "logging")

    return {
        key: value for key, value in config.flatten(settings).items() if decides(key) and key not in apart
    }


def _nameless(settings: Settings) -> tuple[str, ...]:
    return _FILE_NAMES if settings.data.kind in ("builtin", "scenes") else ()


def check_same_data(first: FinishedRun, other: FinishedRun) -> None:
    """Raises OtherDataError where two runs were not tested on the same sentences with the same references.

    A data set may lie in another folder now: paths that differ are the same data where the vocabularies are.
    """
    mine, theirs = (config.flatten(run.settings) for run in (first, other))
    nameless = _nameless(first.settings)
    for key in mine:
        if not key.startswith("data.") or key.removeprefix("data.") in _TRAINING_TEXT or key in nameless:
            continue
        if mine[key] != theirs[key]:
            raise _other_data(first, other, key, mine, theirs)
    key = "data.path"
    places = [Path(flat[key]).resolve() for flat in (mine, theirs)]
    if places[0] != places[1] and _vocabulary(first) != _vocabulary(other):
        raise _other_data(first, other, key, mine, theirs)
    digests = [recorded_data(run).get("test_data") for run in (first, other)]
    if all(digests) and digests[0] != digests[1] and _vocabulary(first) == _vocabulary(other):
        raise OtherDataError(
            f"{other.path} was tested on other data than {first.path}: the test sets were not the same when the "
            "runs were made; give each data set a table of its own"
        )


def recorded_data(run: FinishedRun) -> Mapping[str, str]:
    """Digests of what a run read, by name; empty where it has no record."""
    return RunRecord.read(run.path).data if (run.path / RECORD).is_file() else {}


def _vocabulary(run: FinishedRun) -> bytes:
    path = run.path / "target.vocabulary.json"
    return path.read_bytes() if path.is_file() else b""


def _other_data(
    first: FinishedRun, other: FinishedRun, key: str, mine: FlatSettings, theirs: FlatSettings
) -> OtherDataError:
    return OtherDataError(
        f"{other.path} was tested on other data than {first.path}: {key} is {theirs[key]!r}, not {mine[key]!r}; "
        "give each data set a table of its own"
    )


def signatures(results: Sequence[SystemResult]) -> list[str]:
    """The different sacrebleu signatures among results."""
    return list(dict.fromkeys(result.signature for result in results if result.signature))
