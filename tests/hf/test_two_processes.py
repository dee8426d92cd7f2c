"""Two processes share groups of completions: numbers are TRL's there too."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl")
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[float]]]:
    path = tmp_path_factory.mktemp("two") / "found.json"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        str(port),
    ]
    place = {"PYTHONPATH": os.pathsep.join([*sys.path, str(HERE)]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, str(HERE / "two_processes.py"), str(path)],
        env={**os.environ, **place},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("sequence", "trl"), ("rewards_to_go", "trl"), ("distillation", "trl_distillation")],
)
def test_losses_and_gradients_are_those_of_trl(
    found: dict[str, dict[str, list[float]]], ours: str, theirs: str
) -> None:
    for name in ("loss", "grad_norm", "entropy"):
        assert found[ours][name] == pytest.approx(found[theirs][name], rel=1e-5, abs=2e-6), name


def test_exact_targets_are_learnt(found: dict[str, dict[str, list[float]]]) -> None:
    losses = found["completion"]["loss"]
    assert len(losses) == 3 and losses[-1] < losses[0]
