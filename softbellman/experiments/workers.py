"""The runs of an experiment as processes of their own, some at a time; no two train a shared stage at once."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from softbellman import config
from softbellman.core.files import write_atomically
from softbellman.experiments.plan import Job
from softbellman.training.record import NAME as RECORD

TRAIN = (sys.executable, "-m", "softbellman.cli.train")
POLL_SECONDS = 0.5
_PATIENCE = 120.0  # seconds that a stopped run has for its checkpoint


class Stopped(KeyboardInterrupt):
    """A signal ended the experiment; its runs have written checkpoints."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.signal = number


@dataclass
class Running:
    """A run in progress: its process, its slot among the workers, when it was begun."""

    job: Job
    process: subprocess.Popen[bytes]
    slot: int
    begun: float = field(default_factory=time.monotonic)


class Watcher:
    """Is told what happens; this one ignores it."""

    def begun(self, job: Job) -> None:
        """A process was started."""

    def ended(self, job: Job, seconds: float | None, log: Path | None) -> None:
        """A run ended; `log` is that of one that failed, `seconds` None where a process of an earlier start trained it."""

    def waiting(self, running: Sequence[Running], left: Sequence[Job]) -> None:
        """Now and then."""


class Workers:
    """Trains jobs, some at a time.

    Args:
        root: folder of the experiment, for settings files and logs.
        count: processes at a time.
        devices: values of CUDA_VISIBLE_DEVICES, dealt to the processes in turn; empty: the variable is left alone.
        watcher: is told what happens.
        command: what trains a run, before its own `--config FILE` or `--resume RUN`.
    """

    def __init__(
        self,
        root: Path,
        *,
        count: int,
        devices: Sequence[str] = (),
        watcher: Watcher | None = None,
        command: Sequence[str] = TRAIN,
    ) -> None:
        self._root, self._count, self._devices = root, count, tuple(devices)
        self._watcher, self._command = watcher or Watcher(), tuple(command)
        self._running: list[Running] = []
        self._signal = 0

    def run(self, jobs: Sequence[Job]) -> dict[str, Path]:
        """Train all jobs that are not finished; one that fails does not stop the others.

        Returns:
            The logs of those that failed, by their names.

        Raises:
            Stopped: SIGINT or SIGTERM came; the processes were stopped and have written checkpoints.
        """
        left = [job for job in jobs if job.state() != "finished"]
        failed: dict[str, Path] = {}
        with self._signals():
            try:
                while left or self._running:
                    self._check_signal()
                    for running in self._ended():
                        log = self.log_of(running.job)
                        well = running.process.returncode == 0
                        if not well:
                            failed[running.job.name] = log
                        seconds = time.monotonic() - running.begun
                        self._watcher.ended(running.job, seconds, None if well else log)
                    left = self._begin(left)
                    self._watcher.waiting(self._running, left)
                    time.sleep(POLL_SECONDS)
            finally:
                self._stop()
        return failed

    def log_of(self, job: Job) -> Path:
        """What the run's process printed."""
        return self._root / "logs" / f"{job.name.replace('/', '-')}.log"

    def _begin(self, left: Sequence[Job]) -> list[Job]:
        """Start what can be started; returns the others."""
        free = self._count - len(self._running)
        if not free:
            return list(left)
        # processes of an experiment that was killed go on; they have their places, and their runs are waited for
        elsewhere = {job.name for job in left if self._is_held(job) or job.state() == "running"}
        free -= len(elsewhere)
        kept: list[Job] = []
        for job in left:
            if job.name in elsewhere:
                kept.append(job)
            elif job.state() == "finished":
                self._watcher.ended(job, None, None)
            elif free < 1 or self._shares_with_running(job):
                kept.append(job)
            else:
                self._start(job)
                free -= 1
        return kept

    def _place(self, job: Job) -> Path:
        """The file that the process of a run keeps locked as long as it lives, from before it has a run folder."""
        return self._root / "settings" / f"{job.name}.lock"

    def _is_held(self, job: Job) -> bool:
        path = self._place(job)
        if not path.exists():
            return False
        with path.open("ab") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    def _shares_with_running(self, job: Job) -> bool:
        """Whether a process is training a stage that this run needs too, and will find in the cache later."""
        own = job.unfinished()
        return any(own & running.job.unfinished() for running in self._running)

    def _start(self, job: Job) -> None:
        path = self._root / "settings" / f"{job.name}.yaml"
        write_atomically(path, config.dump(job.settings).encode())
        words = ["--config", str(path)]
        if (job.folder.path / RECORD).is_file():
            words = ["--resume", str(job.folder.path)]
        log = self.log_of(job)
        log.parent.mkdir(parents=True, exist_ok=True)
        slot = min(set(range(self._count)) - {running.slot for running in self._running})
        with log.open("ab") as stream, self._place(job).open("wb") as place:
            fcntl.flock(place, fcntl.LOCK_EX)
            process = subprocess.Popen(
                [*self._command, *words],
                stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, env=self._environment(slot),
                pass_fds=[place.fileno()],  # the lock is the process's, and outlives this one
                start_new_session=True,  # Ctrl-C reaches this process alone, which stops the others in order
            )  # fmt: skip
        self._running.append(Running(job, process, slot))
        self._watcher.begun(job)

    def _environment(self, slot: int) -> Mapping[str, str]:
        if not self._devices:
            return os.environ
        return {**os.environ, "CUDA_VISIBLE_DEVICES": self._devices[slot % len(self._devices)]}

    def _ended(self) -> list[Running]:
        ended = [running for running in self._running if running.process.poll() is not None]
        self._running = [running for running in self._running if running not in ended]
        return ended

    def _check_signal(self) -> None:
        if self._signal:
            raise Stopped(self._signal)

    def _stop(self) -> None:
        """Let every process write its checkpoint and end; one that does not in time is killed."""
        for running in self._running:
            running.process.terminate()
        deadline = time.monotonic() + _PATIENCE
        for running in self._running:
            try:
                running.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                running.process.kill()
                running.process.wait()
        self._running = []

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM are remembered, and looked at between two polls."""

        def remember(number: int, frame: FrameType | None) -> None:
            self._signal = number

        kept = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)
