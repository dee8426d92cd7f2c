"""The checkpoints of a stage: generations, each of which is whole or is not there.

A generation is three files: `STAGE-NUMBER.safetensors` (weights), `.state` (optimisers, counters, random state) and `.json`.
The last is written when the others are on the disk. It holds their digests and makes them count. The newest few are kept,
and the one whose weights were selected; `STAGE-best.safetensors` is a copy of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from softbellman.core.files import digest as digest_of_bytes
from softbellman.core.files import write_atomically
from softbellman.training.checkpoint import load_state, read_weights, save_modules, save_state
from softbellman.training.files import DamagedFile, read_json, write_json

ASIDE = "damaged"
SUFFIXES = (".json", ".state", ".safetensors")


@dataclass(frozen=True)
class Generation:
    """What the `.json` file of a generation says.

    Attributes:
        stage, number: its name.
        step: updates done.
        weights, state: digests of the two files.
        best: digest of the selected weights; empty before the first selection.
        best_number: the generation whose weights they are; that one is kept.
        best_step: the update they were reached after.
        score: what they scored, larger is better.
        records: how many records metrics.jsonl held.
        seconds: training time of the stage.
        ended: why the stage ended; empty while it goes on.
    """

    stage: str
    number: int
    step: int
    weights: str
    state: str
    best: str
    best_number: int
    best_step: int
    score: float | None
    records: int
    seconds: float
    ended: str


def _digest_of(facts: dict[str, Any]) -> str:
    return digest_of_bytes(json.dumps(facts, sort_keys=True).encode())


class Generations:
    """The generations of one stage in a run's folder of checkpoints.

    Args:
        folder: the folder.
        stage: name of the stage.
        keep: how many of the newest are kept, at least 1.
        warn: is told of damaged files.
    """

    def __init__(
        self, folder: Path, stage: str, *, keep: int = 2, warn: Callable[[str], object] = lambda text: None
    ) -> None:
        self.folder, self.stage, self.keep, self.warn = folder, stage, keep, warn

    @property
    def best_path(self) -> Path:
        """Where the selected weights stand."""
        return self.folder / f"{self.stage}-best.safetensors"

    def path(self, number: int, suffix: str) -> Path:
        """A file of a generation."""
        return self.folder / f"{self.stage}-{number:06d}{suffix}"

    def numbers(self) -> list[int]:
        """The generations that count, oldest first."""
        return sorted(_number(path) for path in self._files(".json"))

    def next_number(self) -> int:
        """A number above all that are in use, half written and damaged ones included."""
        used = [_number(path) for suffix in SUFFIXES for path in self._files(suffix)]
        used += [
            _number(path) for path in (self.folder / ASIDE).glob(f"{self.stage}-*.*") if _number(path) >= 0
        ]
        return max(used, default=0) + 1

    def write(
        self, modules: dict[str, nn.Module], state: dict[str, Any], facts: dict[str, Any]
    ) -> Generation:
        """A new generation; `facts` are the fields of `Generation` but for its name and the digests of its files."""
        number = self.next_number()
        weights = save_modules(
            self.path(number, ".safetensors"), modules, stage=self.stage, step=facts["step"]
        )
        digest = save_state(self.path(number, ".state"), state)
        generation = Generation(stage=self.stage, number=number, weights=weights, state=digest, **facts)
        written = asdict(generation)
        write_json(self.path(number, ".json"), {**written, "digest": _digest_of(written)})
        self._prune()
        return generation

    def newest(self) -> tuple[Generation, dict[str, Any]] | None:
        """The newest generation that is whole, with its state; damaged ones are told of and moved aside.

        Raises:
            DamagedFile: there are some, but none is whole, or the selected weights are lost.
        """
        self._drop_unfinished()
        numbers = self.numbers()
        for number in reversed(numbers):
            try:
                generation = self._read(number)
                state = load_state(self.path(number, ".state"), generation.state)
                read_weights(self.path(number, ".safetensors"), generation.weights)
                self._restore_best(generation)
            except DamagedFile as error:
                self._set_aside(number)
                self.warn(f"{error}; moved to {self.folder / ASIDE}, the checkpoint before it is taken")
                continue
            return generation, state
        if numbers:
            raise DamagedFile(
                f"no checkpoint of stage {self.stage} in {self.folder} is whole; they were moved to "
                f"{self.folder / ASIDE}, and --resume trains the stage from its start"
            )
        return None

    def latest(self) -> Generation | None:
        """The newest generation as its file says, unchecked; None where there is none that can be read."""
        return next((found for number in reversed(self.numbers()) if (found := self._readable(number))), None)

    def expected_weights(self, path: Path) -> str | None:
        """The digest of a file of weights by the newest generation that tells it; None where none does.

        Weights that were selected after the newest generation, before a kill, are told by none.
        """
        for number in reversed(self.numbers()):
            found = self._readable(number)
            if found is None:
                continue
            if path == self.path(number, ".safetensors"):
                return found.weights
            if path == self.best_path and found.best:
                return None if self._is_later_selection(found.step) else found.best
        return None

    def _read(self, number: int) -> Generation:
        path = self.path(number, ".json")
        try:
            facts = read_json(path)
            found = facts.pop("digest", None)  # earlier versions wrote none
            generation = Generation(**facts)
        except OSError as error:
            raise DamagedFile(f"{path} cannot be read: {error.strerror}") from None
        except (TypeError, AttributeError):
            raise DamagedFile(f"{path} is damaged: it does not describe a checkpoint") from None
        if found is not None and found != _digest_of(facts):
            raise DamagedFile(f"{path} was changed: it does not have the digest that it was written with")
        return generation

    def _readable(self, number: int) -> Generation | None:
        try:
            return self._read(number)
        except DamagedFile:
            return None

    def _restore_best(self, generation: Generation) -> None:
        """The selected weights as this generation knew them: a kill may have left newer ones, a fault others."""
        if not generation.best:
            return
        try:
            read_weights(self.best_path, generation.best)
            return
        except DamagedFile as error:
            fault = error
        source = self.path(generation.best_number, ".safetensors")
        read_weights(source, generation.best)
        if not self._is_later_selection(generation.step):
            self._move_aside(self.best_path)
            self.warn(f"{fault}; restored from {source.name}")
        write_atomically(self.best_path, source.read_bytes())

    def _is_later_selection(self, step: int) -> bool:
        """Whether the selected weights are sound and of a later update: the run was stopped before the checkpoint counted."""
        try:
            _, metadata = read_weights(self.best_path)
        except DamagedFile:
            return False
        return metadata.get("stage") == self.stage and int(metadata.get("step", -1)) > step

    def _prune(self) -> None:
        """Keep the newest generations and those that hold what any of these selected."""
        numbers = self.numbers()
        kept = set(numbers[-self.keep :])
        kept |= {found.best_number for number in kept if (found := self._readable(number))}
        for number in numbers:
            if number not in kept:
                # The .json first: a kill leaves no generation that counts and lacks a file.
                for suffix in SUFFIXES:
                    self.path(number, suffix).unlink(missing_ok=True)

    def _drop_unfinished(self) -> None:
        whole = set(self.numbers())
        for suffix in (".state", ".safetensors"):
            for path in self._files(suffix):
                if _number(path) not in whole:
                    path.unlink()

    def _set_aside(self, number: int) -> None:
        for suffix in SUFFIXES:
            self._move_aside(self.path(number, suffix))

    def _move_aside(self, path: Path) -> None:
        if path.exists():
            (self.folder / ASIDE).mkdir(exist_ok=True)
            path.replace(self.folder / ASIDE / path.name)

    def _files(self, suffix: str) -> list[Path]:
        return [path for path in self.folder.glob(f"{self.stage}-*{suffix}") if _number(path) >= 0]


def _number(path: Path) -> int:
    """The number in a generation's file name; -1 for other files."""
    last = path.stem.rpartition("-")[2]
    return int(last) if last.isdigit() else -1
