"""Metrics that a run did not log, from the hypotheses it left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from softbellman import config
from softbellman.data import CaptionCorpus, Corpus
from softbellman.data.scenes import scenes_of
from softbellman.experiments.collect import Collection, FinishedRun, SystemResult, recorded_data
from softbellman.training.evaluation import METRICS, further_metrics
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import TRUTH
from softbellman.training.task import Task, load_task


def compute_missing(collection: Collection, names: Sequence[str]) -> Collection:
    """The runs with the named metrics of `evaluation.metrics` computed where their own settings did not ask for them.

    The data set is read once for each different way of reading it.

    Args:
        collection: see `collect_runs`.
        names: of `training.evaluation.METRICS`.

    Raises:
        ValueError: an unknown metric, `truth` of a run on other data than scenes, test data that changed since, or hypotheses
            that are not those of the test set; names the file.
        DataError: the data set cannot be read.
    """
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise ValueError(f"metric {unknown[0]!r} cannot be computed; these can: {', '.join(METRICS)}")
    tasks: dict[str, tuple[Task, str]] = {}

    def test_set(run: FinishedRun) -> Corpus | CaptionCorpus:
        settings = run.settings
        key = repr({key: value for key, value in config.flatten(settings).items() if key.startswith("data.")})
        if key not in tasks:
            task = load_task(settings.data)
            tasks[key] = task, task.digests()["test_data"]
        task, digest = tasks[key]
        if recorded_data(run).get("test_data", digest) != digest:
            raise ValueError(
                f"{run.path}: the test data are not those that the run was tested on; restore the files, or leave --compute out"
            )
        if settings.evaluation.drop_long:
            return task.test.drop_longer(settings.data.max_length, name="test")
        return task.test

    def completed(run: FinishedRun) -> FinishedRun:
        if TRUTH in names and run.settings.data.kind != "scenes":
            raise ValueError(
                f"{run.path}: {TRUTH} is of captions of scenes, and the run is on {run.settings.data.kind} data"
            )
        missing = [name for name in names if name not in run.settings.evaluation.measured]
        if not missing:
            return run
        test = test_set(run)
        systems = tuple(_completed(run, result, missing, test) for result in run.systems)
        return replace(run, systems=systems)

    return replace(collection, runs=tuple(map(completed, collection.runs)))


def _completed(
    run: FinishedRun, result: SystemResult, missing: Sequence[str], test: Corpus | CaptionCorpus
) -> SystemResult:
    lines = RunFolder(run.path).read_hypotheses(f"test-{result.stage}")
    if len(lines) != len(test):
        raise ValueError(
            f"{run.path}: the hypotheses of stage {result.stage} have {len(lines)} lines, the test set {len(test)}"
        )
    found = further_metrics(
        missing, lines, test.reference_texts, run.settings.evaluation, scenes=scenes_of(test)
    )
    computed = {f"test_{name}": value for name, value in found.items()}
    return replace(result, metrics={**result.metrics, **computed})
