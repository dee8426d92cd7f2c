"""`softbellman data export`: the files train as the generated corpus does, and the commands read the pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from softbellman.data import load_captions, scenes_dataset
from softbellman.training.settings import DataSettings
from softbellman.training.task import Task, load_task

RunCommand = Callable[..., Any]

SIZES = {"seed": "4", "pairs": "150", "dev_pairs": "12", "test_pairs": "15"}
OPTIONS = [word for key, value in SIZES.items() for word in (f"--{key}", value)]
GENERATED = DataSettings(seed=4, pairs=150, dev_pairs=12, test_pairs=15, min_frequency=2)


def same(one: Task, other: Task) -> bool:
    codecs = [(task.source_codec, task.target_codec) for task in (one, other)]
    sizes = [[codec.vocabulary for codec in pair if codec is not None] for pair in codecs]
    corpora = [(task.train, task.dev, task.test) for task in (one, other)]
    return corpora[0] == corpora[1] and sizes[0] == sizes[1] and one.digest() == other.digest()


@pytest.mark.parametrize("difficulty", ["3.0", "1"])
def test_the_files_are_the_builtin_corpus(softbellman: RunCommand, tmp_path: Path, difficulty: str) -> None:
    folder = tmp_path / "corpus"
    words = ["data", "export", "builtin", str(folder), *OPTIONS, "--difficulty", difficulty]
    code, out, err = softbellman(*words)
    assert (
        code == 0
        and not err
        and out.startswith(f"177 sentences in {folder}: train.de, train.en, val.de, val.en0")
    )
    files = replace(GENERATED, kind="parallel", path=str(folder))
    assert same(load_task(files), load_task(replace(GENERATED, difficulty=float(difficulty))))


def test_names_are_those_of_the_settings(softbellman: RunCommand, tmp_path: Path) -> None:
    names = {"train": "a", "dev": "b", "test": "c", "source": "x", "target": "y"}
    options = [word for key, value in names.items() for word in (f"--{key}", value)]
    assert softbellman("data", "export", "builtin", str(tmp_path), *OPTIONS, *options).code == 0
    files = replace(GENERATED, kind="parallel", path=str(tmp_path), **names)
    assert same(load_task(files), load_task(GENERATED))


def test_what_is_there_is_not_changed(softbellman: RunCommand, tmp_path: Path) -> None:
    words = ["data", "export", "builtin", str(tmp_path), *OPTIONS]
    assert softbellman(*words).code == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert softbellman(*words).code == 0  # the same again
    code, _, err = softbellman(*words, "--seed", "5")
    assert code == 2 and "train.de: the file exists with other content; name another folder" in err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "test.en.gz").write_bytes(b"")
    code, _, err = softbellman(*words)
    assert code == 2 and "test.en.gz: the file would be read with those that are written" in err
    (tmp_path / "test.en.gz").rename(tmp_path / "train.en12")
    code, _, err = softbellman(*words)
    assert code == 2 and "train.en12: the file would be read with those that are written" in err
    code, _, err = softbellman(*words, "--dev", "train")
    assert code == 2 and "need names of their own" in err


def test_scenes_are_read_by_the_caption_loader(softbellman: RunCommand, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    words = [
        "data",
        "export",
        "scenes",
        str(tmp_path),
        "--pairs",
        "20",
        "--dev_pairs",
        "4",
        "--test_pairs",
        "3",
    ]
    code, out, err = softbellman(*words, "--difficulty", "2")
    assert code == 0 and not err and out == f"27 images in {tmp_path}, {tmp_path / 'captions.tsv'}\n"
    assert softbellman(*words, "--difficulty", "2").code == 0
    assert "exists with other content" in softbellman(*words, "--difficulty", "3").err
    data = scenes_dataset(images=20, dev_images=4, test_images=3, difficulty=2.0, min_frequency=1)
    names = [*data.train.images, *data.dev.images, *data.test.images]
    assert {path.name for path in tmp_path.glob("*.png")} == set(names)
    np.save(tmp_path / "features.npy", np.zeros((27, 2), dtype=np.float32))
    (tmp_path / "features.names.txt").write_text("".join(f"{name}\n" for name in names))
    read = load_captions(tmp_path, min_frequency=1)
    for mine, theirs in ((read.train, data.train), (read.dev, data.dev), (read.test, data.test)):
        assert (mine.images, mine.references, mine.reference_texts) == (
            theirs.images, theirs.references, theirs.reference_texts,
        )  # fmt: skip
    assert read.target_vocabulary == data.target_vocabulary
    pixels = np.asarray(image.open(tmp_path / data.test.images[2]).convert("RGB"))
    assert torch.equal(torch.from_numpy(pixels.copy()).permute(2, 0, 1), data.test.source_batch([2])[0])


def test_help_of_the_kinds(softbellman: RunCommand) -> None:
    for words in (["export"], ["export", "builtin"], ["export", "scenes"]):
        code, out, _ = softbellman("data", *words, "--help")
        assert code == 0 and max(map(len, out.splitlines())) <= 100 and len(out.splitlines()) <= 60
    assert "test split (default: test)" in out and "training images (default: 20000)" in out
