"""Who is told what a run does. The trainer prints and draws nothing itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Protocol

from softbellman.core.kept_state import kept_state
from softbellman.training.diagnosis import Diagnosis
from softbellman.training.result import RunResult
from softbellman.training.runfolder import RunFolder


class Counter(Protocol):
    """Counts work done."""

    def update(self, count: int = 1, numbers: Mapping[str, float] | None = None) -> None:
        """Moves on by `count`; `numbers` are the latest means by name."""


class Observer:
    """Is told what a run does, and shows nothing. Override the methods whose news is wanted.

    Example:
        >>> class Printer(Observer):
        ...     def validated(self, stage, epoch, metrics, *, best):
        ...         print(stage, epoch, metrics)
    """

    def started(self, facts: Sequence[str]) -> None:
        """The run begins; `facts` are sentences about its data, networks and folder."""

    def updates(self, stage: str, epoch: int, epochs: int, count: int) -> AbstractContextManager[Counter]:
        """`count` updates of epoch `epoch` of `epochs` follow, counted by what the block is given."""
        return nullcontext(_Silent())

    def validated(self, stage: str, epoch: float, metrics: Mapping[str, float], *, best: bool) -> None:
        """A validation is done; `best` says whether it is the best of its stage so far."""

    def diagnosed(self, diagnosis: Diagnosis, *, final: bool) -> None:
        """Normal or broken: at the end of a stage, and where a validation of the actor finds something else than before."""

    def warned(self, message: str) -> None:
        """Something a person should know: a damaged file, skipped updates, a stage that was ended early, a signal."""

    def stage_ended(self, stage: str, folder: RunFolder) -> None:
        """A stage is done, its records and checkpoints are in the folder."""

    def finished(self, result: RunResult) -> None:
        """The run is done."""


class Observers(Observer):
    """Tells several observers, in order. None of them changes the random numbers of the training.

    Args:
        observers: who is told.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    @kept_state()
    def started(self, facts: Sequence[str]) -> None:
        """Tells all."""
        for observer in self._observers:
            observer.started(facts)

    @contextmanager
    def updates(self, stage: str, epoch: int, epochs: int, count: int) -> Iterator[Counter]:
        """Tells all; what the block is given counts for all."""
        with ExitStack() as open_blocks:
            with kept_state():
                blocks = [one.updates(stage, epoch, epochs, count) for one in self._observers]
                counters = _Counters([open_blocks.enter_context(block) for block in blocks])
            yield counters

    @kept_state()
    def validated(self, stage: str, epoch: float, metrics: Mapping[str, float], *, best: bool) -> None:
        """Tells all."""
        for observer in self._observers:
            observer.validated(stage, epoch, metrics, best=best)

    @kept_state()
    def diagnosed(self, diagnosis: Diagnosis, *, final: bool) -> None:
        """Tells all."""
        for observer in self._observers:
            observer.diagnosed(diagnosis, final=final)

    @kept_state()
    def warned(self, message: str) -> None:
        """Tells all."""
        for observer in self._observers:
            observer.warned(message)

    @kept_state()
    def stage_ended(self, stage: str, folder: RunFolder) -> None:
        """Tells all."""
        for observer in self._observers:
            observer.stage_ended(stage, folder)

    @kept_state()
    def finished(self, result: RunResult) -> None:
        """Tells all."""
        for observer in self._observers:
            observer.finished(result)


class _Counters:
    def __init__(self, counters: Sequence[Counter]) -> None:
        self._counters = counters

    @kept_state()
    def update(self, count: int = 1, numbers: Mapping[str, float] | None = None) -> None:
        """Moves all on."""
        for counter in self._counters:
            counter.update(count, numbers)


class _Silent:
    def update(self, count: int = 1, numbers: Mapping[str, float] | None = None) -> None:
        """Counts nothing."""
