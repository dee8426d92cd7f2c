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
from softbellman.experiments.collect import read_run
from softbellman.experiments.description import Experiment, Part
from softbellman.experiments.plan import Chosen, Job

NAME = "chosen.yaml"
"""The file of an experiment's folder that says what was chosen."""
SCORE = "dev_bleu"
"""What decides, as it was logged."""


@dataclass(frozen=True)
class Trial:
    """Some settings that were tried."""

    set: tuple[str, ...]
    """The settings, as KEY=VALUE."""
    scores: tuple[float, ...]
    """Validation BLEU of each seed."""

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

    @property
    def best(self) -> Trial:
        """What was chosen."""
        return max(self.trials, key=lambda trial: trial.mean)


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
    """
    scores = {
        (job.part, job.condition, job.seed): read_run(job.folder.path).systems[-1].metrics[SCORE]
        for job in jobs
    }
    seeds = tuple(dict.fromkeys(job.seed for job in jobs))
    parts = dict.fromkeys(job.part for job in jobs)
    choices = [
        Choice(part.name, condition.name, tuple(_trials(part, condition.name, trials, seeds, scores)))
        for part in trials.parts
        if part.name in parts
        for condition in trials.conditions
        if not part.conditions or condition.name in part.conditions
    ]
    return Tuning(seeds, tuple(choices))


def _trials(
    part: Part,
    condition: str,
    trials: Experiment,
    seeds: Sequence[int],
    scores: Mapping[tuple[str, str, int], float],
) -> Iterable[Trial]:
    (whole,) = (entry for entry in trials.conditions if entry.name == condition)
    for single in whole.taken_apart():
        tried = single.set[len(whole.set) :]
        yield Trial(tried, tuple(scores[part.name, single.name, seed] for seed in seeds))


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
