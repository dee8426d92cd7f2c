"""The processes of one job, as `torchrun` starts them: which rows of a batch each takes, and what they tell each other.

One process alone (`Processes`) has the same methods, which do nothing. So the trainer is written once, and every exchange
stands here. All processes make the same exchanges in the same order; one that does not ends the job after `process_timeout`.

What is exchanged: gradients and losses as one flat tensor (NCCL on GPUs, gloo on the CPU), everything else over gloo.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from softbellman.core.devices import choose_device
from softbellman.data import Batch

Value = TypeVar("Value")
Item = TypeVar("Item")


class LostProcess(ConnectionError):
    """Another process of the job ended, or did not answer in time."""


class ProcessesDiffer(ValueError):
    """The processes of a job do not hold the same."""


class Processes:
    """One process alone.

    Attributes:
        rank: number of this process; 0 is the one that writes.
        count: how many there are.
        pause: is called by all between pieces of spread work; may raise, then in all of them.
    """

    rank, count = 0, 1
    pause: Callable[[], None] = staticmethod(lambda: None)

    @property
    def first(self) -> bool:
        """Whether this process writes the run folder and tells what happens."""
        return self.rank == 0

    def share(self, batch: Batch) -> Batch:
        """This process's rows of a batch."""
        return batch

    def counted(self, batch: Batch, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """The sums of an update on a share; those of a share that does not count are 0."""
        return sums

    def total(self, updates: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
        """Sums of several updates, each over all shares; gradient norms, which all know, stay as they are."""
        return [dict(numbers) for numbers in updates]

    def reduce_gradients(self, module: nn.Module, loss: Tensor, share: float) -> Tensor:
        """Replace a module's gradients by those of the whole batch.

        Args:
            module: its gradients are of the mean over this process's rows.
            loss: that mean.
            share: of the batch's rows that this process has.

        Returns:
            The loss of the whole batch, detached.
        """
        return loss.detach()

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of the tensors that the processes give; theirs may be written over."""
        return tensor

    def largest(self, number: int) -> int:
        """The largest of the numbers that the processes give."""
        return number

    def agree(self, value: Value) -> Value:
        """What process 0 gives."""
        return value

    def gather(self, value: Value) -> list[Value]:
        """What each process gives, in the order of their ranks."""
        return [value]

    def send(self, modules: Iterable[nn.Module]) -> None:
        """Give the others the weights of process 0."""

    def check_same(self, value: Callable[[], object], what: str) -> None:
        """Raises ProcessesDiffer where the processes have different values; alone it asks for none."""

    def together(self) -> AbstractContextManager[None]:
        """A block without exchange: what one raises ends all of them after it."""
        return nullcontext()

    def spread(self, items: Iterable[Item], work: Callable[[Item], Value]) -> list[Value]:
        """`work` of every item, done by one process each; all get all results, in order."""
        return [work(item) for item in items]

    def reseed(self, key: Callable[[], int]) -> None:
        """Seed the random numbers of an update on a share, such as dropout's; alone they run on."""


class Group(Processes):
    """This process in a job of several, which have met.

    Args:
        rank, count: number of this process, and how many there are.
        minutes: how long the others are waited for; a process that ended is noticed at once.
    """

    def __init__(self, rank: int, count: int, *, minutes: float) -> None:
        self.rank, self.count, self._minutes = rank, count, minutes

    def share(self, batch: Batch) -> Batch:
        """A run of rows, as many as the others have or one less or more.

        Where there are fewer rows than processes, some get the last row with share 0: they keep step and add nothing.
        """
        rows = len(batch)
        start, end = (rows * rank // self.count for rank in (self.rank, self.rank + 1))
        part = batch.rows_between(*((start, end) if end > start else (rows - 1, rows)))
        return replace(part, share=(end - start) / rows)

    def counted(self, batch: Batch, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Zeros where the share is 0, but for gradient norms."""
        if batch.share:
            return sums
        return {name: number if _is_norm(name) else torch.zeros_like(number) for name, number in sums.items()}

    def total(self, updates: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
        """One exchange for all of them."""
        own = [
            0.0 if self.rank and _is_norm(name) else value
            for numbers in updates
            for name, value in numbers.items()
        ]
        found = iter(self.sum(torch.tensor(own, dtype=torch.float64)).tolist())
        return [{name: next(found) for name in numbers} for numbers in updates]

    def reduce_gradients(self, module: nn.Module, loss: Tensor, share: float) -> Tensor:
        """One sum over the processes of a flat tensor: each gradient and the loss, times the share.

        DistributedDataParallel would need every update to be one call of the module's `forward`. Here it is several of
        `features_at`, `begin`, `step` and `projection`, and a loss that multiplies with the output layer itself. So
        nothing is exchanged while the backward pass runs.
        """
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        for parameter in trained:
            if parameter.grad is None:  # all processes have the same layout
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
        flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), loss.detach().reshape(1)])
        flat = self.sum(flat.mul_(share))
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, part in zip(gradients, torch.split(flat[:-1], sizes), strict=True):
            gradient.copy_(part.view_as(gradient))
        return flat[-1]

    def sum(self, tensor: Tensor) -> Tensor:
        """One exchange, in place."""
        with self._exchange():
            dist.all_reduce(tensor)
        return tensor

    def largest(self, number: int) -> int:
        """One exchange of a number."""
        tensor = torch.tensor([number], dtype=torch.int64)
        with self._exchange():
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return int(tensor)

    def agree(self, value: Value) -> Value:
        """Process 0 sends its value, anything that pickles."""
        holder = [value]
        with self._exchange():
            dist.broadcast_object_list(holder, src=0)
        return holder[0]

    def gather(self, value: Value) -> list[Value]:
        """All send their value, anything that pickles."""
        found: list[Any] = [None] * self.count
        with self._exchange():
            dist.all_gather_object(found, value)
        return found

    def send(self, modules: Iterable[nn.Module]) -> None:
        """One tensor after another."""
        with self._exchange(), torch.no_grad():
            for module in modules:
                for tensor in module.state_dict().values():
                    dist.broadcast(tensor, src=0)

    def check_same(self, value: Callable[[], object], what: str) -> None:
        """All compare with process 0."""
        found = self.gather(value())
        if other := next((rank for rank, one in enumerate(found) if one != found[0]), 0):
            raise ProcessesDiffer(f"{what} differ between the processes 0 and {other}; they must be the same")

    @contextmanager
    def together(self) -> Iterator[None]:
        """What went wrong in one is told to all at the end of the block."""
        own: Exception | None = None
        try:
            yield
        except Exception as error:
            own = error
        faults = self.gather(None if own is None else str(own))
        if own is not None:
            raise own
        for rank, fault in enumerate(faults):
            if fault is not None:
                raise LostProcess(f"process {rank} of {self.count} failed: {fault}")

    def spread(self, items: Iterable[Item], work: Callable[[Item], Value]) -> list[Value]:
        """In rounds of one item for each process, so that a signal to one of them stops all after the same round."""
        listed, own = list(items), []
        for start in range(0, len(listed), self.count):
            if start + self.rank < len(listed):
                own.append(work(listed[start + self.rank]))
            self.pause()
        found = self.gather(own)
        return [found[number % self.count][number // self.count] for number in range(len(listed))]

    def reseed(self, key: Callable[[], int]) -> None:
        """Another stream in each process: their rows are not the same."""
        torch.manual_seed((key() + self.rank * 0x9E3779B97F4A7C15) % 2**63)

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise LostProcess(
                f"process {self.rank} of {self.count} lost another one: it ended, or did not answer for "
                f"{self._minutes:g} minutes ({reason})"
            ) from None


def _is_norm(name: str) -> bool:
    return name.endswith("_gradient")


ALONE = Processes()
_current: Processes = ALONE


def current() -> Processes:
    """The processes of the job that runs here."""
    return _current


@contextmanager
def apart() -> Iterator[None]:
    """A block that this process computes as if it were alone, for what all of them compute alike."""
    global _current
    kept, _current = _current, ALONE
    try:
        yield
    finally:
        _current = kept


@contextmanager
def joined(device: torch.device, *, minutes: float) -> Iterator[Processes]:
    """The processes of the job, which meet at the start of the block and part at its end.

    Args:
        device: of this process (`local_device`).
        minutes: how long the others are waited for.

    Raises:
        LostProcess: not all of them came.
    """
    global _current
    if not in_job():
        yield Processes()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    own = not dist.is_initialized()
    if own:
        try:
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                timeout=timedelta(minutes=minutes),
            )
        except RuntimeError as error:
            raise LostProcess(
                f"the processes of the job did not meet: {str(error).partition(chr(10))[0]}"
            ) from None
    _current = Group(dist.get_rank(), dist.get_world_size(), minutes=minutes)
    try:
        yield _current
    finally:
        _current = ALONE
    if own:  # after an error the others may be gone, and parting would wait for them
        dist.destroy_process_group()


def in_job() -> bool:
    """Whether this process was started as one of several (`torchrun` sets these variables)."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size() > 1
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and {"RANK", "MASTER_ADDR"} <= os.environ.keys()


def local_device(name: str) -> torch.device:
    """The device of that name; of several processes on a machine each has a GPU of its own.

    Raises:
        ValueError: as `choose_device`; a numbered GPU for several processes, fewer GPUs than processes.
    """
    device = choose_device(name)
    if device.type != "cuda" or not in_job():
        return device
    if device.index is not None:
        raise ValueError(
            f"device is {name}, but the job has several processes; say cuda: each takes its own GPU"
        )
    number, found = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= found:
        raise ValueError(f"the job has more processes on this machine than GPUs ({found})")
    return torch.device("cuda", number)


def set_threads(asked: int) -> None:
    """CPU threads of this process: as many as asked for; by default those of torch, or a job's share of the cores.

    `torchrun` sets OMP_NUM_THREADS to 1 where it is not set, so 1 is taken for its choice, other numbers for the user's.
    """
    if not asked and in_job() and os.environ.get("OMP_NUM_THREADS", "1") == "1":
        asked = max(1, _cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if asked:
        torch.set_num_threads(asked)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
