"""Runs on captions: every algorithm on images whose features decide the caption."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training.harness import APART, Killed, die_before

from softbellman import config
from softbellman.data import FeatureSpec
from softbellman.report import Console
from softbellman.training import load_run, run
from softbellman.training.assembly import Assembly
from softbellman.training.evaluation import bleu_orders, corpus_bleu
from softbellman.training.networks import build_actor
from softbellman.training.settings import DataSettings, EvaluationSettings, Settings
from softbellman.training.stages import JointStage
from softbellman.training.task import load_task

ANIMALS = ["dog", "cat", "horse", "bird"]
PLACES = ["grass", "sand", "snow"]


def write_images(folder: Path, *, positions: int = 0, count: int = 60) -> None:
    """Images of one animal in one place, two captions each; the features are noisy indicators of both."""
    draws = np.random.default_rng(7)
    shape = (count, positions, 8) if positions else (count, 8)
    features = draws.normal(size=shape).astype(np.float32) * 0.1
    lines = []
    for image in range(count):
        animal, place = int(draws.integers(4)), int(draws.integers(3))
        features[image, ..., animal] += 2
        features[image, ..., 4 + place] += 2
        split = "train" if image < 44 else "val" if image < 52 else "test"
        for words in (
            f"A {ANIMALS[animal]} on the {PLACES[place]} .",
            f"the {PLACES[place]} and a {ANIMALS[animal]}",
        ):
            lines.append(f"{image}.png\t{split}\t{words}\n")
    np.save(folder / "features.npy", features)
    (folder / "features.names.txt").write_text("".join(f"{image}.png\n" for image in range(count)))
    (folder / "captions.tsv").write_text("".join(lines))


@pytest.fixture
def caption_settings(tiny_settings, tmp_path) -> Settings:
    write_images(tmp_path)
    return replace(
        tiny_settings,
        data=DataSettings(kind="captions", path=str(tmp_path), test="test", min_frequency=1, max_length=12),
        actor=replace(tiny_settings.actor, attention="none", dropout=0.0),
        evaluation=replace(tiny_settings.evaluation, metrics=("bleu_orders",)),
    )


def records_of(folder: Path, *, drop=APART):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k not in drop} for record in records]


VARIANTS = {
    "raml": ({"algorithm": "raml"}, {"actor", "augmented"}),
    "raml, long captions dropped everywhere": (
        {"algorithm": "raml", "evaluation.drop_long": "true", "data.max_length": "5"},
        {"actor", "augmented"},
    ),
    "vaml": ({"algorithm": "vaml"}, {"actor", "oracle", "augmented"}),
    "ac": ({"algorithm": "ac"}, {"actor", "critic", "joint"}),
    "erac": ({"algorithm": "erac"}, {"actor", "critic", "joint"}),
    "erac, attention, all references": (
        {"actor.attention": "dot", "payoff.references": "all", "model.input_feeding": "true"},
        {"actor", "critic", "joint"},
    ),
    "erac, a critic that reads all references": (
        {"algorithm": "erac", "payoff.references": "all", "payoff.reads": "references"},
        {"actor", "critic", "joint"},
    ),
    "vaml, an oracle that reads all references": (
        {"algorithm": "vaml", "payoff.references": "all", "payoff.reads": "references"},
        {"actor", "oracle", "augmented"},
    ),
    "erac, longer returns, a prior, an average": (
        {"algorithm": "erac", "credit.trace": "0.6", "credit.prior": "start", "joint.average": "0.9"},
        {"actor", "critic", "joint"},
    ),
    "ocd": ({"algorithm": "ocd"}, {"actor", "completion"}),
}


@pytest.mark.parametrize(("overrides", "stages"), VARIANTS.values(), ids=VARIANTS.keys())
def test_every_algorithm_runs_to_the_end(caption_settings, tmp_path, overrides, stages):
    if "actor.attention" in overrides:
        write_images(tmp_path, positions=3)
    base = tmp_path / "base.yaml"
    base.write_text(config.dump(caption_settings))
    settings = config.load(Settings, base, overrides=list(overrides.items()))
    result = run(settings)
    assert len(result.rows) == 2
    records = records_of(result.folder)
    assert {record["stage"] for record in records} == stages
    for record in records:
        assert all(math.isfinite(record[name]) for name in ("td_error", "payoff") if name in record)
    last = records[-1]
    assert last["kind"] == "test" and last["test_bleu1"] >= last["test_bleu3"]
    actor = load_run(result.folder)
    assert actor.source_codec is None and actor.features is not None and actor.features.width == 8


def test_the_critic_is_judged_by_the_references_that_it_is_trained_on(caption_settings):
    """It was judged by all captions where the payoff of training counts one, and so looked worse than it was."""
    task = load_task(caption_settings.data)
    assert max(map(len, task.dev.references)) > 1
    for references, reads in (("one", "target"), ("all", "target"), ("all", "references")):
        payoff = replace(caption_settings.payoff, references=references, reads=reads)
        parts = Assembly(replace(caption_settings, payoff=payoff), task, torch.device("cpu"))
        for batch in (*parts.dev_batches.epoch(0), *parts.first_of_dev(9, 4)):
            groups = [task.dev.references[index] for index in batch.index.tolist()]
            counted = [1 if references == "one" else len(group) for group in groups]
            assert (batch.reference_lengths > 0).sum(1).tolist() == counted
            ends = (batch.critic_source == batch.special.eos).sum(1).tolist()
            assert ends == [len(group) if reads == "references" else 1 for group in groups]


def test_reading_references_that_do_not_count_is_refused(caption_settings):
    with pytest.raises(ValueError, match=r"payoff\.reads is references, but payoff\.references is one"):
        replace(caption_settings.payoff, references="one", reads="references")


def test_maximum_likelihood_learns_what_the_images_show(caption_settings, tmp_path, capsys):
    schedule = replace(caption_settings.actor.schedule, epochs=20, batch_size=11, decay=1.0, max_decays=99)
    optimizer = replace(caption_settings.actor.optimizer, learning_rate=2e-2)
    actor = replace(caption_settings.actor, schedule=schedule, optimizer=optimizer)
    settings = replace(caption_settings, algorithm="mle", actor=actor)
    result = run(settings, observer=Console())
    shown = capsys.readouterr().out
    assert "44 training images with 88 captions, features of 8" in shown
    assert f"softbellman caption {result.folder} --features" in shown and "translate" not in shown
    assert not (result.folder / "source.vocabulary.json").exists()
    assert FeatureSpec.load(result.folder) == FeatureSpec(8)
    assert result.rows[0].dev_bleu > 90  # the animal and the place of every image
    assert result.rows[0].test.score > 60
    lines = (result.folder / "hypotheses" / "test-actor.txt").read_text().splitlines()
    assert len(lines) == 8
    references = load_task(settings.data).test.reference_texts
    assert corpus_bleu(lines, references).score == result.rows[0].test.score


def test_a_killed_run_resumes_to_the_same_numbers(caption_settings, tmp_path, monkeypatch):
    whole = run(caption_settings)
    again = replace(caption_settings, output=str(tmp_path / "again"))
    die_before(monkeypatch, JointStage, 3)
    with pytest.raises(Killed):
        run(again)
    resumed = run(again, resume=Path(again.output))
    assert records_of(resumed.folder) == records_of(whole.folder)


def test_stages_are_shared_through_the_cache(caption_settings, tmp_path):
    cache = str(tmp_path / "cache")
    first = run(replace(caption_settings, cache=cache))
    other = run(replace(caption_settings, cache=cache, algorithm="raml", output=str(tmp_path / "raml")))
    kept = sorted(path.name.split("-")[0] for path in Path(cache).iterdir())
    assert kept == ["actor", "critic"]  # RAML took ERAC's actor
    weights = [load_file(run.folder / "checkpoints" / "actor-best.safetensors") for run in (first, other)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_the_digest_sees_the_features(caption_settings, tmp_path):
    before = load_task(caption_settings.data).digest()
    assert load_task(caption_settings.data).digest() == before
    features = np.load(tmp_path / "features.npy")
    np.save(tmp_path / "features.npy", features * 2)
    assert load_task(caption_settings.data).digest() != before


def test_bleu_of_shorter_n_grams_by_hand():
    found = bleu_orders(["a b c e", "b"], [["a b c d", "a x"], ["b"]], EvaluationSettings(tokenize="none"))
    # 4 of 5 words, 2 of 3 pairs, 1 of 2 triples; 5 words against references of 5: no penalty
    expected = {"bleu1": 4 / 5, "bleu2": (4 / 5 * 2 / 3) ** (1 / 2), "bleu3": (4 / 5 * 2 / 3 / 2) ** (1 / 3)}
    assert found == pytest.approx({name: 100 * value for name, value in expected.items()})


def test_shipped_settings_are_of_captions():
    for algorithm in ("mle", "raml", "vaml", "ac", "erac", "grid_erac"):
        path = Path(__file__).parents[2] / "configs" / f"flickr8k_{algorithm}.yaml"
        settings = config.load(Settings, path)
        grid = algorithm.startswith("grid_")
        assert settings.algorithm == algorithm.removeprefix("grid_") and settings.data.kind == "captions"
        assert settings.actor.attention == ("mlp" if grid else "none")
        assert settings.data.features == ("grid.npy" if grid else "")
        assert settings.evaluation.metrics == ("bleu_orders", "cider", "rouge_l")
        assert settings.credit.prior == "start" and settings.payoff.references == "one"


def test_settings_that_do_not_fit_are_named(caption_settings):
    with pytest.raises(
        ValueError, match=r"actor\.attention is dot, but the features are one vector an image"
    ):
        run(replace(caption_settings, actor=replace(caption_settings.actor, attention="dot")))
    with pytest.raises(ValueError, match=r"data\.path is empty"):
        load_task(replace(caption_settings.data, path=""))
    with pytest.raises(ValueError, match=r"data\.tokenizer must be word"):
        load_task(replace(caption_settings.data, tokenizer="sentencepiece"))
    with pytest.raises(ValueError, match=r"data\.features is given, but data\.kind is parallel"):
        DataSettings(kind="parallel", path="x", features="f.npy")
    sentences = replace(caption_settings, data=DataSettings())
    with pytest.raises(ValueError, match='attention must be "dot" or "mlp"'):
        build_actor(sentences, source_size=9, target_size=9)
