"""An algorithm and a model of the user's own in a job of two processes: by name and handed over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from training.jobs import TrainingJob
from training.test_processes import same_losses

from softbellman import config
from softbellman.training import load_run, run
from softbellman.training.settings import ModelSettings, Settings

ROOT = Path(__file__).parents[2]
SOURCE = '''
from dataclasses import dataclass

import torch
from torch import nn

from softbellman.losses import token_cross_entropy
from softbellman.objectives import Objective
from softbellman.training import ActorObjective, Algorithm, Metric, StageSettings, StageSpec
from softbellman.training.stages import Drawing


@dataclass(frozen=True)
class BestSettings(StageSettings):
    samples: int = 3


class Best(ActorObjective):
    """Learns the best of some sequences that it draws: whose draws they are must not depend on the processes."""

    name = "best"

    def __init__(self, parts, settings):
        super().__init__(parts, settings)
        self.drawing = Drawing(self.actor, **parts.draws(self.name, self.actor, settings.samples, 3))

    def objective(self, batch, step):
        rollout = self.drawing.draw(batch, step)
        policy = self.drawing.policy(batch, rollout)
        losses = token_cross_entropy(policy, rollout.actions.flatten()[rollout.rows])
        whole = losses.new_zeros(rollout.mask.numel()).index_put((rollout.rows,), losses)
        sums = whole.view(len(batch), self.settings.samples, -1).sum(-1)  # (N*T,) -> (B, K)
        best, place = rollout.rewards.sum(-1).view(len(batch), -1).max(1)
        counts = {"best_payoff": best.sum(), "sequences": torch.tensor(len(best))}
        return Objective(sums.gather(1, place[:, None]).mean(), counts)


BEST = StageSpec(
    "best", Best, settings=BestSettings, reads=("payoff", "credit"),
    metrics={"best_payoff": Metric("sequences", "payoff, in tokens")},
)
algorithm = Algorithm("best of K, then ERAC", ("actor", BEST, "warmup", "critic", "joint"))


class Net(nn.Module):
    def __init__(self, request):
        super().__init__()
        width = request.options["width"]
        self.source = nn.Embedding(request.source_size, width)
        self.target = nn.Embedding(request.target_size, width)
        self.decoder = nn.GRU(width, width, batch_first=True)
        self.output = nn.Linear(width, request.target_size)

    def features(self, source, prefix):
        source = source.repeat_interleave(len(prefix) // len(source), dim=0)
        return self.decoder(self.target(prefix), self.source(source).mean(1)[None])[0]

    def project(self, features):
        return self.output(features)

    def projection(self):
        return self.output.weight, self.output.bias

    def forward(self, source, prefix):
        return self.project(self.features(source, prefix))
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def own(tiny_settings: Settings, file: Path) -> Settings:
    """Four updates of each stage."""
    short = replace(tiny_settings.actor.schedule, epochs=1, max_updates=4)
    schedule = {"max_updates": 4, "batch_size": 20, "epochs": 1}
    return replace(
        tiny_settings,
        algorithm=f"{file}:algorithm",
        model=ModelSettings(kind=f"{file}:Net", options={"width": 16}),
        data=replace(tiny_settings.data, pairs=120),
        actor=replace(tiny_settings.actor, schedule=short),
        warmup=replace(tiny_settings.warmup, schedule=short),
        critic=replace(tiny_settings.critic, schedule=short),
        joint=replace(tiny_settings.joint, schedule=short),
        stages={"best": {"samples": 2, "schedule": schedule}},
        threads=1,
    )


def test_two_processes_train_what_one_does(own: Settings, tmp_path: Path) -> None:
    alone = run(replace(own, output=str(tmp_path / "alone"))).folder
    TrainingJob(own, tmp_path).finish()
    together = Path(own.output)
    session = json.loads((together / "record.json").read_text())["sessions"][-1]
    assert session["processes"] == 2 and session["status"] == "finished"
    assert (
        json.loads((together / "record.json").read_text())["objects"]
        == json.loads((alone / "record.json").read_text())["objects"]
    )
    same_losses(together, alone)
    assert type(load_run(together).model).__name__ == "Net"


def test_two_processes_go_on_after_a_kill_of_two(own: Settings, tmp_path: Path) -> None:
    own = replace(own, checkpoint=replace(own.checkpoint, updates=1))
    alone = run(replace(own, output=str(tmp_path / "alone"))).folder
    assert TrainingJob(own, tmp_path, killed_at=2).codes() == [-9, -9]
    TrainingJob(own, tmp_path, resume=Path(own.output)).finish()
    same_losses(Path(own.output), alone)


def test_a_changed_file_is_refused_in_every_process(own: Settings, file: Path, tmp_path: Path) -> None:
    own = replace(own, checkpoint=replace(own.checkpoint, updates=1))
    assert TrainingJob(own, tmp_path, killed_at=1).codes() == [-9, -9]
    file.write_text(SOURCE.replace("width = request", "width = 1 * request"))
    job = TrainingJob(own, tmp_path, resume=Path(own.output))
    assert all(code not in (0, None) for code in job.codes())
    assert all("was changed" in job.errors(rank) for rank in range(2))


SCRIPT = """
import sys

import mine
from softbellman.config import load
from softbellman.training import Algorithm, Settings, run

handed = Algorithm("handed over", ("actor", mine.BEST))
run(load(Settings, sys.argv[1], overrides=[("output", sys.argv[2])]), algorithm=handed)
"""


def test_torchrun_of_a_script_that_hands_an_algorithm_over(own: Settings, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "settings.yaml").write_text(config.dump(replace(own, algorithm="mle")))
    command = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "script.py",
        "settings.yaml",
        "run",
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{tmp_path}",
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    found = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert found.returncode == 0, found.stderr
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert (
        record["sessions"][-1]["processes"] == 2 and record["settings"]["algorithm"] == "python:handed_over"
    )
