"""`softbellman captions scenes` writes what a run trains on; `softbellman caption` reads PNG files as tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from softbellman.data import Codec, PixelSpec, Vocabulary, WordTokenizer, load_captions
from softbellman.data.scenes.generator import generate_split
from softbellman.decoding import beam_search
from softbellman.models import PixelCaptioner
from softbellman.training.settings import DataSettings, EvaluationSettings

RunCommand = Callable[..., Any]


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An untrained captioner of pixels, as `load_run` returns it."""
    torch.manual_seed(3)
    codec = Codec(Vocabulary(["a", "red", "blue", "star", "ring", "above"]), WordTokenizer())
    model = PixelCaptioner(48, len(codec), embedding=8, hidden=8, attention="dot", init_range=1.5).eval()
    with torch.no_grad():
        model.output.bias[3] = -9  # the end
    settings = SimpleNamespace(
        evaluation=EvaluationSettings(beam=2, batch_size=2, max_length=7), data=DataSettings(kind="scenes")
    )
    made = SimpleNamespace(
        model=model,
        models=[model],
        source_codec=None,
        target_codec=codec,
        settings=settings,
        features=PixelSpec(48),
    )
    monkeypatch.setattr("softbellman.training.load_run", lambda path, checkpoint, device: made)
    return made


def test_scenes_are_written_and_captioned_as_their_tensors(
    softbellman: RunCommand, actor: Any, tmp_path: Path
) -> None:
    folder, sheet = tmp_path / "scenes", tmp_path / "sheet.png"
    code, out, err = softbellman(
        "captions", "scenes", "--output", str(folder), "--count", "5", "--seed", "4", "--sheet", str(sheet)
    )
    assert code == 0 and err == "" and out.startswith(f"5 images in {folder}, {folder / 'captions.tsv'}")
    image = pytest.importorskip("PIL.Image")
    assert image.open(sheet).size[0] == 1500
    split = generate_split("test", seed=4, count=5)
    table = [line.split("\t") for line in (folder / "captions.tsv").read_text().splitlines()]
    assert [(name, caption) for name, _, caption in table] == [
        (name, caption) for name, group in zip(split.names, split.captions, strict=True) for caption in group
    ]
    assert {where for _, where, _ in table} == {"test"}
    files = [str(folder / name) for name in split.names]
    code, out, err = softbellman("caption", "run", "--quiet", *files)
    assert code == 0, err
    tensors = torch.from_numpy(split.render()).permute(0, 3, 1, 2)
    found = beam_search(actor.model, tensors, beam=2, max_length=7)
    expected = [actor.target_codec.decode(tokens) for tokens in found.tokens.tolist()]
    assert out == "".join(f"{file}\t{caption}\n" for file, caption in zip(files, expected, strict=True))
    assert len(set(expected)) > 1


def test_larger_pictures_are_scaled(softbellman: RunCommand, actor: Any, tmp_path: Path) -> None:
    words = ["--count", "3", "--split", "train", "--difficulty", "2"]
    for side in ("48", "96"):
        softbellman("captions", "scenes", "--output", str(tmp_path / side), "--size", side, *words)
    image = pytest.importorskip("PIL.Image")
    assert image.open(tmp_path / "96" / "train-00000.png").size == (96, 96)
    from softbellman.data import read_pixels

    one, two = (read_pixels(tmp_path / side / "train-00001.png", side=48) for side in ("48", "96"))
    assert (one.int() - two.int()).abs().float().mean() < 1
    assert softbellman("caption", "run", str(tmp_path / "96" / "train-00000.png")).code == 0


def test_the_table_is_one_that_captions_are_read_from(softbellman: RunCommand, tmp_path: Path) -> None:
    softbellman("captions", "scenes", "--output", str(tmp_path), "--count", "4")
    np.save(tmp_path / "features.npy", np.zeros((4, 2), dtype=np.float32))
    names = [f"test-{index:05d}.png\n" for index in range(4)]
    (tmp_path / "features.names.txt").write_text("".join(names))
    data = load_captions(tmp_path, train="test", dev="test", test="test", min_frequency=1)
    assert data.test.reference_texts == generate_split("test", count=4).captions


def test_errors_are_named(softbellman: RunCommand, actor: Any, tmp_path: Path) -> None:
    def error(*words: str) -> str:
        code, _, err = softbellman(*words)
        assert code == 2 and err.count("\n") == 1
        return str(err)

    assert "run reads image files itself, without --features" in error(
        "caption", "run", "--features", "f.npy"
    )
    assert "run reads image files itself, without --size" in error("caption", "run", "a.png", "--size", "48")
    assert "none.png: the image does not exist" in error("caption", "run", "none.png")
    (tmp_path / "text.png").write_text("no image")
    assert "text.png: the image cannot be read" in error("caption", "run", str(tmp_path / "text.png"))
    assert "name image files" in error("caption", "run")
    out = ["captions", "scenes", "--output", str(tmp_path / "scenes")]
    assert "difficulty must lie in 1..5" in error(*out, "--difficulty", "9")
    assert "side must be 32, 48, 64, 96" in error(*out, "--size", "50")
    assert softbellman(*out, "--count", "1").code == 0
    assert "captions.tsv exists already" in error(*out)
    code, shown, _ = softbellman("captions", "scenes", "--help")
    assert code == 0 and "usage: softbellman captions scenes" in shown
    assert max(map(len, shown.splitlines())) <= 100
