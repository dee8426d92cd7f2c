"""SIGTERM and Ctrl-C: an update is finished, a checkpoint is written, the run ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from softbellman.training.processes import ALONE, Processes

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal asked the run to end.

    Attributes:
        signal: which.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number


class StopRequest:
    """What a signal asked for. Raises `Stopped` at once, or where work is protected when it is done.

    A second signal raises at once even there. Of several processes all raise what one received, at the same `check`, and
    no signal raises at once: `torchrun` may send a second one after that of a terminal.

    Args:
        processes: of the job.
    """

    def __init__(self, processes: Processes = ALONE) -> None:
        self._signal: int | None = None
        self._processes = processes
        self._alone, self._protected = processes.count == 1, 0

    @contextmanager
    def handled(self) -> Iterator[StopRequest]:
        """Takes the signals of this process while the block runs; in other threads than the main one it takes none."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before: dict[int, Any] = {number: signal.signal(number, self._receive) for number in SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def protected(self) -> Iterator[None]:
        """Work that a first signal does not break off: it is raised at the next `check`, or where a next signal comes."""
        self._protected += 1
        try:
            yield
        finally:
            self._protected -= 1

    @property
    def arrived(self) -> bool:
        """Whether a signal came."""
        return self._signal is not None

    def check(self) -> None:
        """Raises what arrived while work was protected; all processes come here together."""
        if number := self._processes.largest(self._signal or 0):
            self._signal = number
            raise Stopped(number)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        again, self._signal = self._signal is not None, number
        if self._alone and (again or not self._protected):
            raise Stopped(number)
