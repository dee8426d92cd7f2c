"""Runs with Transformers: every algorithm, images, files, kills, chunked logits, the shared encoding."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_updates import CPU, assert_same_update, one_update, settings_of
from training.harness import Killed, die_before, same_run
from training.test_captions import write_images
from training.test_waits import Waits

from softbellman import config
from softbellman.models import TransformerCaptioner, TransformerPixelCaptioner, TransformerSeq2Seq
from softbellman.models.transformer_layers import Layout
from softbellman.training import load_critic, load_oracle, load_run, run
from softbellman.training.algorithms import ALGORITHMS
from softbellman.training.assembly import Assembly
from softbellman.training.cache import deciding_facts
from softbellman.training.evaluation import corpus_batches, translate_corpus
from softbellman.training.settings import DataSettings, ModelSettings, Settings
from softbellman.training.stages import JointStage, base
from softbellman.training.task import Task, load_task

SMALL = ModelSettings(kind="transformer", hidden=16, layers=2, heads=2, feedforward=24)


@pytest.fixture
def transformed(tiny_settings: Settings) -> Settings:
    warmup = replace(tiny_settings.warmup, schedule=replace(tiny_settings.actor.schedule, epochs=1))
    return replace(tiny_settings, model=SMALL, warmup=warmup)


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(settings_of({}).data)


OVERRIDES = {
    "model.kind": "transformer",
    "model.embedding": "256",
    "model.attention_size": "256",
    "model.init_range": "0.1",
    "model.hidden": "12",
    "model.heads": "2",
    "model.feedforward": "16",
}

VARIANTS = {
    "mle": ({"algorithm": "mle", "model.tied_output": "true", "actor.embedding_dropout": "0.1"}, {"actor"}),
    "raml": ({"algorithm": "raml"}, {"actor", "augmented"}),
    "vaml": ({"algorithm": "vaml", "model.tied_reader": "true"}, {"actor", "warmup", "oracle", "augmented"}),
    "ocd": ({"algorithm": "ocd", "logits": "chunked"}, {"actor", "completion"}),
    "ac": ({"algorithm": "ac", "actor.dropout": "0"}, {"actor", "warmup", "critic", "joint"}),
    "erac": (
        {
            "algorithm": "erac",
            "model.tied_output": "true",
            "model.tied_reader": "true",
            "credit.prior": "start",
        },
        {"actor", "warmup", "critic", "joint"},
    ),
    "erac, bfloat16, chunked, published": (
        {"preset": "published", "logits": "chunked", "model.bfloat16_products": "all"},
        {"actor", "warmup", "critic", "joint"},
    ),
}


def changed(settings: Settings, tmp_path: Path, overrides: dict[str, str]) -> Settings:
    file = tmp_path / "settings.yaml"
    file.write_text(config.dump(settings))
    from softbellman.training.settings import PRESETS

    return config.load(Settings, file, overrides=overrides.items(), presets={"preset": PRESETS})


@pytest.mark.parametrize("name", VARIANTS)
def test_every_algorithm_runs_and_its_weights_translate_alike(transformed, tmp_path, name):
    overrides, stages = VARIANTS[name]
    settings = changed(transformed, tmp_path, overrides)
    result = run(settings)
    held = {path.stem.removesuffix("-best") for path in (result.folder / "checkpoints").glob("*-best.*")}
    assert held == stages
    trained = load_run(result.folder)
    assert isinstance(trained.model, TransformerSeq2Seq)
    corpus = load_task(settings.data).test
    lines = translate_corpus(
        trained.model,
        corpus_batches(corpus, 24),
        trained.target_codec,
        trained.settings.evaluation,
        device=CPU,
    )
    last = result.rows[-1].stage
    assert (result.folder / "hypotheses" / f"test-{last}.txt").read_text().splitlines() == list(lines)


def test_critic_and_oracle_are_loaded(transformed, tmp_path):
    critic = load_critic(run(replace(transformed, algorithm="erac")).folder).model
    vaml = replace(transformed, algorithm="vaml", output=str(tmp_path / "vaml"))
    oracle = load_oracle(run(vaml).folder).model
    reference, prefix = torch.tensor([[5, 6, 3]]), torch.tensor([[2, 5]])
    for model in (critic, oracle):
        assert isinstance(model, TransformerSeq2Seq)
        assert model(reference, prefix).isfinite().all()


@pytest.mark.parametrize("positions", [0, 4])
def test_captions_of_vectors_and_grids(transformed, tmp_path, positions):
    write_images(tmp_path, positions=positions)
    settings = replace(
        transformed,
        data=DataSettings(kind="captions", path=str(tmp_path), test="test", min_frequency=1, max_length=12),
    )
    result = run(settings)
    model = load_run(result.folder).model
    assert isinstance(model, TransformerCaptioner)
    assert [row.stage for row in result.rows] == ["actor", "joint"]


@pytest.mark.parametrize("encoder", ["trained", "likelihood", "random"])
def test_scenes_from_pixels(transformed, encoder):
    one = replace(transformed.actor.schedule, epochs=1)
    settings = replace(
        transformed,
        data=DataSettings(
            kind="scenes", pairs=12, dev_pairs=4, test_pairs=4, difficulty=1.0, min_frequency=1, max_length=25
        ),
        model=replace(SMALL, image_width=16, image_encoder=encoder),
        actor=replace(transformed.actor, schedule=one),
    )
    folder = run(settings).folder
    assert isinstance(load_run(folder).model, TransformerPixelCaptioner)
    first, last = (
        load_file(folder / "checkpoints" / f"{stage}-best.safetensors") for stage in ("actor", "joint")
    )
    images = [name for name in first if name.startswith("actor.image_encoder")]
    same = all(torch.equal(first[name], last[name]) for name in images)
    assert images
    # A joint stage whose start is selected has the start's weights, so only what must not move is looked at.
    assert same or encoder == "trained"


@pytest.mark.parametrize("overrides", [{}, {"model.tied_output": "true", "joint.average": "0.9"}], ids=str)
def test_a_killed_run_is_repeated_bit_for_bit(transformed, tmp_path, monkeypatch, overrides):
    settings = changed(transformed, tmp_path, overrides)
    settings = replace(settings, checkpoint=replace(settings.checkpoint, updates=1))
    whole = run(settings).folder
    die_before(monkeypatch, JointStage, 3)
    again = replace(settings, output=str(tmp_path / "again"))
    with pytest.raises(Killed):
        run(again)
    run(again, resume=tmp_path / "again")
    same_run(whole, tmp_path / "again")


@pytest.mark.parametrize("stage", ["actor", "critic", "joint"])
def test_chunked_logits_give_the_same_update(task, stage):
    still = {**OVERRIDES, "actor.dropout": "0", "critic.dropout": "0"}
    whole = one_update(task, stage, still)
    assert_same_update(one_update(task, stage, {**still, "logits": "chunked"}), whole)


@pytest.mark.parametrize("rate", ["0", "0.3"])
def test_the_sources_are_encoded_once_where_no_dropout_lies_on_them(task, rate, monkeypatch):
    calls = []
    encode = TransformerSeq2Seq.encode
    parts = Assembly(settings_of({**OVERRIDES, "actor.dropout": rate}), task, CPU)
    monkeypatch.setattr(
        TransformerSeq2Seq, "encode", lambda self, source: calls.append(self) or encode(self, source)
    )
    stage = parts.build("joint")
    stage.update(next(parts.train_batches(stage.schedule, "joint").epoch(0)), 0)
    of_actor = sum(model is parts.actor for model in calls)
    assert of_actor == (1 if rate == "0" else 3)  # else: drawing, the policy's graph, maximum likelihood


def test_a_shared_encoding_gives_the_gradients_of_separate_ones(task, monkeypatch):
    still = {**OVERRIDES, "actor.dropout": "0", "critic.dropout": "0"}
    shared = one_update(task, "joint", still)
    monkeypatch.setattr(TransformerSeq2Seq, "encodes_alike", property(lambda self: False))
    assert_same_update(shared, one_update(task, "joint", still))


@pytest.mark.parametrize("stage", ["actor", "warmup"])
def test_an_update_of_maximum_likelihood_reads_nothing_from_its_device(task, monkeypatch, stage):
    """As on a GPU, where all positions are computed."""
    monkeypatch.setattr(base, "asking_waits", lambda tensor: True)
    monkeypatch.setattr(Layout, "of_mask", classmethod(lambda cls, mask: cls(*mask.shape)))

    def of_all(self, source, prefix, rows, *, memory=None):
        return self.features(source, prefix, memory=memory).flatten(0, 1).index_select(0, rows)

    monkeypatch.setattr(TransformerSeq2Seq, "features_at", of_all)
    parts = Assembly(
        settings_of({**OVERRIDES, "actor.label_smoothing": "0.1", "logits": "chunked"}), task, CPU
    )
    built = parts.build(stage)
    batch = next(parts.train_batches(built.schedule, stage).epoch(0))
    built.update(batch, 0)
    with Waits() as waits:
        built.update(batch, 1)
    assert waits.counts == {}


def test_the_warmup_scales_the_values_and_not_the_embeddings(task):
    overrides = {
        **OVERRIDES,
        "model.tied_output": "true",
        "model.tied_reader": "true",
        "warmup.scale": "0.25",
    }
    parts = Assembly(settings_of(overrides), task, CPU)
    reference, prefix = torch.tensor([[5, 6, 3]]), torch.tensor([[2, 5, 6]])
    parts.reader.eval()
    with torch.no_grad():
        logits = parts.reader(reference, prefix)
        parts.build("critic")
        torch.testing.assert_close(parts.reader(reference, prefix), 0.25 * logits, rtol=1e-5, atol=1e-6)


def test_one_network_of_the_settings_sizes(task):
    parts = Assembly(
        settings_of({**OVERRIDES, "model.layers": "3", "model.attention_dropout": "0.2"}), task, CPU
    )
    for model in (parts.actor, parts.reader):
        assert len(model.encoder) == len(model.decoder) == 3
        assert model.width == 12
        assert model.decoder[0].prefix.heads == 2
        assert model.decoder[0].memory.dropout == 0.2
        assert model.decoder[0].feed_forward.inner.out_features == 16
    assert parts.actor.decoder[0].dropout.p == 0.3
    assert parts.reader.decoder[0].dropout.p == 0.2


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            {"model.kind": "transfomer"},
            "model.kind must be lstm, transformer, hf or the name of your own model",
        ),
        (
            {"model.kind": "transformer", "model.embedding": "9"},
            r"model.kind transformer does not read model.embedding \(9\): leave it out",
        ),
        (
            {"model.kind": "transformer", "model.input_feeding": "true"},
            "does not read model.input_feeding",
        ),
        ({"model.heads": "2"}, r"model.kind lstm does not read model.heads \(2\)"),
        ({"model.tied_output": "true"}, "does not read model.tied_output"),
        ({"model.kind": "transformer", "model.hidden": "30"}, "even and a multiple of the 4 heads, got 30"),
        (
            {"model.kind": "transformer", "model.options": "{a: 1}"},
            "does not read model.options",
        ),
        (
            {"model.kind": "transformer", "critic.attention": "dot"},
            r"model.kind transformer does not read critic.attention \(dot\)",
        ),
        ({"model.kind": "transformer", "cuda_graphs": "true"}, "does not read cuda_graphs"),
    ],
    ids=str,
)
def test_what_nothing_reads_is_refused(overrides, words):
    with pytest.raises(config.ConfigError, match=words):
        config.load(Settings, overrides=overrides.items())


@pytest.mark.parametrize(
    "key", ["heads", "feedforward", "attention_dropout", "tied_output", "tied_reader", "hidden", "layers"]
)
def test_each_size_is_part_of_the_cache_key(transformed, key):
    values = {"heads": 4, "feedforward": 7, "attention_dropout": 0.1, "hidden": 24, "layers": 1}
    other = replace(transformed, model=replace(SMALL, **{key: values.get(key, True)}))
    for stage in ("actor", "critic"):
        assert deciding_facts(transformed, stage) != deciding_facts(other, stage)


def test_the_record_of_an_older_run_counts_as_an_lstm(tiny_settings):
    """What an older version did not know had its default."""
    from softbellman.training.record import RunRecord
    from softbellman.training.resumption import changed_settings

    settings = ALGORITHMS["mle"].settle(replace(tiny_settings, algorithm="mle"))
    folder = run(settings).folder
    path = folder / "record.json"
    content = json.loads(path.read_text())
    new = ("model.kind", "model.options", "model.heads", "actor.label_smoothing", "actor.schedule.kind")
    content["settings"] = {k: v for k, v in content["settings"].items() if k not in new}
    del content["objects"]
    path.write_text(json.dumps(content))
    assert changed_settings(RunRecord.read(folder), settings) == {}
