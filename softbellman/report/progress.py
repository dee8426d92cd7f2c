"""Work that can be counted, shown on a terminal or in a log."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

from tqdm import tqdm

from softbellman.report.titles import describe_numbers


class Bar:
    """Counts work done: a tqdm bar on a terminal, now and then a line in a log, nothing when quiet.

    Args:
        label: what is being done, such as `joint 3/30`.
        total: how much there is to do; None where that is not known.
        unit: what is counted.
        progress: where to show it.
    """

    def __init__(self, label: str, total: int | None, unit: str, progress: Progress) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, 0
        self._progress = progress
        self._started = self._spoke = time.monotonic()
        self._bar: Any = None
        if progress.on_terminal and not progress.quiet:
            self._bar = tqdm(
                total=total, desc=label, unit=unit, file=progress.bars, leave=False, dynamic_ncols=True
            )

    def update(self, count: int = 1, numbers: Mapping[str, float] | None = None) -> None:
        """Moves on by `count`; `numbers` are shown beside it."""
        self.done += count
        shown = describe_numbers(numbers or {})
        if self._bar is not None:
            if shown:
                self._bar.set_postfix_str(", ".join(shown), refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._spoke >= self._progress.log_interval:
            self._spoke = time.monotonic()
            seconds = self._spoke - self._started
            done = f"{self.done}" if self.total is None else f"{self.done}/{self.total}"
            parts = [f"{done} {self.unit}s in {seconds:.0f} s", *shown]
            self._progress.line(f"{self.label}: " + ", ".join(parts))

    def close(self) -> None:
        """Removes the bar from the terminal."""
        if self._bar is not None:
            self._bar.close()


class Progress:
    """Lines and counted work of a command.

    Args:
        quiet: show nothing but what `line` is told to show in any case.
        out: where lines go; standard output by default.
        bars: where bars go; standard error by default. Bars are drawn only when it is a terminal.
        log_interval: seconds between two lines about one long piece of work in a log.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        out: TextIO | None = None,
        bars: TextIO | None = None,
        log_interval: float = 30.0,
    ) -> None:
        self.quiet, self.log_interval = quiet, log_interval
        self.out, self.bars = out or sys.stdout, bars or sys.stderr
        self.on_terminal = self.bars.isatty()

    def line(self, text: str, *, always: bool = False) -> None:
        """One or more lines, above any bar; `always` shows them in quiet mode too."""
        if self.quiet and not always:
            return
        try:
            if self.on_terminal:
                tqdm.write(text, file=self.out)
            else:
                print(text, file=self.out)
            self.out.flush()
        except OSError:  # nobody reads it any more: the work outlives its terminal
            self.out = open(os.devnull, "w")  # noqa: SIM115 - until the end of the process

    def warn(self, text: str) -> None:
        """A line on standard error, above any bar, in quiet mode too."""
        if self.on_terminal:
            tqdm.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def count(self, label: str, total: int | None, *, unit: str) -> Iterator[Bar]:
        """Any work that can be counted; `unit` is the singular of what is counted."""
        bar = Bar(label, total, unit, self)
        try:
            yield bar
        finally:
            bar.close()
