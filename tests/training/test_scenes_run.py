"""Runs on scenes: every algorithm from pixels to captions, with the image encoder trained, frozen or random."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training.harness import APART, Killed, die_before

from softbellman import config
from softbellman.data import PixelSpec
from softbellman.data.scenes import judge_captions
from softbellman.data.scenes.generator import generate_split
from softbellman.experiments import build_table, collect_runs
from softbellman.experiments.rescoring import compute_missing
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


def test_the_truth_of_captions_is_logged_and_can_be_computed_later(scene_settings, tmp_path):
    settings = replace(scene_settings, algorithm="mle")
    asked = replace(settings, evaluation=replace(settings.evaluation, metrics=("truth",)))
    result = run(asked)
    lines = RunFolder(result.folder).read_hypotheses("test-actor")
    scenes = generate_split("test", seed=asked.data.seed, count=4, difficulty=1.0).scenes
    expected = judge_captions(lines, scenes)
    records = records_of(result.folder)
    (test,) = [record for record in records if record["kind"] == "test"]
    assert (test["test_truth"], test["test_truth_readable"]) == (100 * expected.true, 100 * expected.readable)
    assert all(0 <= record["dev_truth"] <= 100 for record in records if record["kind"] == "dev")
    assert result.rows[0].others["truth_relating"] == test["test_truth_relating"]
    later = run(replace(settings, output=str(tmp_path / "later")))
    folder = RunFolder(later.folder)
    captions = [group[0] for group in generate_split("test", seed=1, count=4, difficulty=1.0).captions]
    folder.write_hypotheses("test-actor", [*captions[:2], captions[0], "a circle a"])  # two of four are true
    table = build_table(compute_missing(collect_runs([later.folder]), ["truth"]))
    assert list(table.groups[0].values("test_truth").values()) == [50.0]
    assert list(table.groups[0].values("test_truth_readable").values()) == [75.0]


def test_truth_is_refused_where_there_are_no_scenes(scene_settings, tiny_settings):
    metrics = replace(tiny_settings.evaluation, metrics=("truth",))
    with pytest.raises(ValueError, match=r"evaluation\.metrics has truth, .*, but data\.kind is builtin"):
        replace(tiny_settings, evaluation=metrics)
    text = run(replace(tiny_settings, algorithm="mle"))
    with pytest.raises(ValueError, match="truth is of captions of scenes, and the run is on builtin data"):
        compute_missing(collect_runs([text.folder]), ["truth"])


def test_a_killed_run_resumes_to_the_same_numbers(scene_settings, tmp_path, monkeypatch):
    settings = replace(scene_settings, model=replace(scene_settings.model, image_encoder="likelihood"))
    whole = run(settings)
    again = replace(settings, output=str(tmp_path / "again"))
    die_before(monkeypatch, JointStage, 2)
    with pytest.raises(Killed):
        run(again)
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
