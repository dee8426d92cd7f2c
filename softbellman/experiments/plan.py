"""From an experiment to its runs: settings, folders, and the stages that runs share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from softbellman import config
from softbellman.config import ConfigError
from softbellman.experiments.description import Condition, Experiment, Part, file_name, split_setting
from softbellman.training.cache import deciding_facts
from softbellman.training.lock import NAME as LOCK
from softbellman.training.lock import FolderLock, LockedError
from softbellman.training.own_algorithm import algorithm_of, find_algorithm
from softbellman.training.record import NAME as RECORD
from softbellman.training.record import RunRecord
from softbellman.training.resumption import ResumeError, changed_settings, check_brought
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import Settings

Override = tuple[str, str]
Resolve = Callable[[Sequence[str], Sequence[Override]], Settings]
"""Settings files by their names, a later one over an earlier one, and settings over them, to the settings of a run."""

Chosen = Mapping[tuple[str, str], Sequence[str]]
"""Settings as KEY=VALUE, by the names of part and condition."""

State = Literal["new", "begun", "running", "finished"]


@dataclass(frozen=True)
class Job:
    """One run of an experiment.

    Attributes:
        name: part and condition with the seed, as its folder is called.
        part: its name.
        condition: the condition's full name.
        seed: of the run.
        settings: all of them.
        folder: of the run.
        shared: hash of what goes into each stage that other runs may share, by stage.
    """

    name: str
    part: str
    condition: str
    seed: int
    settings: Settings
    folder: RunFolder
    shared: Mapping[str, str]

    def unfinished(self) -> set[str]:
        """Hashes of the shared stages that this run has not ended yet."""
        return {key for stage, key in self.shared.items() if not self._has_ended(stage)}

    def _has_ended(self, stage: str) -> bool:
        newest = self.folder.newest_checkpoint(stage)
        return newest is not None and bool(newest.ended)

    def state(self) -> State:
        """How far the run is, as its folder says."""
        path = self.folder.path
        if not (path / RECORD).is_file():
            return "new"
        if (path / LOCK).exists():
            try:
                with FolderLock(path):
                    pass
            except LockedError:
                return "running"
        sessions = RunRecord.read(path).sessions
        return "finished" if sessions and sessions[-1]["status"] == "finished" else "begun"


@dataclass(frozen=True)
class Plan:
    """The runs of an experiment in the order they are begun, and a sentence about each part that is left out."""

    jobs: tuple[Job, ...]
    left_out: tuple[str, ...]


def make_plan(
    experiment: Experiment,
    root: str | Path,
    *,
    resolve: Resolve,
    size: str = "small",
    data: Mapping[str, str] | None = None,
    overrides: Sequence[Override] = (),
    cache: str = "",
    runs: int = 0,
    seeds: Sequence[int] = (),
    chosen: Chosen | None = None,
    checked: bool = True,
) -> Plan:
    """Every run of every condition in every part whose data are there.

    First runs come first, so that a part of the experiment is a smaller experiment and not one condition of it.

    Args:
        experiment: what is run.
        root: folder of the experiment.
        resolve: how settings are read.
        size: parts of the other size are not run.
        data: folders of data sets, by their names.
        overrides: settings over those of the experiment, for every algorithm that uses them.
        cache: folder of shared stages; empty: `cache` in the experiment's folder.
        runs: of every condition; 0: as the experiment says.
        seeds: of the runs of every condition, in place of 1, 2, ...
        chosen: settings by part and condition, over those of the condition.
        checked: False: data sets that no part reads, and settings that no condition uses, are passed over.

    Raises:
        ConfigError: settings that cannot be used, two conditions of one folder name, a data set that no part names, or no part
            whose data are there.
        ResumeError: a run that was begun with other settings; names it.
    """
    data = data or {}
    parts = [part for part in experiment.parts if part.size in ("", size)]
    known = list(dict.fromkeys(part.data for part in parts if part.data))
    for name in data:
        if checked and name not in known:
            raise ConfigError(
                f"--data {name}: with --size {size} the experiment reads {', '.join(known) or 'no files'}"
            )
    _check_own(experiment, parts, overrides)
    left_out = []
    jobs: list[tuple[int, Job]] = []
    common = [*overrides, ("cache", cache or str(Path(root) / "cache"))]
    for part in parts:
        if part.data and part.data not in data:
            left_out.append(f"part {part.name} is left out; --data {part.data}=DIR gives its data")
            continue
        own = [*common, ("data.path", data[part.data])] if part.data else common
        jobs += _jobs_of(experiment, part, Path(root), resolve, own, runs, seeds, chosen or {})
    if not jobs:
        raise ConfigError("; ".join(left_out) or f"the experiment has no part of --size {size}")
    _check_names([job for _, job in jobs])
    if checked:
        _check_keys(parts, overrides, {job.settings.algorithm for _, job in jobs})
    ordered = tuple(job for _, job in sorted(jobs, key=lambda entry: entry[0]))
    for job in ordered:
        _check_begun(job)
    return Plan(ordered, tuple(left_out))


def check_distinct(systems: Iterable[tuple[str, Settings]], where: str) -> None:
    """Refuse values that are written otherwise and mean the same, such as 0.1 and 0.10.

    Args:
        systems: for each combination of the values its words and its settings.
        where: what names the values, for the sentence.

    Raises:
        ConfigError: two have the same settings.
    """
    words_of: dict[str, str] = {}
    for words, settings in systems:
        same = config.dump(settings)
        if same in words_of:
            raise ConfigError(f"{where}: {words_of[same]} and {words} are the same settings; leave one out")
        words_of[same] = words


def _check_values(condition: Condition, part: Part, resolve: Resolve) -> None:
    """Raises ConfigError where two values of a condition's `vary` are the same settings."""
    if condition.vary:
        names = _files_of(part, condition)
        given = [single.set for single in condition.taken_apart()]
        check_distinct(
            (
                (", ".join(own[len(condition.set) :]), resolve(names, [*map(split_setting, own)]))
                for own in given
            ),
            f"condition {condition.name!r}",
        )


def _jobs_of(
    experiment: Experiment,
    part: Part,
    root: Path,
    resolve: Resolve,
    common: Sequence[Override],
    runs: int,
    seeds: Sequence[int],
    chosen: Chosen,
) -> Iterator[tuple[int, Job]]:
    for condition in experiment.conditions:
        if not part.conditions or condition.name in part.conditions:
            _check_values(condition, part, resolve)
    for condition in experiment.conditions_of(part):
        tried = chosen.get((part.name, condition.name), ())
        condition = replace(condition, set=(*condition.set, *tried))
        resolved = _resolver_of(resolve, part, condition)
        for number in seeds or range(1, experiment.runs_of(part, condition, asked=runs) + 1):
            name = f"{file_name(part.name)}/{file_name(condition.name)}-{number}"
            own = [
                *stage_seeds(number, experiment.actors),
                ("seed", str(number)),
                ("label", condition.name),
                ("output", str(root / name)),
            ]
            settings = resolved([*common, *own])
            settings = algorithm_of(settings).settle(settings)
            shared = {
                stage: hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
                for stage in algorithm_of(settings).trained(settings)
                if (facts := deciding_facts(settings, stage)) is not None
            }
            yield (
                number,
                Job(name, part.name, condition.name, number, settings, RunFolder(root / name), shared),
            )


def _files_of(part: Part, condition: Condition) -> list[str]:
    """The settings files of a condition in a part, a later one over an earlier one."""
    return [f"{part.prefix}{condition.config}", *filter(None, [part.config])]


def _resolver_of(
    resolve: Resolve, part: Part, condition: Condition
) -> Callable[[Sequence[Override]], Settings]:
    """From what is given for all conditions to the settings of one; what its algorithm does not use is left out."""
    names = _files_of(part, condition)
    own = [split_setting(text) for text in condition.set]
    algorithm = algorithm_of(resolve(names, own))
    below = [split_setting(text) for text in part.set]

    def resolved(over: Sequence[Override]) -> Settings:
        wide = [[(key, value) for key, value in given if algorithm.uses(key)] for given in (below, over)]
        return resolve(names, [*wide[0], *own, *wide[1]])

    return resolved


def stage_seeds(number: int, actors: int) -> list[Override]:
    """The seeds of the stages that are shared: each round of runs takes every actor, with the next critic or oracle.

    The first round has an actor and a critic of its own for each run, as if nothing were shared.

    Example:
        >>> [dict(stage_seeds(number, 3)) for number in (3, 4)]
        [{'actor_seed': '3', 'reader_seed': '3'}, {'actor_seed': '1', 'reader_seed': '2'}]
    """
    if not actors:
        return []
    round_, place = divmod(number - 1, actors)
    return [("actor_seed", str(place + 1)), ("reader_seed", str((place + round_) % actors + 1))]


def _check_own(experiment: Experiment, parts: Sequence[Part], overrides: Sequence[Override]) -> None:
    """Raises where a setting is given that the experiment itself gives every run, and which would change nothing."""
    own = {
        "seed": "each run has its own; --seeds says which",
        "label": "a run has the name of its condition",
        "output": "each run has its own folder in that of the experiment; --output says where that is",
    }
    if experiment.actors:
        shared = f"with actors: {experiment.actors} the number of a run decides it"
        own |= {"actor_seed": shared, "reader_seed": shared}
    within = own | {"cache": "--cache says where shared stages are"}
    given = [(f"--{key}", key, own) for key, _ in overrides]
    for part in parts:
        of_data = {"data.path": f"--data {part.data}=DIR gives it"} if part.data else {}
        given += [(f"part {part.name!r}", split_setting(text)[0], within | of_data) for text in part.set]
        for condition in experiment.conditions_of(part):
            where = f"condition {condition.name!r}"
            words = [*condition.set, *condition.choose, *condition.vary]
            given += [(where, split_setting(text)[0], within | of_data) for text in words]
    for where, key, kept in given:
        if key in kept:
            raise ConfigError(f"{where}: {key} cannot be set for an experiment: {kept[key]}")


def _check_names(jobs: Sequence[Job]) -> None:
    names = [job.name for job in jobs]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"two conditions would have the folder {twice[0]}; name them otherwise")


def _check_keys(parts: Sequence[Part], overrides: Sequence[Override], algorithms: set[str]) -> None:
    """What goes over all conditions is left out where one has no use for it; it must be a setting, and of use to some."""
    known = [key.name for key in config.describe(Settings)]
    for key in (key for part in parts for key, _ in map(split_setting, part.set)):
        if not _is_setting(key, known):
            raise ConfigError(f"unknown key {key!r}; nearest: {config.nearest(key, known)!r}")
    for key, _ in overrides:
        if not _is_setting(key, known):
            raise ConfigError(f"--{key}: unknown key {key!r}; nearest: {config.nearest(key, known)!r}")
        if not any(find_algorithm(name).uses(key) for name in algorithms):
            raise ConfigError(
                f"--{key}: no condition uses it; the algorithms are {', '.join(sorted(algorithms))}"
            )


def _is_setting(key: str, known: Sequence[str]) -> bool:
    """Whether a key is one of the settings, or lies within options of the user's own, whose keys are checked by its code."""
    return key in known or key.startswith(("stages.", "model.options."))


def _check_begun(job: Job) -> None:
    """Raises where a run was begun with settings that it would not have now."""
    if job.state() == "new":
        return
    record = RunRecord.read(job.folder.path)
    try:
        changed_settings(record, job.settings)
        check_brought(record, job.settings)
    except ResumeError as error:
        raise ResumeError(
            f"{job.folder.path} was begun with other settings; give another --output. {error}"
        ) from None
