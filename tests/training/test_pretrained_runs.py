"""Runs that tune a model of transformers: every algorithm, resumption, what a folder holds, export, refusals."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pretrained_folders import EVERY, write_bart, write_bert, write_marian, write_t5
from training.harness import Killed, die_before, same_run

from softbellman import config
from softbellman.cli.main import main
from softbellman.config import ConfigError
from softbellman.data import SpecialTokens
from softbellman.data.corpus import pad_rows
from softbellman.models.huggingface import LinearPretrained, PretrainedReader
from softbellman.training import export_pretrained, load_critic, load_oracle, load_run, run
from softbellman.training.algorithms import ALGORITHMS
from softbellman.training.edited import alphabet
from softbellman.training.files import DamagedFile
from softbellman.training.resumption import ResumeError
from softbellman.training.settings import Settings
from softbellman.training.stages import ActorStage

LEARNT = ("perplexity", "td_error", "actor_gradient", "critic_gradient", "payoff")

STAGES = (
    "actor",
    "warmup",
    "critic",
    "joint",
    "oracle",
    "augmented",
    "completion",
    "scheduled",
    "sequence",
    "consistency",
    "search",
    "future",
)


def tuned(settings: Settings, folder: Path, algorithm: str = "mle", **keys: object) -> Settings:
    """A run of two updates a stage."""
    given = config.flatten(settings)
    words = {
        key: value
        for key, value in given.items()
        if key.startswith(("data.", "evaluation.")) or key in ("output", "device")
    }
    words |= {f"{stage}.schedule.max_updates": 2 for stage in STAGES} | {
        f"{stage}.schedule.batch_size": 8 for stage in STAGES
    }
    words |= {"algorithm": algorithm, "model.kind": "hf", "model.path": str(folder), "data.tokenizer": "hf"}
    words |= {
        "data.pairs": 60,
        "actor.dropout": 0.1,
        "evaluation.max_length": 20,
        "threads": 1,
        "keep_memory": False,
        **keys,
    }
    return config.load(Settings, overrides=[(key, str(value)) for key, value in words.items() if value != ()])


@pytest.mark.parametrize("algorithm", [name for name in ALGORITHMS if name != "professor_forcing"])
def test_every_algorithm_tunes_marian(algorithm, tiny_settings, tmp_path) -> None:
    """Its padding is its decoder start, and its end is id 0."""
    result = run(tuned(tiny_settings, write_marian(tmp_path / "model"), algorithm))
    assert all(0.0 <= row.test.score <= 100.0 for row in result.rows)
    records = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    gradients = [value for record in records for key, value in record.items() if key.endswith("_gradient")]
    assert gradients and all(0.0 < value < 1e6 for value in gradients)


@pytest.mark.parametrize("name", ["t5", "t5-untied", "bart"])
@pytest.mark.parametrize("algorithm", ["erac", "vaml", "raml", "mrt"])
def test_other_models(name, algorithm, tiny_settings, tmp_path) -> None:
    result = run(tuned(tiny_settings, EVERY[name](tmp_path / "model"), algorithm))
    actor = load_run(result.folder)
    assert isinstance(actor.model, LinearPretrained)
    if algorithm == "erac":
        assert isinstance(load_critic(result.folder).model, PretrainedReader)
    if algorithm == "vaml":
        assert isinstance(load_oracle(result.folder).model, PretrainedReader)


@pytest.mark.parametrize("algorithm", ["mle", "raml", "mrt", "rloo"])
def test_an_actor_without_a_linear_head(algorithm, tiny_settings, tmp_path) -> None:
    run(tuned(tiny_settings, write_bert(tmp_path / "model"), algorithm))


def test_a_critic_needs_a_linear_head(tiny_settings, tmp_path) -> None:
    with pytest.raises(ConfigError, match="can be an actor, but no critic"):
        run(tuned(tiny_settings, write_bert(tmp_path / "model"), "erac"))


def test_chunked_logits_are_those_of_whole_ones(tiny_settings, tmp_path) -> None:
    folder, losses = write_bart(tmp_path / "model"), []
    for logits in ("whole", "chunked"):
        result = run(
            tuned(
                tiny_settings, folder, "erac", logits=logits, output=tmp_path / logits, **{"actor.dropout": 0}
            )
        )
        records = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
        losses.append(
            [
                value
                for record in records
                for key, value in record.items()
                if key in LEARNT and record["kind"] == "train"
            ]
        )
    assert len(losses[0]) >= 6
    assert losses[0] == pytest.approx(losses[1], rel=1e-3, abs=1e-5)


def test_a_killed_run_goes_on_as_it_was(tiny_settings, tmp_path, monkeypatch) -> None:
    folder = write_t5(tmp_path / "model")
    keys = {"actor.schedule.max_updates": 4, "actor.schedule.interval": 2}
    whole = run(tuned(tiny_settings, folder, output=tmp_path / "whole", **keys))
    with monkeypatch.context() as patched, pytest.raises(Killed):
        die_before(patched, ActorStage, 2)
        run(tuned(tiny_settings, folder, output=tmp_path / "killed", **keys))
    moved = folder.rename(tmp_path / "elsewhere")  # the path may change, the content may not
    settings = tuned(tiny_settings, moved, output=tmp_path / "killed", **keys)
    again = run(settings, resume=tmp_path / "killed")
    same_run(whole.folder, again.folder)


def test_a_run_is_not_continued_with_another_model(tiny_settings, tmp_path) -> None:
    settings = tuned(tiny_settings, write_t5(tmp_path / "model"))
    run(settings)
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises((DamagedFile, ResumeError), match="was changed"):
        run(settings, resume=Path(settings.output))


@pytest.mark.parametrize("name", ["marian", "t5", "bart", "bert"])
def test_an_exported_model_gives_the_logits_of_the_run(name, tiny_settings, tmp_path, capsys) -> None:
    import transformers

    folder = EVERY[name](tmp_path / "model")
    result = run(tuned(tiny_settings, folder))
    shutil.rmtree(folder)  # a run folder has all that it needs
    actor = load_run(result.folder)
    assert main(["export", str(result.folder), str(tmp_path / "tuned")]) == 0
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(str(tmp_path / "tuned")).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "tuned"))

    lines = ["das pferd schläft .", "ein kind liest das buch ."]
    read = tokenizer(lines, return_tensors="pt", padding=True)
    codec, special = actor.source_codec, actor.target_codec.special
    source = pad_rows([codec.frame.around(codec.encode(line)) for line in lines], codec.frame.pad)
    assert source.tolist() == read["input_ids"].tolist()
    prefix = torch.tensor([[*actor.model.lead, special.bos, 5, 6], [*actor.model.lead, special.bos, 7, 8]])
    with torch.no_grad():
        own = model(input_ids=source, attention_mask=read["attention_mask"], decoder_input_ids=prefix).logits
        found = actor.model(source, prefix[:, len(actor.model.lead) :])
    torch.testing.assert_close(found, own[:, len(actor.model.lead) :], rtol=1e-5, atol=1e-5)
    assert main(["export", str(result.folder), str(tmp_path / "tuned")]) != 0  # it is not empty any more
    assert "is no empty folder" in capsys.readouterr().err
    for key in ("dropout", "dropout_rate"):
        if hasattr(model.config, key):
            assert getattr(model.config, key) == 0.1


def test_tuning_begins_with_the_models_weights(tiny_settings, tmp_path) -> None:
    import transformers

    folder = write_t5(tmp_path / "model")
    still = {"actor.optimizer.learning_rate": 1e-30}
    for weights, same in (("pretrained", True), ("random", False)):
        result = run(
            tuned(tiny_settings, folder, output=tmp_path / weights, **still, **{"model.weights": weights})
        )
        export_pretrained(load_run(result.folder), tmp_path / f"{weights}-export")
        left, right = (
            transformers.AutoModelForSeq2SeqLM.from_pretrained(str(place)).state_dict()
            for place in (folder, tmp_path / f"{weights}-export")
        )
        assert all(torch.equal(left[name], right[name]) for name in left) == same


def test_export_is_of_models_of_transformers(tiny_settings, tmp_path) -> None:
    result = run(replace(tiny_settings, algorithm="mle"))
    with pytest.raises(ValueError, match="kind lstm has no form"):
        export_pretrained(load_run(result.folder), tmp_path / "tuned")


def test_a_network_of_the_package_reads_such_a_tokeniser(tiny_settings, tmp_path) -> None:
    folder = write_marian(tmp_path / "model")
    data = replace(tiny_settings.data, tokenizer="hf", tokenizer_path=str(folder))
    result = run(replace(tiny_settings, algorithm="mrt", data=data))
    assert load_run(result.folder).target_codec.special.eos == 0


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"data.tokenizer": "word"}, "data.tokenizer must be hf"),
        ({"model.path": ""}, "path is empty"),
        ({"model.hidden": 128}, r"model.kind hf does not read model.hidden \(128\): leave it out"),
        ({"model.heads": 2}, r"does not read model.heads \(2\)"),
        (
            {"model.embedding": 9, "model.init_range": 0.3, "model.hidden": 8},
            r"not read model.embedding \(9\), model.init_range \(0.3\), model.hidden \(8\): leave them out",
        ),
        ({"actor.embedding_dropout": 0.1}, "actor.embedding_dropout"),
        ({"actor.attention": "mlp"}, "actor.attention"),
        ({"cuda_graphs": True}, "cuda_graphs"),
        ({"model.kind": "lstm"}, "model.kind lstm does not read model.path"),
    ],
)
def test_keys_that_nothing_would_read_are_refused(keys, sentence, tiny_settings, tmp_path) -> None:
    with pytest.raises(ConfigError, match=sentence):
        tuned(tiny_settings, tmp_path, **keys)


def test_what_does_not_fit_is_refused(tiny_settings, tmp_path) -> None:
    folder = write_bart(tmp_path / "model")
    with pytest.raises(
        ConfigError, match=r"evaluation.max_length needs 101 positions, but the model of model.path has 64"
    ):
        run(tuned(tiny_settings, folder, **{"evaluation.max_length": 100}))
    with pytest.raises(ConfigError, match="vocabulary of"):
        run(tuned(tiny_settings, folder, **{"data.tokenizer_path": write_t5(tmp_path / "other")}))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="holds no sequence-to-sequence model"):
        run(tuned(tiny_settings, folder))


def test_edits_choose_from_ordinary_tokens() -> None:
    assert alphabet(SpecialTokens(), 50) == (50, (0, 1, 2, 3))
    tail = SpecialTokens(pad=0, unknown=2, bos=0, eos=1, others=(5, *range(40, 50)))
    assert alphabet(tail, 50) == (40, (0, 1, 2, 5))
    assert alphabet(SpecialTokens(pad=49, unknown=1, bos=49, eos=0), 50) == (50, (0, 1, 49))
    many = SpecialTokens(others=tuple(range(10, 40)))
    assert len(alphabet(many, 50)[1]) == 16
