"""Whole runs: what they leave, that they resume to the same numbers, that stages are shared."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training.harness import Killed, die_before, metrics_of, same_weights, weights_of

from softbellman import config
from softbellman.models import AttentionDecoder
from softbellman.training import Observer, load_run, run
from softbellman.training.cache import deciding_facts
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import PRESETS, Settings
from softbellman.training.stages import JointStage


class News(Observer):
    """What a run tells, in order."""

    def __init__(self):
        self.told, self.updates_done, self.result = [], Counter(), None

    def started(self, facts):
        assert "ERAC on cpu" in facts[0]
        self.told.append("started")

    @contextmanager
    def updates(self, stage, epoch, epochs, count):
        self.told.append(f"{stage} {epoch}/{epochs}")

        class Count:
            def update(_, count=1, numbers=None):
                self.updates_done[stage] += count

        yield Count()

    def validated(self, stage, epoch, metrics, *, best):
        self.told.append(f"{stage} validated")

    def stage_ended(self, stage, folder):
        assert folder.metrics_path.exists()
        self.told.append(f"{stage} ended")

    def finished(self, result):
        self.told.append("finished")
        self.result = result


def test_a_run_tells_its_observer_and_leaves_its_folder(tiny_settings):
    news = News()
    result = run(tiny_settings, observer=news)
    folder = result.folder
    assert news.told == [
        "started",
        *["actor 1/2", "actor validated", "actor 2/2", "actor validated", "actor ended"],
        *["critic 1/1", "critic validated", "critic ended"],
        *["joint validated", "joint 1/1", "joint validated", "joint 1/1", "joint validated", "joint ended"],
        "finished",
    ]
    assert news.updates_done == {"actor": 20, "critic": 10, "joint": 10} and news.result is result
    assert [row.system for row in result.rows] == ["MLE", "ERAC"]
    assert "tok:none" in result.rows[0].test.signature
    for name in (
        "config.yaml",
        "metrics.jsonl",
        "source.vocabulary.json",
        "target.vocabulary.json",
    ):
        assert (folder / name).stat().st_size > 0
    stems = {path.stem for path in (folder / "checkpoints").glob("*.safetensors")}
    # newest two and the selected one of each stage; joint has one at its start
    assert stems >= {
        "actor-best",
        "critic-best",
        "joint-best",
        "actor-000002",
        "critic-000001",
        "joint-000003",
    }
    assert len(stems) <= 3 + 2 + 1 + 3
    for stage in ("actor", "joint"):
        assert len((folder / "hypotheses" / f"test-{stage}.txt").read_text().splitlines()) == 20
    records = metrics_of(folder)
    assert {record["kind"] for record in records} == {"train", "dev", "health", "test"}
    joint = [r for r in records if r["stage"] == "joint" and r["kind"] == "dev"]
    assert joint[0]["step"] == 0 and {"dev_bleu", "dev_td_error", "rank_correlation"} <= joint[0].keys()
    trained = load_run(folder)
    assert len(trained.target_codec) == trained.model.output.out_features
    best = load_file(folder / "checkpoints" / "joint-best.safetensors")
    assert torch.equal(trained.model.output.weight, best["actor.output.weight"])


ERAC_STAGES = {"actor", "critic", "joint"}
VARIANTS = {
    "ac": ({"algorithm": "ac"}, ERAC_STAGES),
    "without future entropy": ({"credit.future_entropy": "false"}, ERAC_STAGES),
    "input feeding": ({"model.input_feeding": "true"}, ERAC_STAGES),
    "published": ({"preset": "published"}, ERAC_STAGES),
    "published with input feeding": ({"preset": "published", "model.input_feeding": "true"}, ERAC_STAGES),
    "warm-up": (
        {"warmup.schedule.epochs": "1", "warmup.schedule.batch_size": "20"},
        ERAC_STAGES | {"warmup"},
    ),
    "all references, averaged critic": (
        {"payoff.references": "all", "joint.follow": "target"},
        ERAC_STAGES,
    ),
    "batches by tokens": (
        {"actor.schedule.batch_unit": "tokens", "actor.schedule.batch_size": "300"},
        ERAC_STAGES,
    ),
    "raml": ({"algorithm": "raml"}, {"actor", "augmented"}),
    "raml, published": ({"algorithm": "raml", "preset": "published"}, {"actor", "augmented"}),
    "raml on insertions and deletions": (
        {"algorithm": "raml", "augmented.edits.proposal": "edit", "augmented.edits.max_distance": "3"},
        {"actor", "augmented"},
    ),
    "raml without the reference": (
        {
            "algorithm": "raml",
            "augmented.edits.proposal": "hamming",
            "augmented.edits.keep_reference": "false",
        },
        {"actor", "augmented"},
    ),
    "vaml": ({"algorithm": "vaml"}, {"actor", "oracle", "augmented"}),
    "vaml, published, input feeding": (
        {"algorithm": "vaml", "preset": "published", "model.input_feeding": "true"},
        {"actor", "oracle", "augmented"},
    ),
    "warm-up by completions": (
        {"warmup.schedule.epochs": "1", "warmup.target": "completion"},
        ERAC_STAGES | {"warmup"},
    ),
    "vaml from the actor, with a warm-up": (
        {
            "algorithm": "vaml",
            "augmented.start": "actor",
            "warmup.schedule.epochs": "1",
            "warmup.schedule.batch_size": "20",
        },
        {"actor", "warmup", "oracle", "augmented"},
    ),
    "optimal completion distillation": (
        {"algorithm": "ocd", "completion.mle_weight": "0.1"},
        {"actor", "completion"},
    ),
    "erac in bfloat16": ({"model.bfloat16_products": "all"}, ERAC_STAGES),
    "erac, the output in bfloat16": ({"model.bfloat16_products": "output"}, ERAC_STAGES),
    "vaml in bfloat16": (
        {"algorithm": "vaml", "model.bfloat16_products": "all"},
        {"actor", "oracle", "augmented"},
    ),
    "optimal completion distillation in bfloat16": (
        {"algorithm": "ocd", "model.bfloat16_products": "all"},
        {"actor", "completion"},
    ),
    "optimal completion distillation under BLEU": (
        {"algorithm": "ocd", "completion.payoff": "bleu"},
        {"actor", "completion"},
    ),
    "vaml, an oracle of completions": (
        {"algorithm": "vaml", "oracle.kind": "completion", "warmup.schedule.epochs": "1"},
        {"actor", "augmented"},
    ),
    "optimal completion distillation on edits": (
        {"algorithm": "ocd", "completion.states": "edits"},
        {"actor", "completion"},
    ),
}


@pytest.mark.parametrize(("overrides", "stages"), VARIANTS.values(), ids=VARIANTS.keys())
def test_every_variant_runs_to_the_end(tiny_settings, tmp_path, overrides, stages):
    base = tmp_path / "base.yaml"
    base.write_text(config.dump(tiny_settings))
    unpreset = [line for line in base.read_text().splitlines() if not line.startswith("preset")]
    base.write_text("\n".join(_without_preset_keys(unpreset)))
    pairs = list(overrides.items())
    settings = config.load(Settings, base, overrides=pairs, presets={"preset": PRESETS})
    result = run(settings)
    assert len(result.rows) == 2
    records = metrics_of(result.folder)
    assert {record["stage"] for record in records} == stages
    trained = [record for record in records if record["kind"] == "train"]
    for name in {"td_error", "cross_entropy", "payoff"}:
        assert all(math.isfinite(record[name]) for record in trained if name in record)
    last = trained[-1]
    assert "td_error" in last if "joint" in stages else "cross_entropy" in last
    if overrides.get("preset") == "published":
        assert settings.credit.actor_entropy == "normalized" and not settings.credit.mask_padding
        assert settings.augmented.weights == "published" and settings.oracle.bootstrap_after_end


def _without_preset_keys(lines):
    """A dumped config says every key; leave out those that a preset may set."""
    names = {key.split(".")[1] for key in PRESETS["published"]}
    return [line for line in lines if line.strip().split(":")[0] not in names]


@pytest.mark.parametrize("kill_at", [3, 7])
def test_a_killed_run_resumes_to_the_same_numbers(tiny_settings, tmp_path, monkeypatch, kill_at):
    whole = run(tiny_settings)
    again = replace(tiny_settings, output=str(tmp_path / "again"))
    die_before(monkeypatch, JointStage, kill_at)
    with pytest.raises(Killed):
        run(again)
    resumed = run(again, resume=Path(again.output))

    assert metrics_of(resumed.folder) == metrics_of(whole.folder)
    same_weights(weights_of(resumed.folder), weights_of(whole.folder))


def test_finished_stages_are_shared_through_the_cache(tiny_settings, tmp_path):
    cache = str(tmp_path / "cache")
    first = run(replace(tiny_settings, cache=cache))
    second_settings = replace(tiny_settings, cache=cache, algorithm="ac", output=str(tmp_path / "ac"))
    second = run(second_settings)
    kept = sorted(path.name.split("-")[0] for path in Path(cache).iterdir())
    assert kept == ["actor", "critic", "critic"]  # tau differs: two critics, one actor
    assert first.rows[0].test.score == second.rows[0].test.score
    actor = "actor-best"
    same_weights(
        {actor: weights_of(first.folder)[actor]},
        {actor: weights_of(second.folder)[actor]},
    )
    # a shared stage changes nothing: the same run without a cache gives the same numbers
    alone = run(replace(second_settings, cache="", output=str(tmp_path / "alone")))
    assert metrics_of(alone.folder) == metrics_of(second.folder)


def test_ac_and_erac_with_a_prior_share_the_critic(tiny_settings, tmp_path):
    """In the critic stage the actor does not diverge from itself, so that the temperature has no part."""
    prior = replace(tiny_settings.credit, prior="start", tau=0.3)
    cached = replace(tiny_settings, credit=prior, cache=str(tmp_path / "cache"))
    run(cached)
    ac = run(replace(cached, algorithm="ac", output=str(tmp_path / "ac")))
    kept = sorted(path.name.split("-")[0] for path in Path(cached.cache).iterdir())
    assert kept == ["actor", "critic"]
    alone = run(replace(cached, algorithm="ac", cache="", output=str(tmp_path / "alone")))
    assert metrics_of(alone.folder) == metrics_of(ac.folder)
    same_weights(weights_of(alone.folder), weights_of(ac.folder))
    other = replace(cached, credit=replace(prior, trace=0.5))
    assert deciding_facts(other, "critic") != deciding_facts(cached, "critic")


def test_a_diverging_stage_says_so(tiny_settings):
    wild = replace(
        tiny_settings.actor, optimizer=replace(tiny_settings.actor.optimizer, name="sgd", learning_rate=1e38)
    )
    with pytest.raises(FloatingPointError, match="stage actor diverged"):
        run(replace(tiny_settings, actor=wild))


def test_an_existing_run_is_not_overwritten(tiny_settings):
    settings = replace(tiny_settings, algorithm="mle")
    run(settings)
    with pytest.raises(ValueError, match="already holds a run"):
        run(settings)


def test_load_run_names_what_is_there(tiny_settings):
    folder = run(replace(tiny_settings, algorithm="mle")).folder
    with pytest.raises(ValueError, match="present: actor-best, actor-last"):
        load_run(folder, "joint")
    with pytest.raises(ValueError, match="not a run folder"):
        load_run(folder / "checkpoints")


def test_updates_have_bfloat16_products_and_validation_has_none(tiny_settings, monkeypatch):
    project, seen = AttentionDecoder.project, set()

    def watched(model, features):
        logits = project(model, features)
        seen.add((torch.is_grad_enabled(), logits.dtype))
        return logits

    monkeypatch.setattr(AttentionDecoder, "project", watched)
    settings = replace(
        tiny_settings, algorithm="mle", model=replace(tiny_settings.model, bfloat16_products="all")
    )
    run(settings)
    assert seen == {(True, torch.bfloat16), (False, torch.float32)}


def test_what_a_run_ends_with_has_the_runs_label(tiny_settings):
    result = run(replace(tiny_settings, label="mine"))
    assert [row.system for row in result.rows] == ["MLE", "mine"]
    assert [record["system"] for record in RunFolder(result.folder).test_records()] == ["MLE", "mine"]
