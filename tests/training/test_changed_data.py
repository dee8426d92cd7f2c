"""Data, vocabularies and settings that are not those of a run: whatever reads them again says so."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import softbellman
from softbellman.cli.main import main
from softbellman.experiments.credited import open_run
from softbellman.training import load_run, run
from softbellman.training.averaging import average_weights, checkpoints_of
from softbellman.training.resumption import ResumeError
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import DataSettings, Settings, unread_settings

PAIRS = {
    "ein hund": "a dog",
    "ein baum": "a tree",
    "das auto": "the car",
    "ein haus": "a house",
    "der see": "the lake",
}


def write_texts(folder: Path, pairs: dict[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    for split, times in (("train", 6), ("val", 1), ("test", 1)):
        for ending, lines in (("de", pairs), ("en", pairs.values())):
            (folder / f"{split}.{ending}").write_text("\n".join([*lines] * times) + "\n")


@pytest.fixture
def settings(tiny_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path / "texts", PAIRS)
    data = DataSettings(kind="parallel", path=str(tmp_path / "texts"), min_frequency=1)
    return replace(tiny_settings, algorithm="mle", data=data)


def change(settings: Settings, old: str, new: str, *splits: str) -> None:
    for split in splits:
        path = Path(settings.data.path) / f"{split}.en"
        path.write_text(path.read_text().replace(old, new))


def failed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main([*words]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    return shown


def test_the_credit_of_tokens_is_not_told_of_other_data(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other words would have the ids of the run's."""
    folder = run(settings).folder
    assert main(["credit", str(folder), "--sentences", "1"]) == 0
    change(settings, "a dog", "a hound", "train")
    with pytest.raises(ResumeError, match="target vocabulary changed since"):
        open_run(folder)
    assert "the data are not those" in failed(capsys, "credit", str(folder), "--sentences", "1")
    with pytest.raises(ResumeError, match="changed since"):
        softbellman.load_run(folder).score()


def test_a_metric_is_not_computed_on_another_test_set(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(settings).folder
    words = ("table", str(folder), "--compute", "chrf", "--metrics", "chrf")
    assert main([*words]) == 0
    change(settings, "a tree", "the tree", "test")
    assert "the test data are not those that the run was tested on" in failed(capsys, *words)


def test_weights_of_other_vocabularies_are_refused(settings: Settings, tmp_path: Path) -> None:
    """The networks have the same shapes, the ids another meaning."""
    folder = RunFolder(run(settings).folder)
    write_texts(tmp_path / "texts", {english: german for german, english in PAIRS.items()})
    other = RunFolder(run(replace(settings, output=str(tmp_path / "other"))).folder)
    mean = tmp_path / "mean.safetensors"
    average_weights(other, "actor", checkpoints_of(other, "actor", last=1), mean)
    load_run(other.path, str(mean))
    for weights in (mean, other.weights("actor", "best")):
        with pytest.raises(ValueError, match=r"was trained with another (source|target) vocabulary than"):
            load_run(folder.path, str(weights))
    copied = tmp_path / "copied.safetensors"
    shutil.copy(folder.weights("actor", "best"), copied)  # which says nothing of its origin
    load_run(folder.path, str(copied))


def test_one_ending_for_both_sides_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"data\.source and data\.target are both sv, which would train a copying task"
    ):
        DataSettings(kind="parallel", source="sv", target="sv")
    assert DataSettings(source="de", target="de").kind == "builtin"


@pytest.mark.parametrize(
    ("data", "sentences"),
    [
        (DataSettings(), []),
        (DataSettings(pairs=50, difficulty=2.0), []),
        (DataSettings(kind="parallel", pairs=50), ["data.pairs is not read with data.kind: parallel"]),
        (DataSettings(kind="captions", punctuation="drop", min_frequency=5), []),
        (DataSettings(punctuation="drop"), ["data.punctuation is not read with data.kind: builtin"]),
        (
            DataSettings(kind="parallel", vocabulary_size=100),
            ["data.vocabulary_size is of data.tokenizer: sentencepiece, not of word"],
        ),
        (
            DataSettings(kind="parallel", tokenizer="sentencepiece", min_frequency=7),
            ["data.min_frequency is of words, not of data.tokenizer: sentencepiece"],
        ),
        (DataSettings(kind="parallel", dev="train"), ["data.dev and data.train are the same split, train"]),
        (DataSettings(kind="parallel", test="val"), ["data.test and data.dev are the same split, val"]),
        (DataSettings(kind="./mine.py:pairs", pairs=50), []),
    ],
)
def test_what_is_given_and_not_read_is_named(data: DataSettings, sentences: list[str]) -> None:
    assert unread_settings(Settings(data=data), lambda key: True) == sentences


def test_a_run_says_what_it_does_not_read(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data.kind", "parallel", "--data.path", settings.data.path, "--data.min_frequency", "1"]
    options += [
        "--data.pairs",
        "3",
        "--algorithm",
        "mle",
        "--output",
        settings.output,
        "--actor.schedule.max_updates",
        "1",
    ]
    options += ["--model.hidden", "8", "--model.embedding", "8", "--evaluation.max_length", "5", "--quiet"]
    assert main(["train", *options]) == 0
    assert "data.pairs is not read with data.kind: parallel" in capsys.readouterr().err
