"""Stages that diverge: skipped updates, the kept batch, huge finite numbers, collapse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file
from training.harness import Warnings

from softbellman.training import run
from softbellman.training.assembly import Assembly
from softbellman.training.loop import MOST_SKIPPED
from softbellman.training.settings import Settings
from softbellman.training.stages import ActorStage, base


@pytest.fixture
def short(tiny_settings: Settings) -> Settings:
    return replace(tiny_settings, algorithm="mle")


def with_rate(settings: Settings, rate: float) -> Settings:
    optimizer = replace(settings.actor.optimizer, name="sgd", learning_rate=rate)
    return replace(settings, actor=replace(settings.actor, optimizer=optimizer))


@pytest.mark.parametrize("rate", (1e38, 1e30, 1e12))
def test_a_diverged_stage_ends_with_a_sentence(short: Settings, rate: float) -> None:
    with pytest.raises(FloatingPointError, match="stage actor diverged before update"):
        run(with_rate(short, rate))
    record = json.loads((Path(short.output) / "record.json").read_text())
    assert record["sessions"][-1]["status"] == "failed" and "diverged" in record["sessions"][-1]["reason"]


def poison(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """Weights that give NaN in some updates."""
    update = ActorStage.update

    def poisoned(self, batch, step):
        if step not in steps:
            return update(self, batch, step)
        weight = self.modules["actor"].output.weight
        kept = weight.detach().clone()
        weight.data[0] = torch.nan
        try:
            sums = update(self, batch, step)
        finally:
            assert weight.data[1:].isfinite().all()
            weight.data.copy_(kept)
        return sums

    monkeypatch.setattr(ActorStage, "update", poisoned)


@pytest.mark.parametrize("waits", (False, True), ids=("as on the CPU", "as on a GPU"))
def test_updates_that_are_not_finite_are_skipped_and_counted(
    short: Settings, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    monkeypatch.setattr(base, "asking_waits", lambda tensor: waits)
    poison(monkeypatch, {3, 4, 12})
    seen = Warnings()
    folder = run(short, observer=seen).folder
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record.get("skipped_updates") for record in records if record["kind"] == "train"] == [2.0, 1.0]
    assert "2 updates before update 10 were skipped" in seen.told[0]
    assert all(record["perplexity"] > 0 for record in records if record["kind"] == "train")


def test_many_in_a_row_stop_the_stage_and_keep_the_batch(
    short: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, set(range(2, 100)))
    schedule = replace(short.actor.schedule, batch_size=8)
    with pytest.raises(
        FloatingPointError, match=r"in \d+ updates in a row, which were skipped; the last batch is in"
    ):
        run(replace(short, actor=replace(short.actor, schedule=schedule)))
    (path,) = (Path(short.output) / "diverged").iterdir()
    assert load_file(path)["source"].shape[0] == 8
    assert MOST_SKIPPED == 10


@pytest.mark.parametrize(
    ("scores", "best", "last"),
    (
        ((50.0, 60.0, 55.0, 57.0), (20, 60.0), (40, 57.0)),
        ((50.0, 60.0, 55.0, 4.0), (20, 60.0), (30, 55.0)),
    ),
    ids=("to the end", "to a collapse"),
)
@pytest.mark.parametrize("select", ("best", "last"))
def test_a_stage_ends_with_its_best_weights_or_its_last(
    short: Settings,
    monkeypatch: pytest.MonkeyPatch,
    select: Literal["best", "last"],
    scores: tuple[float, ...],
    best: tuple[int, float],
    last: tuple[int, float],
) -> None:
    given = iter(scores)
    kept: dict[int, torch.Tensor] = {}

    def judge(self: Assembly) -> dict[str, float]:
        kept[10 * (len(kept) + 1)] = self.actor.output.weight.detach().clone()
        return {"dev_bleu": next(given)}

    monkeypatch.setattr(Assembly, "judge_actor", judge)
    schedule = replace(short.actor.schedule, epochs=4, select=select)
    result = run(replace(short, actor=replace(short.actor, schedule=schedule)))
    step, score = last if select == "last" else best
    newest = json.loads(max(result.folder.glob("checkpoints/actor-0*.json")).read_text())
    assert (newest["best_step"], newest["score"]) == (step, score)
    assert result.rows[0].dev_bleu == score
    weights = load_file(result.folder / "checkpoints" / "actor-best.safetensors")
    assert torch.equal(weights["actor.output.weight"], kept[step])


@pytest.mark.parametrize(
    ("scores", "updates"),
    (
        ((50.0, 60.0, 4.0, 70.0), 30),
        ((50.0, 60.0, 6.0, 70.0), 40),
        ((0.5, 0.01, 3.0, 4.0), 40),
    ),
)
def test_a_collapsed_score_ends_the_stage(
    short: Settings, monkeypatch: pytest.MonkeyPatch, scores: tuple[float, ...], updates: int
) -> None:
    """Below a tenth of the first score; a first score below 1 says nothing."""
    given = iter(scores)
    monkeypatch.setattr(Assembly, "judge_actor", lambda self: {"dev_bleu": next(given)})
    schedule = replace(short.actor.schedule, epochs=4)
    seen = Warnings()
    folder = run(replace(short, actor=replace(short.actor, schedule=schedule)), observer=seen).folder
    newest = json.loads(max(folder.glob("checkpoints/actor-0*.json")).read_text())
    assert newest["step"] == updates
    assert newest["ended"] == ("collapse" if updates == 30 else "epochs")
    assert bool(seen.told) == (updates == 30)
    if seen.told:
        assert "dev_bleu fell from 50 to 4; the weights selected before are taken" in seen.told[0]
        assert newest["best_step"] == 20
