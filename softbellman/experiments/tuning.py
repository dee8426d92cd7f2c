"""Settings chosen on validation data: the trials of an experiment's conditions, and what they chose.

A condition with `choose` has a trial for each value, or for each combination. Trials are runs of their own seeds, in a folder
beside the experiment's. The best mean validation score wins, the first of equal ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from softbellman import config
from softbellman.config import ConfigError
from softbellman.core.files import write_atomically
from softbellman.experiments.collect import FinishedRun, read_run
from softbellman.experiments.description import Condition, Experiment, Part
from softbellman.experiments.plan import Chosen, Job
from softbellman.training.settings import SMALLER_IS_BETTER

NAME = "chosen.yaml"
"""The file of an experiment's folder that says what was chosen."""


@dataclass(frozen=True)
class Trial:
    """Some settings that were tried."""

    set: tuple[str, ...]
    """The settings, as KEY=VALUE."""
    scores: tuple[float, ...]
    """Validation score of each seed."""

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return sum(self.scores) / len(self.scores)


@dataclass(frozen=True)
class Choice:
    """The trials of a condition in a part."""

    part: str
    """Name of the part."""
    condition: str
    """Name of the condition."""
    trials: tuple[Trial, ...]
    """All of them, in the order of the values."""
    by: str = "bleu"
    """The metric of the validation set that decided: `evaluation.select_by` of the trials."""

    @property
    def best(self) -> Trial:
        """What was chosen."""
        return self._ordered[0]

    @property
    def worst(self) -> Trial:
        """The least of them."""
        return self._ordered[-1]

    @property
    def _ordered(self) -> list[Trial]:
        """From best to worst, equal ones as they were tried."""
        return sorted(self.trials, key=lambda trial: trial.mean, reverse=self.by not in SMALLER_IS_BETTER)


@dataclass(frozen=True)
class Tuning:
    """Every choice of an experiment."""

    seeds: tuple[int, ...]
    """Of the trials."""
    choices: tuple[Choice, ...]
    """By part and condition."""

    def settings(self) -> Chosen:
        """What the runs of each condition get."""
        return {(choice.part, choice.condition): choice.best.set for choice in self.choices}

    def of_part(self, part: str) -> Tuning | None:
        """The choices of one part alone; None where it has none."""
        choices = tuple(choice for choice in self.choices if choice.part == part)
        return replace(self, choices=choices) if choices else None


def trials_of(experiment: Experiment) -> Experiment | None:
    """The experiment that tries the values of `choose`; None where no condition has any."""
    conditions = tuple(
        replace(condition, vary=condition.choose, choose=(), runs=0)
        for condition in experiment.conditions
        if condition.choose
    )
    if not conditions:
        return None
    names = {condition.name for condition in conditions}
    parts = [
        replace(part, conditions=tuple(name for name in part.conditions if name in names))
        for part in experiment.parts
        if not part.conditions or names & set(part.conditions)
    ]
    return replace(
        experiment,
        title=f"{experiment.title}: trials",
        conditions=conditions,
        parts=tuple(parts),
        orderings=(),
        actors=0,
        tuning_seeds=(),
    )


def check_seeds(experiment: Experiment, jobs: Iterable[Job]) -> None:
    """Raises ConfigError where a run that is reported has a seed of the trials."""
    twice = {job.seed for job in jobs} & set(experiment.tuning_seeds)
    if twice:
        raise ConfigError(
            f"seed {min(twice)} would choose settings and be reported; give fewer runs, or other tuning_seeds"
        )


def choose(trials: Experiment, jobs: Sequence[Job]) -> Tuning:
    """What the finished trials say.

    Args:
        trials: what `trials_of` gives.
        jobs: its runs.

    Raises:
        UnfinishedRunError: a trial is not finished; names it.
        ConfigError: the trials of a condition are judged by different metrics.
    """
    runs = {(job.part, job.condition, job.seed): read_run(job.folder.path) for job in jobs}
    seeds = tuple(dict.fromkeys(job.seed for job in jobs))
    parts = dict.fromkeys(job.part for job in jobs)
    choices = [
        _choice(part, condition, seeds, runs)
        for part in trials.parts
        if part.name in parts
        for condition in trials.conditions
        if not part.conditions or condition.name in part.conditions
    ]
    return Tuning(seeds, tuple(choices))


def _choice(
    part: Part, whole: Condition, seeds: Sequence[int], runs: Mapping[tuple[str, str, int], FinishedRun]
) -> Choice:
    tried = {
        single.set[len(whole.set) :]: [runs[part.name, single.name, seed] for seed in seeds]
        for single in whole.taken_apart()
    }
    metrics = {run.settings.evaluation.select_by for found in tried.values() for run in found}
    if len(metrics) > 1:
        raise ConfigError(
            f"the trials of {whole.name!r} cannot be compared: evaluation.select_by is {' and '.join(sorted(metrics))}"
        )
    (by,) = metrics
    scored = [
        Trial(values, tuple(run.systems[-1].metrics[f"dev_{by}"] for run in found))
        for values, found in tried.items()
    ]
    return Choice(part.name, whole.name, tuple(scored), by)


def write_tuning(tuning: Tuning, folder: Path) -> None:
    """Keep what was chosen, and from what, in the folder of an experiment."""
    write_atomically(folder / NAME, config.dump(tuning).encode())


def read_tuning(folder: Path) -> Tuning | None:
    """What was chosen for the experiment of a folder; None where nothing was."""
    path = folder / NAME
    if not path.is_file():
        return None
    tuning: Tuning = config.load(Tuning, path)
    return tuning
