"""`softbellman.load_run`: a finished run translates, captions, scores itself and tells the credit of tokens."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import on_scenes, small_erac

import softbellman
from softbellman.data import EOS
from softbellman.experiments.credited import credit_sentences, open_run, typed_corpus
from softbellman.training import TrainedActor, run
from softbellman.training.settings import (
    EvaluationSettings,
)
from softbellman.training.task import load_task


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run of some updates of ERAC, another seed of it, maximum likelihood, features, and AC on scenes."""
    folder = tmp_path_factory.mktemp("loaded")
    metrics = EvaluationSettings(beam=3, batch_size=5, max_length=14, metrics=("chrf", "rouge_l"))
    settings = small_erac(folder, metrics)
    captions = folder / "captions"
    captions.mkdir()
    numbers = np.random.default_rng(1).normal(size=(24, 4, 6)).astype(np.float32)
    np.save(captions / "features.npy", numbers)
    names = [f"{place}.jpg" for place in range(24)]
    (captions / "features.names.txt").write_text("".join(f"{name}\n" for name in names))
    (captions / "captions.tsv").write_text("".join(
        f"{name}\t{'train' if place < 16 else 'val' if place < 20 else 'test'}\ta {word} dog runs\n"
        for place, name in enumerate(names) for word in ("red", "blue")
    ))  # fmt: skip
    data = replace(settings.data, kind="captions", path=str(captions), min_frequency=1)
    others = {
        "again": replace(settings, seed=2, output=str(folder / "again")),
        "mle": replace(settings, algorithm="mle", output=str(folder / "mle")),
        "features": replace(settings, algorithm="mle", output=str(folder / "features"), data=data),
        "scenes": on_scenes(settings, folder),
    }
    return {name: run(each).folder for name, each in {"erac": settings, **others}.items()}


@pytest.fixture(scope="module")
def erac(folders: dict[str, Path]) -> softbellman.Run:
    return softbellman.load_run(folders["erac"])


def test_a_run_is_an_actor_with_more(erac: softbellman.Run, folders: dict[str, Path]) -> None:
    assert isinstance(erac, TrainedActor) and erac.settings.algorithm == "erac"
    assert "translates" in repr(erac) and str(folders["erac"]) in repr(erac)
    assert "load_run" in dir(softbellman)


def test_it_translates_what_it_translated(erac: softbellman.Run) -> None:
    table = erac.test()
    assert table.columns == ("source", "references", "hypothesis", "bleu") and len(table) == 12
    assert erac.translate(table["source"]) == table["hypothesis"]
    assert erac.translate(["", table["source"][3], " "]) == ["", table["hypothesis"][3], ""]
    assert erac.translate([]) == []


def test_its_scores_are_those_of_the_record(erac: softbellman.Run) -> None:
    records = [json.loads(line) for line in (erac.path / "metrics.jsonl").read_text().splitlines()]
    (record,) = (found for found in records if found["kind"] == "test" and found["stage"] == "joint")
    found = erac.score("test")
    assert found["bleu"] == record["test_bleu"] and found["signature"] == record["signature"]
    assert found["length_ratio"] == record["length_ratio"]
    assert found["chrf"] == record["test_chrf"] and found["rouge_l"] == record["test_rouge_l"]
    assert set(erac.score("dev", beam=1)) == set(found)
    assert erac.decode() == list(erac.test()["hypothesis"]) and len(erac.decode("dev", beam=1)) == len(
        erac.task.dev
    )
    with pytest.raises(ValueError, match="split must be one of train, dev, test, got 'valid'"):
        erac.decode("valid")


def test_earlier_actors_have_their_own_outputs(erac: softbellman.Run, folders: dict[str, Path]) -> None:
    start = softbellman.load_run(folders["erac"], "actor")
    table = erac.test("actor")
    assert start.translate(table["source"]) == table["hypothesis"]
    with pytest.raises(ValueError, match="stage must be one of actor, joint, got 'critic'"):
        erac.test("critic")


def test_hypotheses_with_scores_and_attention(erac: softbellman.Run) -> None:
    source = erac.test()["source"][0]
    ((first, second, third),) = erac.hypotheses([source], nbest=3, attention=True)
    assert first.score >= second.score >= third.score
    assert first.text == erac.translate([source])[0]
    assert first.source == (*source.split(), "<eos>")
    assert first.attention is not None and first.attention.shape == (len(first.tokens), len(first.source))
    torch.testing.assert_close(first.attention.sum(1), torch.ones(len(first.tokens)))
    drawn = erac.hypotheses([source, source], samples=4, top_p=0.9, seed=3)
    assert [len(group) for group in drawn] == [4, 4] and drawn[0] != drawn[1]
    assert erac.hypotheses([source, source], samples=4, top_p=0.9, seed=3) == drawn
    assert len(erac.hypotheses([source], nbest=8)[0]) <= 8  # the beam is widened from 3
    with pytest.raises(ValueError, match=r"several hypotheses of a source: use run.hypotheses"):
        erac.translate([source], nbest=2)
    with pytest.raises(TypeError, match="unknown option 'beams' of decoding; nearest: 'beam'"):
        erac.translate([source], beams=2)
    with pytest.raises(ValueError, match="got one text 'a text'"):
        erac.translate("a text")


def test_unknown_words_become_source_words(folders: dict[str, Path]) -> None:
    own = softbellman.load_run(folders["mle"])
    with torch.no_grad():
        own.model.output.bias[1] += 30.0
    sentence = "xyzzy plugh"
    assert "<unk>" not in own.translate([sentence])[0]
    ((found,),) = own.hypotheses([sentence], replace_unknown=True, beam=1, attention=True)
    assert set(found.text.split()) <= {"xyzzy", "plugh"} and found.text and "<unk>" not in found.tokens
    for token, row in zip(found.tokens, found.attention, strict=True):
        assert token == sentence.split()[int(row[:2].argmax())]


def test_credit_is_what_the_command_shows(erac: softbellman.Run, folders: dict[str, Path]) -> None:
    row = erac.test().rows[2]
    table = erac.credit(row["source"], row["references"], "the dog")
    credited = open_run(folders["erac"])
    corpus = typed_corpus(credited, [(row["source"], row["references"])])
    (sentence,) = credit_sentences(credited, corpus, [1], split="line", typed=["the dog"])
    wanted = sentence.hypotheses[-1]
    for name in ("token", "reward", "q", "advantage", "entropy", "value", "oracle_wants"):
        assert table[name] == [getattr(token, name) for token in wanted.tokens]
    assert table["token"] == ["the", "dog", "<eos>"] or table["token"][-1] == "<eos>"
    assert sum(table["reward"]) == pytest.approx(wanted.payoff)
    assert erac.credit(row["source"], row["references"][0], "the dog").columns == table.columns


def test_captions_of_files_and_pixels(folders: dict[str, Path], tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    own = softbellman.load_run(folders["scenes"])
    corpus = load_task(own.settings.data).test
    pixels = corpus.source_batch(range(4))
    captions = own.caption(pixels)
    assert captions == own.test()["hypothesis"] and own.score()["bleu"] >= 0
    for number, row in enumerate(pixels):
        image.fromarray(row.permute(1, 2, 0).numpy()).save(tmp_path / f"{number}.png")
    files = sorted(tmp_path.glob("*.png"))
    assert own.caption(files) == captions and own.caption(list(pixels)) == captions
    table = own.credit(files[1], corpus.reference_texts[1], captions[1])
    assert table["token"][-1] == "<eos>" and len(table) == len(captions[1].split()) + 1
    assert table["reward"] == own.credit(pixels[1], corpus.reference_texts[1], captions[1])["reward"]
    with pytest.raises(ValueError, match=r"images must be uint8 \[3, 48, 48\] each, got torch.float32 \[5\]"):
        own.caption(torch.rand(2, 5))
    with pytest.raises(ValueError, match="an image has none"):
        own.caption(pixels, replace_unknown=True)


def test_captions_of_feature_rows(folders: dict[str, Path]) -> None:
    own = softbellman.load_run(folders["features"])
    rows = load_task(own.settings.data).test.source_batch(range(4))
    captions = own.test()["hypothesis"]
    for given in (rows, rows.numpy(), list(rows), [row.tolist() for row in rows]):
        assert (
            own.caption(given if not isinstance(given, list) else [np.float32(row) for row in given])
            == captions
        )
    assert own.caption([]) == []
    with pytest.raises(ValueError, match="features of 4 x 7 an image do not fit a model of 4 x 6"):
        own.caption(torch.rand(2, 4, 7))
    with pytest.raises(
        ValueError, match=r"does not say which image network made its features; give its name \(encoder\)"
    ):
        own.caption(["a.jpg"])
    with pytest.raises(ValueError, match=r"got one path 'a.jpg'"):
        own.caption("a.jpg")


def test_a_run_says_what_it_cannot_do(erac: softbellman.Run, folders: dict[str, Path]) -> None:
    scenes, plain = (softbellman.load_run(folders[name]) for name in ("scenes", "mle"))
    with pytest.raises(ValueError, match="scenes captions images, it does not translate: use caption"):
        scenes.translate(["a"])
    with pytest.raises(ValueError, match="erac translates text, it does not caption: use translate"):
        erac.caption(["a.png"])
    with pytest.raises(
        ValueError, match="mle is a run of mle, which learns no critic to give credit; ac and erac do"
    ):
        plain.credit("a", "b", "c")
    with pytest.raises(ValueError, match="is not a run folder: it does not exist"):
        softbellman.load_run(folders["mle"] / "nowhere")
    with pytest.raises(ValueError, match="holds a NUL character"):
        softbellman.load_run("a\0b")


def test_an_ensemble_of_runs(folders: dict[str, Path]) -> None:
    ensemble = softbellman.load_run(folders["erac"], ensemble=[folders["mle"]])
    assert len(ensemble.models) == 2 and "with 1 others" in repr(ensemble)
    source = ensemble.test()["source"][:3]
    members = [softbellman.load_run(folders[name]) for name in ("erac", "mle")]
    ((best,),) = ensemble.hypotheses(source[:1], beam=1)
    ids = [members[0].target_codec.vocabulary.tokens.index(token) for token in best.tokens[:-1]]
    ids += (
        [EOS]
        if best.tokens[-1] == "<eos>"
        else [members[0].target_codec.vocabulary.tokens.index(best.tokens[-1])]
    )
    read = torch.tensor([[*members[0].source_codec.encode(source[0]), EOS]])
    total = 0.0
    for step, token in enumerate(ids):
        prefix = torch.tensor([[2, *ids[:step]]])
        said = [
            each.model(read, prefix)[0, -1].index_fill(0, torch.tensor([0, 1, 2]), -torch.inf)
            for each in members
        ]
        mean = torch.stack([logits.softmax(0) for logits in said]).mean(0)
        assert int(mean.argmax()) == token
        total += float(mean[token].detach().log())
    assert best.score == pytest.approx(total, abs=1e-4)
    with pytest.raises(ValueError, match="this is an ensemble: load the run alone"):
        ensemble.credit("a", "b", "c")


def test_an_ensemble_needs_one_vocabulary(folders: dict[str, Path]) -> None:
    with pytest.raises(
        ValueError, match=r"scenes cannot decode together with .*erac: it has another source vocabulary"
    ):
        softbellman.load_run(folders["erac"], ensemble=[folders["scenes"]])


def test_changed_data_are_not_scored(folders: dict[str, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(folders["features"], tmp_path / "copy")
    text = (copy / "config.yaml").read_text()
    data = shutil.copytree(folders["features"].parent / "captions", tmp_path / "data")
    table = data / "captions.tsv"
    table.write_text(table.read_text().replace("test\ta red", "test\ta green"))
    (copy / "config.yaml").write_text(text.replace(str(folders["features"].parent / "captions"), str(data)))
    with pytest.raises(
        ValueError, match="the data are not those that the run was started with: test data changed"
    ):
        softbellman.load_run(copy).score()
