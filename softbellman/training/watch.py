"""Looks at the health of a run while it is trained, and tells what it sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from softbellman.training.algorithms import Algorithm
from softbellman.training.diagnosis import Diagnosis, diagnose, diagnose_run
from softbellman.training.observer import Observer, Observers
from softbellman.training.runfolder import RunFolder


class HealthWatch(Observers):
    """Tells observers what a run does, and from its records how it fares.

    Args:
        folder: of the run.
        observers: who is told.
        algorithm: of the run.
    """

    def __init__(self, folder: RunFolder, observers: Sequence[Observer], algorithm: Algorithm) -> None:
        super().__init__(observers)
        self._folder, self._algorithm = folder, algorithm
        self._found: dict[str, tuple[str, ...]] = {}

    def validated(self, stage: str, epoch: float, metrics: Mapping[str, float], *, best: bool) -> None:
        """Tells all, then what is wrong with the actor, or is no longer; of a critic that still learns little can be said."""
        super().validated(stage, epoch, metrics, best=best)
        spec = self._algorithm.spec(stage)
        diagnosis = diagnose(self._folder.read_metrics(), spec) if spec.trains_actor else None
        if diagnosis is not None and self._is_news(diagnosis):
            self.diagnosed(diagnosis, final=False)

    def stage_ended(self, stage: str, folder: RunFolder) -> None:
        """Tells all, then whether the stage is normal or broken."""
        super().stage_ended(stage, folder)
        for diagnosis in diagnose_run(folder, [self._algorithm.spec(stage)]):
            self.diagnosed(diagnosis, final=True)

    def _is_news(self, diagnosis: Diagnosis) -> bool:
        found = tuple(finding.rule for finding in diagnosis.findings)
        before = self._found.get(diagnosis.stage, ())
        self._found[diagnosis.stage] = found
        return found != before
