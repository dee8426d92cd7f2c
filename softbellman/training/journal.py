"""log.txt of a run folder: what a run tells, with the time, whatever is shown on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from softbellman.training.diagnosis import Diagnosis
from softbellman.training.observer import Observer
from softbellman.training.result import RunResult
from softbellman.training.runfolder import RunFolder


class Journal(Observer):
    """Writes the news of a run to its folder.

    Args:
        folder: the folder; it exists when the first news comes.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def started(self, facts: Sequence[str]) -> None:
        """One line for each fact."""
        for fact in facts:
            self._folder.note(fact)

    def validated(self, stage: str, epoch: float, metrics: Mapping[str, float], *, best: bool) -> None:
        """One line with all metrics."""
        numbers = " ".join(f"{name} {value:.6g}" for name, value in metrics.items())
        self._folder.note(f"{stage} epoch {epoch:.2f}{' (best)' if best else ''}: {numbers}")

    def diagnosed(self, diagnosis: Diagnosis, *, final: bool) -> None:
        """One line."""
        self._folder.note(diagnosis.line(final=final))

    def warned(self, message: str) -> None:
        """One line."""
        self._folder.note(f"warning: {message}")

    def stage_ended(self, stage: str, folder: RunFolder) -> None:
        """One line."""
        self._folder.note(f"stage {stage} is done")

    def finished(self, result: RunResult) -> None:
        """One line for each system."""
        for row in result.rows:
            self._folder.note(f"{row.system}: test BLEU {row.test.score:.2f}, {row.test.signature}")
