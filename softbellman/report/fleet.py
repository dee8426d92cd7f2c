"""The progress of an experiment: how many runs are done, which go on, about how long it will take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from softbellman.experiments.plan import Job
from softbellman.experiments.workers import Running, Watcher
from softbellman.report.progress import Progress

_SHOWN = 4  # runs in progress that are named


class FleetDisplay(Watcher):
    """One bar on a terminal; in a log a line for each run that ends, and now and then one in between.

    Args:
        progress: where it is shown.
        jobs: all runs of the experiment.
        workers: runs at a time.
    """

    def __init__(self, progress: Progress, jobs: Sequence[Job], workers: int) -> None:
        self._progress, self._workers = progress, workers
        self._total = len(jobs)
        self._done = sum(job.state() == "finished" for job in jobs)
        self._took: dict[str, list[float]] = {}
        self._spoke = time.monotonic()
        self._bar: Any = None
        if progress.on_terminal and not progress.quiet:
            self._bar = tqdm(
                total=self._total, initial=self._done, file=progress.bars, leave=False, dynamic_ncols=True,
                bar_format="{n_fmt}/{total_fmt} runs |{bar:20}| {elapsed}{postfix}",
            )  # fmt: skip
        if self._done:
            progress.line(f"{self._done} of {self._total} runs are finished already")

    def ended(self, job: Job, seconds: float | None, log: Path | None) -> None:
        """One line."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()
        if log is not None:
            self._progress.warn(f"softbellman: {job.name} failed; its log is {log}")
            return
        if seconds is not None:
            self._took.setdefault(job.condition, []).append(seconds)
        took = "done" if seconds is None else _duration(seconds)
        self._progress.line(f"[{self._done}/{self._total}] {job.name}: {took}")

    def waiting(self, running: Sequence[Running], left: Sequence[Job]) -> None:
        """The runs in progress and the time left."""
        if self._bar is None and time.monotonic() - self._spoke < self._progress.log_interval:
            return
        self._spoke = time.monotonic()
        names = [entry.job.name for entry in running]
        shown = ", ".join(names[:_SHOWN]) + (
            f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        )
        seconds = self.seconds_left(running, left)
        words = (
            f"about {_duration(seconds)} left" if seconds is not None else "time left: after the first run"
        )
        if self._bar is not None:
            self._bar.set_postfix_str(f"{words}; {shown}")
        elif running:
            self._progress.line(f"{self._done} of {self._total} runs, {words}; running: {shown}")

    def seconds_left(self, running: Sequence[Running], left: Sequence[Job]) -> float | None:
        """An estimate from the runs of the same condition, else from all that ended; None before the first one."""
        everything = [seconds for took in self._took.values() for seconds in took]
        if not everything:
            return None

        def expected(job: Job) -> float:
            took = self._took.get(job.condition, everything)
            return sum(took) / len(took)

        now = time.monotonic()
        rest = [max(0.0, expected(entry.job) - (now - entry.begun)) for entry in running]
        whole = sum(rest) + sum(map(expected, left))
        return max([whole / self._workers, *rest])

    def close(self) -> None:
        """Removes the bar from the terminal."""
        if self._bar is not None:
            self._bar.close()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    )
