"""Single updates of small stages, for tests that compare two ways to make them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from softbellman.config import load
from softbellman.training.assembly import Assembly
from softbellman.training.rollout import Rollout
from softbellman.training.settings import PRESETS, Settings
from softbellman.training.stages import Stage, Sums
from softbellman.training.stages.drawing import Drawing
from softbellman.training.task import Task

CPU = torch.device("cpu")
SMALL = {
    "device": "cpu",
    "data.pairs": "150",
    "data.dev_pairs": "12",
    "data.test_pairs": "10",
    "data.difficulty": "1",
    "data.min_frequency": "1",
    "data.max_length": "20",
    "model.embedding": "12",
    "model.hidden": "12",
    "model.attention_size": "10",
    "model.init_range": "0.6",  # policies and targets far from uniform
    "actor.dropout": "0.3",
    "critic.dropout": "0.2",
    "oracle.dropout": "0.2",
    "credit.tau": "0.3",
    "credit.smoothness": "0.5",
    "warmup.schedule.epochs": "1",
}


def settings_of(overrides: dict[str, str]) -> Settings:
    """Settings of a small run with some keys changed."""
    return load(Settings, overrides={**SMALL, **overrides}.items(), presets={"preset": PRESETS})


def one_update(
    task: Task, name: str, overrides: dict[str, str], prepare: Callable[[Assembly], None] = lambda parts: None
) -> tuple[Stage, Sums, dict[str, Tensor]]:
    """The first update of a stage: the stage, its diagnostics and gradients. `prepare` may change the parts before."""
    parts = Assembly(settings_of(overrides), task, CPU)
    prepare(parts)
    stage = parts.build(name)
    batch = next(parts.train_batches(stage.schedule, name).epoch(0))
    torch.manual_seed(3)
    sums = stage.update(batch, 0)
    gradients = {
        f"{network}.{key}": parameter.grad
        for network, module in stage.modules.items()
        for key, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    return stage, sums, gradients


def assert_same_update(
    found: tuple[Stage, Sums, dict[str, Tensor]], wanted: tuple[Stage, Sums, dict[str, Tensor]]
) -> None:
    """Equal diagnostics and gradients within the rounding of float32."""
    assert found[1].keys() == wanted[1].keys()
    for key, value in wanted[1].items():
        torch.testing.assert_close(found[1][key], value, rtol=2e-5, atol=1e-6, msg=key)
    assert found[2].keys() == wanted[2].keys() != set()
    for key, expected in wanted[2].items():
        scale = float(expected.abs().max())
        torch.testing.assert_close(found[2][key], expected, rtol=0, atol=2e-5 * scale + 1e-7, msg=key)


def say_more_after_the_end(monkeypatch: pytest.MonkeyPatch, *, token: int = 7) -> None:
    """From now on drawn sequences have tokens behind their ends, which no loss may read."""
    draw = Drawing.draw

    def spoilt(self: Drawing, *given: Any, **options: Any) -> Rollout:
        found = draw(self, *given, **options)
        behind = torch.cat([torch.zeros_like(found.mask[:, :1]), ~found.mask[:, :-1]], 1)
        return found._replace(
            actions=found.actions.masked_fill(~found.mask, token),
            prefix=found.prefix.masked_fill(behind, token),
        )

    monkeypatch.setattr(Drawing, "draw", spoilt)
