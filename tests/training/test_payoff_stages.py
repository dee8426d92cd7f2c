"""Every stage and whole runs with each payoff, on images whose features decide the caption."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training.harness import APART

from softbellman import config
from softbellman.data import EOS, UNK
from softbellman.payoffs.payoff import prepare_payoff
from softbellman.report import Console
from softbellman.training import run
from softbellman.training.assembly import Assembly
from softbellman.training.cache import StageCache
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import DataSettings, PayoffSettings, Settings
from softbellman.training.stages import AugmentedStage
from softbellman.training.task import load_task

CPU = torch.device("cpu")
WORDS = ["dog", "cat", "horse", "bird", "grass", "sand", "snow"]
STAGES = {
    "raml": ("augmented",),
    "vaml": ("oracle", "augmented"),
    "ocd": ("completion",),
    "reinforce": ("sequence",),
    "mixer": ("sequence",),
    "scst": ("sequence",),
    "rloo": ("sequence",),
    "mrt": ("sequence",),
    "pcl": ("consistency",),
    "future_success": ("future",),
    "professor_forcing": ("professor",),
    "interpolation": ("interpolated",),
    "erac": ("critic", "joint"),
    "ac": ("critic", "joint"),
}


@pytest.fixture
def settings(tiny_settings, tmp_path) -> Settings:
    """Images of an animal in a place, two captions each, one of them with a word of its own."""
    draws = np.random.default_rng(7)
    features, lines = draws.normal(size=(36, 7)).astype(np.float32) * 0.1, []
    for image in range(36):
        animal, place = int(draws.integers(4)), int(draws.integers(4, 7))
        features[image, [animal, place]] += 2
        split = "train" if image < 24 else "val" if image < 30 else "test"
        for caption in (
            f"a {WORDS[animal]} on the {WORDS[place]} .",
            f"the {WORDS[place]} {image} and a {WORDS[animal]}",
        ):
            lines.append(f"{image}.png\t{split}\t{caption}\n")
    np.save(tmp_path / "features.npy", features)
    (tmp_path / "features.names.txt").write_text("".join(f"{image}.png\n" for image in range(36)))
    (tmp_path / "captions.tsv").write_text("".join(lines))
    return replace(
        tiny_settings,
        data=DataSettings(kind="captions", path=str(tmp_path), test="test", min_frequency=2, max_length=12),
        actor=replace(
            tiny_settings.actor, attention="none", schedule=replace(tiny_settings.actor.schedule, epochs=1)
        ),
        evaluation=replace(tiny_settings.evaluation, metrics=("cider", "rouge_l", "chrf")),
    )


def records_of(folder: Path, *, drop=APART):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k not in drop} for record in records]


@pytest.mark.parametrize("references", ["one", "all"])
@pytest.mark.parametrize("metric", ["bleu", "cider", "rouge_l"])
def test_every_stage_makes_an_update(settings, tmp_path, metric, references):
    payoff_settings = PayoffSettings(metric=metric, references=references)
    task = load_task(settings.data)
    payoff = prepare_payoff(
        payoff_settings,
        task.train.references,
        device=CPU,
        eos_id=EOS,
        unknown_id=UNK,
    )
    for algorithm, stages in STAGES.items():
        if algorithm == "interpolation" and metric == "cider":
            continue  # refused: a word that no reference has changes it, each by its frequency
        own = replace(settings, algorithm=algorithm, payoff=payoff_settings)
        parts = Assembly(own, task, CPU, payoff)
        for name in stages:
            stage = parts.build(name)
            before = {key: module.state_dict() for key, module in stage.modules.items()}
            before = {key: {k: v.clone() for k, v in state.items()} for key, state in before.items()}
            batch = next(parts.train_batches(stage.schedule, name).epoch(0))
            assert batch.references.shape[1] == (2 if references == "all" else 1)
            sums = stage.update(batch, 0)
            assert math.isfinite(float(sums["payoff"])) and float(sums["payoff"]) != 0.0
            for key in stage.optimizers:
                moved = stage.modules[key].state_dict()
                assert any(not torch.equal(value, before[key][k]) for k, value in moved.items()), (name, key)
            found = stage.evaluate()
            assert all(math.isfinite(found[key]) for key in found if key != "rank_correlation")


def test_a_resumed_run_takes_the_frequencies_it_started_with(settings, tmp_path, monkeypatch, capsys):
    chosen = replace(settings, algorithm="raml", payoff=PayoffSettings(metric="cider", references="all"))
    whole = run(chosen, observer=Console())
    shown = capsys.readouterr().out
    assert (
        "payoff: CIDEr-D against all references times the reference length, frequencies of 24 documents"
        in shown
    )
    header = next(line for line in shown.splitlines() if line.startswith("system"))
    assert header.split() == [
        "system",
        "dev",
        "BLEU",
        "test",
        "BLEU",
        "CIDEr-D",
        "ROUGE-L",
        "chrF2",
        "length",
        "ratio",
    ]
    last = records_of(whole.folder)[-1]
    assert last["kind"] == "test" and whole.rows[-1].others == {
        name: last[f"test_{name}"] for name in ("cider", "rouge_l", "chrf")
    }
    validations = [record for record in records_of(whole.folder) if record["kind"] == "dev"]
    assert all({"dev_cider", "dev_rouge_l", "dev_chrf"} <= record.keys() for record in validations)

    update = AugmentedStage.update

    def dying(self, batch, step):
        if step == 1:
            raise KeyboardInterrupt
        return update(self, batch, step)

    again = replace(chosen, output=str(tmp_path / "again"))
    monkeypatch.setattr(AugmentedStage, "update", dying)
    with pytest.raises(KeyboardInterrupt):
        run(again)
    monkeypatch.setattr(AugmentedStage, "update", update)
    kept = tmp_path / "again" / "document_frequencies.safetensors"
    assert kept.read_bytes() == (whole.folder / kept.name).read_bytes()
    stored = config.load(Settings, Path(again.output) / "config.yaml")
    resumed = run(stored, resume=Path(again.output))
    assert records_of(resumed.folder) == records_of(whole.folder)


def test_the_cache_knows_payoffs_and_frequencies(settings, tmp_path):
    def key(stage, count=24, **payoff):
        own = replace(settings, cache=str(tmp_path / "cache"), payoff=PayoffSettings(**payoff))
        task = load_task(own.data)
        few = replace(
            task.train,
            **{
                name: getattr(task.train, name)[:count]
                for name in ("images", "rows", "references", "reference_texts")
            },
        )
        made = prepare_payoff(own.payoff, few.references, device=CPU, eos_id=EOS, unknown_id=UNK)
        return StageCache(own, RunFolder(tmp_path / "run"), task, made, device=CPU).key(stage)

    assert key("critic") == key("critic", count=20) != key("critic", metric="rouge_l")
    assert key("critic", metric="cider") == key("critic", metric="cider")
    assert key("critic", metric="cider") != key("critic", metric="cider", count=20)
    assert key("actor", metric="cider") == key("actor", metric="cider", count=20) == key("actor")


def test_features_of_another_width_are_named_at_resume(settings, tmp_path):
    chosen = replace(settings, algorithm="mle")
    folder = run(chosen).folder
    spec = (folder / "source.features.json").read_bytes()
    np.save(tmp_path / "features.npy", np.zeros((36, 9), dtype=np.float32))
    with pytest.raises(ValueError, match=r"features\.npy: features of 9 an image do not fit a model of 7"):
        run(chosen, resume=folder)
    assert (folder / "source.features.json").read_bytes() == spec
    np.save(tmp_path / "features.npy", np.zeros((36, 7), dtype=np.float32))
    lines = (tmp_path / "captions.tsv").read_text().replace("snow", "ice cubes")
    (tmp_path / "captions.tsv").write_text(lines)
    with pytest.raises(ValueError, match=r"training data, .*target vocabulary changed since"):
        run(chosen, resume=folder)
