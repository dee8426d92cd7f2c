"""What a report says of many runs: sections of one test set each, systems with their spread, paired tests, verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from softbellman.experiments.collect import (
    FinishedRun,
    SystemResult,
    UnfinishedRunError,
    read_run,
    recorded_data,
    signatures,
)
from softbellman.experiments.contrasts import Contrast, Judge, find_groups
from softbellman.experiments.description import Experiment, experiment_of, folder_of
from softbellman.experiments.gather import find_runs
from softbellman.experiments.groups import Group, group_runs
from softbellman.experiments.orderings import DEFAULT_ORDERINGS, Step, parse_orderings
from softbellman.experiments.outputs import Measured, Outputs, TestSize, read_measured
from softbellman.experiments.resampling import RESAMPLED, RESAMPLES
from softbellman.experiments.summaries import summarise
from softbellman.experiments.tuning import Tuning, read_tuning
from softbellman.training.algorithms import ALGORITHMS
from softbellman.training.runfolder import RunFolderError
from softbellman.training.settings import TRUTH

_FIRST = ("test_bleu",)
_LAST = ("length_ratio", "dev_bleu")


class Spread(NamedTuple):
    """Some numbers: how many, mean, sample standard deviation (None of one), least, most."""

    size: int
    mean: float
    deviation: float | None
    least: float
    most: float


@dataclass(frozen=True)
class Section:
    """Runs that were tested on the same data.

    Attributes:
        title: of the experiment's part, or of the data.
        experiment: that the runs belong to.
        runs: the finished ones.
        sentences, references: sizes of the test set; the references are the fewest and the most of a sentence.
        groups: the systems, maximum likelihood first.
        metrics: what was logged about the test set, in the order of the columns.
        tested: those of them that have paired tests.
        baselines: each system against its direct baseline, by the system's name.
        steps: each step of an ordering with its contrast.
        signatures: of sacrebleu.
        warnings: sentences about what does not fit together.
        tuning: the trials that chose settings of these systems; None where nothing was chosen.
    """

    title: str
    experiment: Experiment | None
    runs: tuple[FinishedRun, ...]
    sentences: int
    references: tuple[int, int]
    groups: tuple[Group, ...]
    metrics: tuple[str, ...]
    tested: tuple[str, ...]
    baselines: Mapping[str, Contrast]
    steps: Mapping[Step, Contrast]
    signatures: tuple[str, ...]
    warnings: tuple[str, ...]
    tuning: Tuning | None


@dataclass(frozen=True)
class Study:
    """All sections, and a sentence about each run that is left out."""

    sections: tuple[Section, ...]
    left_out: tuple[str, ...]


def spread(values: Iterable[float]) -> Spread | None:
    """The spread of some numbers; None of nothing."""
    numbers = list(values)
    summary = summarise(numbers)
    return None if summary is None else Spread(*summary, min(numbers), max(numbers))


def build_study(
    paths: Sequence[str | Path],
    *,
    baseline: str = "",
    orderings: Sequence[str] = (),
    resamples: int = RESAMPLES,
) -> Study:
    """Read the runs among and below some folders.

    Args:
        paths: run folders, folders of experiments, or the compact form of either.
        baseline: what every system is compared with; empty: what its experiment says, else maximum likelihood.
        orderings: what gets a verdict; empty: those of the experiment, else the paper's.
        resamples: of each test.

    Raises:
        RunFolderError, ConfigError: a folder that is no run and has none below, a file that cannot be read.
        UnfinishedRunError: none of the runs is finished.
        ValueError: an ordering that is none, or a baseline that no section has.
    """
    parse_orderings(orderings)
    parts: dict[tuple[str, str, str], list[tuple[FinishedRun, Mapping[str, Outputs | Measured]]]] = {}
    experiments: dict[tuple[str, str, str], Experiment | None] = {}
    left_out: list[str] = []
    unread: list[str] = []
    for path in find_runs(paths):
        try:
            run = read_run(path)
        except UnfinishedRunError as error:
            left_out.append(str(error))
            continue
        outputs, complaints = _outputs(run)
        unread += complaints
        experiment, part = experiment_of(path)
        digest = next(iter(outputs.values())).digest if outputs else recorded_data(run).get("test_data", "")
        key = (experiment.title if experiment else "", part, digest)
        parts.setdefault(key, []).append((run, outputs))
        experiments[key] = experiment
    if not parts:
        raise UnfinishedRunError(left_out[0] if len(left_out) == 1 else "none of the runs is finished")
    sections = [
        _section(key, members, experiments[key], baseline, orderings, resamples)
        for key, members in parts.items()
    ]
    if baseline and not any(section.baselines for section in sections):
        names = dict.fromkeys(group.name for section in sections for group in section.groups)
        raise ValueError(f"--baseline {baseline!r} is none of the systems: {', '.join(map(repr, names))}")
    return Study(tuple(_named_apart(sections)), (*left_out, *unread))


def _outputs(run: FinishedRun) -> tuple[dict[str, Outputs | Measured], list[str]]:
    """The outputs of each stage that has them, and a sentence about each that has not."""
    found: dict[str, Outputs | Measured] = {}
    complaints = []
    for result in run.systems:
        try:
            found[result.stage] = outputs = read_measured(run.path, result.stage)
            if f"test_{TRUTH}" in result.metrics and (problem := outputs.lacks(TRUTH)):
                complaints.append(f"no paired test of the truth of {result.system} in {run.path}: {problem}")
        except (RunFolderError, OSError) as error:
            complaints.append(f"no paired test of {result.system} in {run.path}: {error}")
    return found, complaints


def _section(
    key: tuple[str, str, str],
    members: Sequence[tuple[FinishedRun, Mapping[str, Outputs | Measured]]],
    experiment: Experiment | None,
    baseline: str,
    orderings: Sequence[str],
    resamples: int,
) -> Section:
    runs = sorted((run for run, _ in members), key=_rank(experiment))
    outputs = {(run.path, stage): found for run, by_stage in members for stage, found in by_stage.items()}
    grouping = group_runs(runs)
    groups = grouping.groups
    results = [result for group in groups for result in group.results.values()]
    metrics = _metrics(results)
    tested = tuple(
        name.removeprefix("test_") for name in metrics if name.removeprefix("test_") in RESAMPLED
    ) if outputs else ()  # fmt: skip
    judge = Judge(outputs, {run.path: run.settings.evaluation.tokenize for run in runs}, tested, resamples)
    first = next(iter(outputs.values()), None)
    size = first.size if first else TestSize(0, 0, 0)
    signed = tuple(signatures(results))
    warnings = [*grouping.conflicts, *_data_conflicts(runs), *judge.check_logged(results)]
    if len(signed) > 1:
        warnings.append(f"BLEU was not computed alike in all runs: {'; '.join(signed)}")
    return Section(
        title=_title(key, runs[0]), experiment=experiment, runs=tuple(runs),
        sentences=size.sentences, references=(size.fewest, size.most),
        groups=groups, metrics=metrics, tested=tested, baselines=_baselines(groups, judge, experiment, baseline),
        steps=_steps(groups, judge, orderings or (experiment.orderings if experiment else ()) or DEFAULT_ORDERINGS),
        signatures=signed, warnings=tuple(warnings), tuning=_tuning(key[1], runs),
    )  # fmt: skip


def _tuning(part: str, runs: Sequence[FinishedRun]) -> Tuning | None:
    """The choices of a part, by the first folder that has some."""
    folders = dict.fromkeys(folder_of(run.path) for run in runs)
    tunings = (read_tuning(folder) for folder in folders if folder)
    return next((tuning.of_part(part) for tuning in tunings if tuning), None)


def _rank(experiment: Experiment | None) -> Callable[[FinishedRun], tuple[int, int]]:
    """Order of systems: as the experiment has them, else by algorithm; the runs of each by seed."""
    algorithms = list(ALGORITHMS)
    names = experiment.names() if experiment else []

    def rank(run: FinishedRun) -> tuple[int, int]:
        name = run.systems[-1].system
        algorithm = run.settings.algorithm
        known = algorithms.index(algorithm) if algorithm in algorithms else len(algorithms)
        place = names.index(name) if name in names else len(names) + known
        return place, run.settings.seed

    return rank


def _baselines(
    groups: Sequence[Group], judge: Judge, experiment: Experiment | None, asked: str
) -> dict[str, Contrast]:
    """Each system against its baseline: the one that is asked for, the experiment's, or the start of its runs."""
    found = {}
    for group in groups:
        if not asked and all(result.stage == "actor" for result in group.results.values()):
            continue
        wanted = asked or (experiment.baseline_of(group.name) if experiment else "MLE")
        others = [other for other in find_groups(groups, wanted) if other is not group]
        contrast = judge.contrast(group, others)
        if contrast is not None:
            found[group.name] = contrast
    return found


def _steps(groups: Sequence[Group], judge: Judge, orderings: Sequence[str]) -> dict[Step, Contrast]:
    """The steps of which both systems are there; a name of several systems makes a step of each."""
    found = {}
    for step in parse_orderings(orderings):
        for better in find_groups(groups, step.better):
            contrast = judge.contrast(better, find_groups(groups, step.worse))
            if contrast is not None:
                found[Step(contrast.baseline, better.name)] = contrast
    return found


def _metrics(results: Sequence[SystemResult]) -> tuple[str, ...]:
    """Columns: the test scores, then what else was logged."""
    logged = dict.fromkeys(name for result in results for name in result.metrics)
    middle = [name for name in logged if name not in _FIRST + _LAST]
    return tuple(name for name in (*_FIRST, *middle, *_LAST) if name in logged)


def _data_conflicts(runs: Sequence[FinishedRun]) -> list[str]:
    """A sentence for each part of the data that is not the same in all runs."""
    by_name: dict[str, dict[str, list[FinishedRun]]] = {}
    for run in runs:
        for name, digest in recorded_data(run).items():
            by_name.setdefault(name, {}).setdefault(digest, []).append(run)
    return [
        f"the {name.replace('_', ' ')} is not the same in all runs: {digests[0][:12]} in {found[digests[0]][0].path}, "
        f"{digests[1][:12]} in {found[digests[1]][0].path}"
        for name, found in by_name.items()
        if len(digests := list(found)) > 1
    ]


def _title(key: tuple[str, str, str], run: FinishedRun) -> str:
    title, part, _ = key
    if title:
        return f"{title}: {part}"
    data = run.settings.data
    if data.kind in ("builtin", "scenes"):
        return {"builtin": "built-in corpus", "scenes": "scenes"}[
            data.kind
        ] + f", difficulty {data.difficulty:g}"
    return f"{Path(data.path).name or Path(data.kind).name}, {data.test}"


def _named_apart(sections: Sequence[Section]) -> list[Section]:
    """Sections of one title get a number, as two test sets of one name are not the same."""
    titles = [section.title for section in sections]
    named = []
    for number, section in enumerate(sections):
        if titles.count(section.title) == 1:
            named.append(section)
            continue
        count = titles[: number + 1].count(section.title)
        warning = (
            f"{section.title} has runs that were tested on different data; they are in sections of their own"
        )
        named.append(
            replace(section, title=f"{section.title} ({count})", warnings=(*section.warnings, warning))
        )
    return named
