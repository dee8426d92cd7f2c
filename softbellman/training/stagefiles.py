"""What a stage writes to its run folder and reads from it.

Of several processes the first one writes and reads; the others are given what it read, and need not see the folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import save as serialise
from torch import Tensor, nn

from softbellman.core.files import write_atomically
from softbellman.data import Batch
from softbellman.training.checkpoint import digest_of_tensors, load_modules, save_modules, tensors_of
from softbellman.training.generations import Generation, Generations
from softbellman.training.processes import Processes
from softbellman.training.runfolder import RunFolder


class StageFiles:
    """The files of one stage in a run folder.

    Args:
        folder: of the run.
        stage: the stage's name.
        modules: its networks, by name.
        processes: of the job.
        keep: how many checkpoints are kept.
        warn: is told of damaged files.
    """

    def __init__(
        self,
        folder: RunFolder,
        stage: str,
        modules: dict[str, nn.Module],
        processes: Processes,
        *,
        keep: int,
        warn: Callable[[str], object],
    ) -> None:
        self._folder, self._stage, self._modules, self._processes = folder, stage, modules, processes
        self._generations = Generations(folder.checkpoints, stage, keep=keep, warn=warn)
        self._warn = warn
        self._best: tuple[str, int] = ("", 0)  # digest, generation

    def log(self, **record: Any) -> None:
        """A record of the stage in metrics.jsonl."""
        if self._processes.first:
            self._folder.log(stage=self._stage, **record)

    def select(self, step: int) -> None:
        """Keep the weights as they are as the best so far."""
        if self._processes.first:
            path = self._generations.best_path
            digest = save_modules(path, self._modules, stage=self._stage, step=step)
            self._best = (digest, self._generations.next_number())

    def save(self, state: dict[str, Any], facts: dict[str, Any]) -> None:
        """A checkpoint; `facts` are the fields of `Generation` that are not known here.

        Raises:
            ProcessesDiffer: the weights are not the same in all processes; nothing is written.
        """
        self._processes.check_same(
            lambda: digest_of_tensors(tensors_of(self._modules)),
            f"the weights of stage {self._stage} after update {facts['step']}",
        )
        if self._processes.first:
            self._folder.guard()
            own = {
                "best": self._best[0],
                "best_number": self._best[1],
                "records": self._folder.count_records(self._stage),
            }
            self._generations.write(self._modules, state, {**facts, **own})

    def restore(self) -> dict[str, Any] | None:
        """Load the weights of the newest whole checkpoint and return its state; None where there is none.

        Records that were logged after it are dropped.
        """
        state: dict[str, Any] | None = None
        with self._processes.together():
            if self._processes.first:
                state = self._read()
        state = self._processes.agree(state)
        self._processes.send(self._modules.values())
        return state

    def load_best(self) -> None:
        """Load the selected weights."""
        with self._processes.together():
            if self._processes.first:
                load_modules(self._generations.best_path, self._modules, self._best[0])
        self._processes.send(self._modules.values())

    def keep_batch(self, batch: Batch, step: int) -> Path:
        """Write a batch that made the stage stop; returns where it is."""
        path = self._folder.path / "diverged" / f"{self._stage}-{step}.safetensors"
        if self._processes.first:
            tensors = {
                name: value.contiguous().cpu()
                for name, value in vars(batch).items()
                if isinstance(value, Tensor)
            }
            write_atomically(path, serialise(tensors))
        return path

    def _read(self) -> dict[str, Any] | None:
        found = self._generations.newest()
        if found is None:
            if self._folder.truncate_metrics(self._stage, None):
                self._warn(
                    f"{self._folder.checkpoints} holds no checkpoint of stage {self._stage}, which had begun; it is "
                    "trained from its start"
                )
            return None
        generation, state = found
        self._check_records(generation)
        self._folder.truncate_metrics(self._stage, generation.records)
        self._best = (generation.best, generation.best_number)
        path = self._generations.path(generation.number, ".safetensors")
        load_modules(path, self._modules, generation.weights)
        return state

    def _check_records(self, generation: Generation) -> None:
        lost = generation.records - self._folder.count_records(self._stage)
        if lost > 0:
            self._warn(
                f"{self._folder.metrics_path} lacks {lost} of the {generation.records} records of stage "
                f"{self._stage}: it was changed; the curve will lack them too"
            )
