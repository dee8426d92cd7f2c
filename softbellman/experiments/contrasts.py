"""Two systems of many runs against each other: which run is compared with which, and the paired tests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from softbellman.experiments.collect import SystemResult
from softbellman.experiments.groups import Group
from softbellman.experiments.outputs import Measured, Outputs
from softbellman.experiments.resampling import RESAMPLED, Array, PairedTest, kind_of, paired_test
from softbellman.training.settings import TRUTH

_ROUNDING = 0.02
"""Scores that were logged and those from the hypotheses may differ by this much."""

_CHECKED = {"bleu": "BLEU", TRUTH: "% true captions"}
"""Metrics whose scores are compared with what was logged."""


class Pair(NamedTuple):
    """A run of a system and the run of its baseline that it is compared with."""

    system: SystemResult
    baseline: SystemResult


@dataclass(frozen=True)
class Contrast:
    """A system against a baseline.

    Attributes:
        system, baseline: their names.
        pairs: the runs, by seed.
        tests: by metric; each has the pairs in this order.
        unpaired: seeds of the system that no run of the baseline goes with.
    """

    system: str
    baseline: str
    pairs: tuple[Pair, ...]
    tests: Mapping[str, PairedTest]
    unpaired: tuple[int, ...]


def find_groups(groups: Sequence[Group], name: str) -> list[Group]:
    """The group of that name, else those of that algorithm or label, in any case."""
    wanted = name.casefold()
    exact = [group for group in groups if group.name.casefold() == wanted]
    return exact or [group for group in groups if group.system.casefold() == wanted]


class Judge:
    """Tests systems of one test set; statistics of the same hypotheses are computed once.

    Args:
        outputs: by run folder and stage.
        tokenize: sacrebleu's tokeniser, by run folder.
        metrics: of `RESAMPLED`.
        resamples: of each test.
    """

    def __init__(
        self,
        outputs: Mapping[tuple[Path, str], Outputs | Measured],
        tokenize: Mapping[Path, str],
        metrics: Sequence[str],
        resamples: int,
    ) -> None:
        self._outputs, self._tokenize, self._metrics, self._resamples = outputs, tokenize, metrics, resamples
        self._known: dict[tuple[str, str, str], Array] = {}

    def contrast(self, group: Group, baselines: Sequence[Group]) -> Contrast | None:
        """A system against the one of some groups that its runs go with; None where no run has a partner.

        A run is compared with its own start, with the run of its seed, or with a run of the same start, the first there is.
        """
        pairs: list[Pair] = []
        unpaired = []
        name = ""
        for seed, result in group.results.items():
            found = _partner(result, seed, baselines)
            if found is None or not self._has_outputs(result) or not self._has_outputs(found[1]):
                unpaired.append(seed)
                continue
            name = name or found[0].name
            if found[0].name == name:
                pairs.append(Pair(result, found[1]))
            else:
                unpaired.append(seed)
        if not pairs or group.name == name:
            return None
        return Contrast(group.name, name, tuple(pairs), self._tests(pairs), tuple(unpaired))

    def _tests(self, pairs: Sequence[Pair]) -> dict[str, PairedTest]:
        return {
            metric: paired_test(
                RESAMPLED[metric],
                [
                    (self.statistics(pair.system, metric), self.statistics(pair.baseline, metric))
                    for pair in pairs
                ],
                starts=[pair.system.start for pair in pairs],
                resamples=self._resamples,
            )
            for metric in self._metrics
            if all(self._has(side, metric) for pair in pairs for side in pair)
        }

    def statistics(self, result: SystemResult, metric: str) -> Array:
        """The statistics of a system's outputs, `[N, S]`."""
        outputs = self._outputs[result.run, result.stage]
        tokenize, kind = self._tokenize[result.run], kind_of(metric)
        same = (
            hashlib.sha256("\n".join(outputs.hypotheses).encode()).hexdigest()
            if isinstance(outputs, Outputs)
            else str(result.run / result.stage)
        )
        key = (kind, same, tokenize)
        if key not in self._known:
            self._known[key] = outputs.statistics(kind, tokenize)
        return self._known[key]

    def _has(self, result: SystemResult, metric: str) -> bool:
        """Whether a metric was logged, and its statistics are there."""
        outputs = self._outputs[result.run, result.stage]
        return f"test_{metric}" in result.metrics and not outputs.lacks(kind_of(metric))

    def check_logged(self, results: Sequence[SystemResult]) -> list[str]:
        """A sentence about each run whose hypotheses do not give the score that was logged."""
        found = []
        checked = [metric for metric in _CHECKED if metric in self._metrics]
        for result in filter(self._has_outputs, results):
            for metric in filter(partial(self._has, result), checked):
                logged = result.metrics[f"test_{metric}"]
                score = float(RESAMPLED[metric].score(self.statistics(result, metric).sum(0)))
                if abs(score - logged) > _ROUNDING:
                    found.append(
                        f"{result.run}: the hypotheses of {result.system} give {score:.2f} {_CHECKED[metric]}, "
                        f"{logged:.2f} was logged; one of the two files was changed"
                    )
        return found

    def _has_outputs(self, result: SystemResult) -> bool:
        return (result.run, result.stage) in self._outputs


def _partner(
    result: SystemResult, seed: int, baselines: Sequence[Group]
) -> tuple[Group, SystemResult] | None:
    for group in baselines:  # the start of the run itself
        if result.run in group.by_run:
            return group, group.by_run[result.run]
    for group in baselines:
        if seed in group.results:
            return group, group.results[seed]
    for group in baselines:
        for other in group.results.values():
            if other.start == result.start:
                return group, other
    return None
