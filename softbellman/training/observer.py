"""Who is told what a run does. The trainer prints and draws nothing itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

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

    def stage_ended(self, stage: str, folder: RunFolder) -> None:
        """A stage is done, its records and checkpoints are in the folder."""

    def finished(self, result: RunResult) -> None:
        """The run is done."""


class _Silent:
    def update(self, count: int = 1, numbers: Mapping[str, float] | None = None) -> None:
        """Counts nothing."""
