"""Runs on scenes: every algorithm from pixels to captions, with the image encoder trained, frozen or random."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training.harness import APART

from softbellman import config
from softbellman.data import PixelSpec
from softbellman.report import Console
from softbellman.training import load_run, run
from softbellman.training.algorithms import ALGORITHMS
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import DataSettings, Settings
from softbellman.training.stages import JointStage
from softbellman.training.task import load_task


@pytest.fixture
def scene_settings(tiny_settings) -> Settings:
    schedule = replace(tiny_settings.actor.schedule, epochs=1)
    return replace(
        tiny_settings,
        data=DataSettings(
            kind="scenes", pairs=12, dev_pairs=4, test_pairs=4, difficulty=1.0, min_frequency=1, max_length=25
        ),
        model=replace(tiny_settings.model, image_width=16),
        actor=replace(tiny_settings.actor, schedule=schedule),
        joint=replace(tiny_settings.joint, schedule=replace(tiny_settings.joint.schedule, interval=1)),
        augmented=replace(tiny_settings.augmented, start="actor"),
        evaluation=replace(tiny_settings.evaluation, max_length=12),
    )


def encoder_of(folder: Path, stage: str, which: str = "last") -> dict[str, torch.Tensor]:
    weights = load_file(RunFolder(folder).weights(stage, which))
    return {key: value for key, value in weights.items() if key.startswith("actor.image_encoder.")}


def records_of(folder: Path) -> list[dict]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if k not in APART} for r in records]


@pytest.mark.parametrize("algorithm", ["raml", "vaml", "ocd", "ac", "erac"])
def test_every_algorithm_runs_to_the_end(scene_settings, algorithm, capsys, monkeypatch):
    monkeypatch.setattr("softbellman.report.console.draw_curve", lambda *paths: None)  # as slow as the run
    result = run(replace(scene_settings, algorithm=algorithm), observer=Console())
    shown = capsys.readouterr().out
    assert "12 training images with 60 captions, 48 x 48 pixels" in shown
    assert f"softbellman caption {result.folder} {result.folder}/scenes/*.png" in shown
    assert "translate" not in shown
    assert len(result.rows) == 2 and "nrefs:5" in result.rows[0].test.signature
    records = records_of(result.folder)
    assert {record["stage"] for record in records} == set(ALGORITHMS[algorithm].stages) - {"warmup"}
    for record in records:
        assert all(math.isfinite(record[name]) for name in ("td_error", "payoff") if name in record)
    stage = ALGORITHMS[algorithm].stages[-1]
    before, after = encoder_of(result.folder, "actor", "best"), encoder_of(result.folder, stage)
    assert any(not torch.equal(before[key], after[key]) for key in before)  # trained on
    actor = load_run(result.folder)
    assert actor.source_codec is None and actor.features == PixelSpec(48)


def test_encoder_frozen_after_likelihood_shares_its_stages(scene_settings, tmp_path):
    settings = replace(scene_settings, cache=str(tmp_path / "cache"))
    whole = run(settings)
    frozen = replace(
        settings,
        model=replace(settings.model, image_encoder="likelihood"),
        output=str(tmp_path / "frozen"),
    )
    result = run(frozen)
    kept = sorted(path.name.split("-")[0] for path in Path(settings.cache).iterdir())
    assert kept == ["actor", "critic"]  # both runs took the same
    before = encoder_of(result.folder, "actor", "best")
    assert all(
        torch.equal(before[key], value) for key, value in encoder_of(whole.folder, "actor", "best").items()
    )
    assert all(torch.equal(before[key], value) for key, value in encoder_of(result.folder, "joint").items())
    weights = [
        load_file(path)["actor.output.weight"]
        for path in (
            RunFolder(result.folder).weights("actor", "best"),
            RunFolder(result.folder).weights("joint", "last"),
        )
    ]
    assert not torch.equal(*weights)


def test_random_encoder_never_moves(scene_settings, tmp_path):
    settings = replace(
        scene_settings, algorithm="mle", model=replace(scene_settings.model, image_encoder="random")
    )
    first = run(settings)
    schedule = replace(settings.actor.schedule, epochs=2)
    other = run(
        replace(settings, actor=replace(settings.actor, schedule=schedule), output=str(tmp_path / "longer")),
    )
    before, after = encoder_of(first.folder, "actor"), encoder_of(other.folder, "actor")
    assert before and all(torch.equal(before[key], after[key]) for key in before)


class Killed(Exception):
    pass


def test_a_killed_run_resumes_to_the_same_numbers(scene_settings, tmp_path, monkeypatch):
    settings = replace(scene_settings, model=replace(scene_settings.model, image_encoder="likelihood"))
    whole = run(settings)
    update = JointStage.update

    def dying(self, batch, step):
        if step == 2:
            raise Killed
        return update(self, batch, step)

    again = replace(settings, output=str(tmp_path / "again"))
    monkeypatch.setattr(JointStage, "update", dying)
    with pytest.raises(Killed):
        run(again)
    monkeypatch.setattr(JointStage, "update", update)
    resumed = run(again, resume=Path(again.output))
    assert records_of(resumed.folder) == records_of(whole.folder)


def test_the_digest_sees_the_pixels(scene_settings, monkeypatch):
    before = load_task(scene_settings.data).digest()
    assert load_task(scene_settings.data).digest() == before
    assert load_task(replace(scene_settings.data, seed=2)).digest() != before
    monkeypatch.setattr("softbellman.data.scenes.layout.BACKGROUND", (200, 200, 200))  # the captions stay
    assert load_task(scene_settings.data).digest() != before


def test_shipped_settings_are_of_scenes():
    for algorithm in ("mle", "raml", "vaml", "ac", "erac"):
        settings = config.load(Settings, Path(__file__).parents[2] / "configs" / f"scenes_{algorithm}.yaml")
        assert settings.algorithm == algorithm and settings.data.kind == "scenes"
        assert settings.actor.attention == "dot" and settings.model.image_encoder == "trained"


def test_settings_that_do_not_fit_are_named(scene_settings):
    likelihood = replace(scene_settings, model=replace(scene_settings.model, image_encoder="likelihood"))
    scratch = replace(likelihood.augmented, start="scratch")
    idle = replace(likelihood.actor, schedule=replace(likelihood.actor.schedule, epochs=0))
    for settings, message in (
        (
            replace(likelihood, data=DataSettings(pairs=50, dev_pairs=5, test_pairs=5)),
            "which reads no pixels",
        ),
        (replace(likelihood, algorithm="raml", augmented=scratch), r"augmented\.start is scratch"),
        (replace(likelihood, actor=idle), r"actor\.schedule\.epochs is 0"),
        (
            replace(scene_settings, model=replace(scene_settings.model, image_width=20)),
            "multiple of 16, got 20",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            run(replace(settings, output=""))
    with pytest.raises(ValueError, match=r"data\.path is given, but data\.kind is scenes"):
        DataSettings(kind="scenes", path="here")
    with pytest.raises(ValueError, match=r"data\.tokenizer must be word for scenes"):
        DataSettings(kind="scenes", tokenizer="sentencepiece")
