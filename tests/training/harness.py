"""What tests of runs share: their records and weights, observers that keep what they are told, flipped bits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from softbellman import config
from softbellman.training import Observer, load_run, run
from softbellman.training.settings import Settings

APART = ("time", "run_time", "train_seconds", "peak_memory_bytes")
"""What differs between two runs that do the same."""


def refused(folder: Path, settings: Settings, error: type[Exception], match: str) -> None:
    """Neither loaded nor continued."""
    for again in (lambda: load_run(folder), lambda: run(settings, resume=folder)):
        with pytest.raises(error, match=match):
            again()


def metrics_of(folder: Path) -> list[dict[str, object]]:
    """The records of a run without times."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k not in APART} for record in records]


def weights_of(folder: Path) -> dict[str, dict[str, Tensor]]:
    """The weights that each stage selected, and those of its end."""
    found = {}
    for best in sorted((folder / "checkpoints").glob("*-best.safetensors")):
        stage = best.stem.removesuffix("-best")
        last = max((folder / "checkpoints").glob(f"{stage}-0*.safetensors"))
        found |= {f"{stage}-best": load_file(best), f"{stage}-last": load_file(last)}
    return found


def same_weights(left: Mapping[str, Mapping[str, Tensor]], right: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Bit for bit."""
    assert left.keys() == right.keys()
    for name, tensors in left.items():
        for key, value in tensors.items():
            assert torch.equal(value, right[name][key]), (name, key)


def same_run(left: Path, right: Path) -> None:
    """Two runs did the same, bit for bit."""
    assert metrics_of(left) == metrics_of(right)
    same_weights(weights_of(left), weights_of(right))
    for path in (left / "hypotheses").iterdir():
        assert path.read_bytes() == (right / "hypotheses" / path.name).read_bytes()


class Warnings(Observer):
    """Keeps what a run warned of."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def warned(self, message: str) -> None:
        self.told.append(message)


class Killed(Exception):
    """In the place of SIGKILL."""


def die_before(monkeypatch: pytest.MonkeyPatch, stage: type, step: int) -> None:
    """The stage dies before that update, once."""
    update, done = stage.update, []

    def dying(self, batch, number):
        if number == step and not done:
            done.append(number)
            raise Killed
        return update(self, batch, number)

    monkeypatch.setattr(stage, "update", dying)


def flip_bit(path: Path, position: float = 0.9) -> bytes:
    """Turn one bit over, at a share of the file; returns what it held."""
    content = bytearray(path.read_bytes())
    before = bytes(content)
    content[int(position * (len(content) - 1))] ^= 4
    path.write_bytes(content)
    return before


class TrainingProcess:
    """`softbellman-train` in a process of its own.

    Args:
        settings: of a new run.
        place: folder for its settings file.
        resume: folder of the run to continue instead.
    """

    def __init__(self, settings: Settings, place: Path, *, resume: Path | None = None) -> None:
        file = place / "settings.yaml"
        file.write_text(config.dump(settings))
        words = ["--config", str(file)] if resume is None else ["--resume", str(resume)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "softbellman.cli.train", *words, "--threads", "1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Exit code (negative: the signal that killed it), standard output, standard error."""
        out, err = self.process.communicate(timeout=240)
        return self.process.returncode, out, err

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.signal(signal.SIGKILL)
        self.end()
