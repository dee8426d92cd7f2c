"""Jobs of several processes, as `torchrun` starts them, forked from a server that has imported torch once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from softbellman import config
from softbellman.data import Batch
from softbellman.training.settings import Settings
from softbellman.training.stages import Sums

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "softbellman.cli.train",
        "softbellman.training",
        "softbellman.report",
        "torch._dynamo",  # an optimiser imports it, in seconds
    ]
)
MOST_SECONDS = 120


def job_environments(count: int) -> list[dict[str, str]]:
    """The variables that `torchrun` gives to each of several processes on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    sizes = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    return [{**common, **sizes, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


class Job:
    """A function in several processes.

    Args:
        work: the function.
        arguments: its arguments.
        count: processes.
    """

    def __init__(self, work: Callable[..., Any], *arguments: Any, count: int = 2) -> None:
        self.processes = [
            SERVER.Process(target=within, args=(environment, work, arguments))
            for environment in job_environments(count)
        ]
        for process in self.processes:
            process.start()

    def codes(self) -> list[int | None]:
        """The exit codes (negative: the signal that killed it); None of one that does not end."""
        for process in self.processes:
            process.join(MOST_SECONDS)
        return [process.exitcode for process in self.processes]

    def codes_now(self) -> list[int | None]:
        """The exit codes; None of those that have not ended."""
        return [process.exitcode for process in self.processes]

    def signal(self, rank: int, number: int) -> None:
        """A signal to one process."""
        os.kill(self.processes[rank].pid or 0, number)

    def kill(self) -> None:
        """SIGKILL to all, and wait."""
        for process in self.processes:
            process.kill()
        self.codes()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until it holds; fails where a process ends before."""
        for _ in range(12000):
            if condition():
                return
            assert all(process.is_alive() for process in self.processes), self.codes()
            time.sleep(0.01)
        raise AssertionError("nothing happened for two minutes")


class TrainingJob(Job):
    """`softbellman-train` in several processes, with one thread each.

    Args:
        settings: of a new run.
        place: folder for its settings and what the processes write to standard error.
        resume: folder of the run to continue instead.
        killed_at: update of the joint stage before which all processes get SIGKILL; None: none.
        count: processes.
    """

    def __init__(
        self,
        settings: Settings,
        place: Path,
        *,
        resume: Path | None = None,
        killed_at: int | None = None,
        count: int = 2,
    ) -> None:
        file = place / "settings.yaml"
        file.write_text(config.dump(settings))
        words = ["--config", str(file)] if resume is None else ["--resume", str(resume)]
        self._place = place
        super().__init__(train, [*words, "--threads", "1"], place, killed_at, count=count)

    def finish(self) -> None:
        """Wait for the end of a job in which nothing goes wrong."""
        codes = self.codes()
        assert codes == [0] * len(codes), [self.errors(rank) for rank in range(len(codes))]

    def errors(self, rank: int) -> str:
        """What a process wrote to standard error."""
        return (self._place / f"{rank}.err").read_text()


def within(environment: Mapping[str, str], work: Callable[..., Any], arguments: Sequence[Any]) -> None:
    """In the new process."""
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server ignores it
    work(*arguments)


def train(words: Sequence[str], place: Path, killed_at: int | None) -> None:
    """The command, with its output in files."""
    from softbellman.cli.train import main
    from softbellman.training.stages import JointStage

    update = JointStage.update

    def dying(stage: JointStage, batch: Batch, step: int) -> Sums:
        if step == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return update(stage, batch, step)

    JointStage.update = dying  # type: ignore[method-assign]
    for stream, name in ((1, "out"), (2, "err")):
        file = os.open(place / f"{os.environ['RANK']}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, stream)
    sys.exit(main(words))
