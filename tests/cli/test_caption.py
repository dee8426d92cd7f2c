"""`softbellman caption` and `softbellman captions extract`: from features and from pixels, errors in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from softbellman.data import Codec, FeatureSpec, Vocabulary, WordTokenizer
from softbellman.decoding import beam_search
from softbellman.models import Captioner
from softbellman.training.settings import DataSettings, EvaluationSettings

RunCommand = Callable[..., Any]

NAMES = ["a.jpg", "b.jpg", "c d.jpg"]


class Colours(torch.nn.Module):
    """Stands for the image network: the mean of each colour."""

    asked: ClassVar[list[tuple[str, object]]] = []

    def __init__(self, name: str, weights: object, *, grid: bool = False) -> None:
        super().__init__()
        self.asked.append((name, weights))
        self.grid = grid

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean((2, 3))


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An untrained captioner, as `load_run` returns it."""
    torch.manual_seed(3)
    codec = Codec(Vocabulary(["a", "dog", "cat", "runs"]), WordTokenizer())
    model = Captioner(3, len(codec), embedding=8, hidden=8, dropout=0.0, init_range=1.0).eval()
    settings = SimpleNamespace(
        evaluation=EvaluationSettings(beam=2, batch_size=2, max_length=7), data=DataSettings(kind="captions")
    )
    made = SimpleNamespace(
        model=model,
        models=[model],
        source_codec=None,
        target_codec=codec,
        settings=settings,
        features=FeatureSpec(3),
    )
    monkeypatch.setattr("softbellman.training.load_run", lambda path, checkpoint, device: made)
    return made


@pytest.fixture
def features(tmp_path: Path) -> Path:
    np.save(tmp_path / "f.npy", np.random.default_rng(1).normal(size=(3, 3)).astype(np.float32))
    (tmp_path / "f.names.txt").write_text("\n".join(NAMES) + "\n")
    return tmp_path / "f.npy"


def expected(actor: Any, row: torch.Tensor, **options: int) -> str:
    found = beam_search(actor.model, row[None], **{"beam": 2, "max_length": 7, **options})
    return str(actor.target_codec.decode(found.tokens[0].tolist()))


def test_captions_of_features(softbellman: RunCommand, actor: Any, features: Path) -> None:
    values = torch.from_numpy(np.load(features))
    code, out, err = softbellman("caption", "run", "--features", str(features))
    assert code == 0 and err == ""
    captions = [expected(actor, row) for row in values]
    assert out == "".join(f"{name}\t{text}\n" for name, text in zip(NAMES, captions, strict=True))
    assert len(set(captions)) > 1
    _, out, _ = softbellman("caption", "run", "c d.jpg", "a.jpg", "--features", str(features), "--beam", "1")
    assert (
        out == f"c d.jpg\t{expected(actor, values[2], beam=1)}\na.jpg\t{expected(actor, values[0], beam=1)}\n"
    )
    names = features.with_name("others.txt")
    names.write_text("x\ny\nz\n")
    words = ["--features", str(features), "--names", str(names), "--max-length", "3", "--batch-size", "1"]
    _, out, _ = softbellman("caption", "run", "y", *words)
    assert out == f"y\t{expected(actor, values[1], max_length=3)}\n"


def test_errors_are_named(softbellman: RunCommand, actor: Any, features: Path) -> None:
    def error(*words: str) -> str:
        code, _, err = softbellman("caption", "run", *words)
        assert code == 2 and err.count("\n") == 1
        return str(err)

    assert "name --features FILE, or image files" in error()
    assert "image 'q.jpg' has no features" in error("q.jpg", "--features", str(features))
    assert "give --encoder" in error("a.jpg")
    assert "give --weights" in error("a.jpg", "--encoder", "resnet18")
    np.save(features, np.zeros((3, 4), dtype=np.float32))
    assert "features of 4 an image do not fit a model of 3" in error("--features", str(features))
    actor.features = None
    assert "translates text; softbellman translate run does that" in error("--features", str(features))
    other = softbellman("caption", "my run", "--features", str(features)).err
    assert "my run translates text; softbellman translate 'my run' does that" in other
    actor.features = FeatureSpec(3)
    assert "captions images; softbellman caption run" in softbellman("translate", "run").err
    other = softbellman("translate", "my run").err
    assert "my run captions images; softbellman caption 'my run' does that" in other


def test_a_broken_checkpoint_is_an_error_of_one_line(
    softbellman: RunCommand, actor: Any, features: Path
) -> None:
    with torch.no_grad():
        actor.model.output.weight[5] = torch.inf
    code, out, err = softbellman("caption", "run", "--features", str(features), "--quiet")
    assert (
        code == 2 and not out and err.count("\n") == 1 and "the model gave logits that are not finite" in err
    )


def test_from_images_to_captions(
    softbellman: RunCommand, actor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = pytest.importorskip("PIL.Image")
    monkeypatch.setattr("softbellman.data.captions.encoder.ImageEncoder", Colours)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name, colour in (("red.png", (250, 9, 9)), ("blue.png", (9, 9, 250))):
        image.fromarray(np.full((40, 40, 3), colour, dtype=np.uint8)).save(pictures / name)
    (pictures / "x.png").write_bytes(b"no image")
    output = tmp_path / "features.npy"
    words = ["extract", "--images", str(pictures), "--encoder", "resnet18", "--weights", "none"]
    words += ["--output", str(output), "--size", "32", "--quiet"]
    code, _, err = softbellman("captions", *words)
    assert code == 2 and "x.png" in err and "--skip-broken" in err
    code, out, err = softbellman("captions", *words, "--skip-broken")
    assert code == 0 and out.startswith("2 images: ") and "skipped x.png" in err and "random weights" in err
    from_features = softbellman("caption", "run", "--features", str(output)).out
    assert [line.split("\t")[0] for line in from_features.splitlines()] == ["blue.png", "red.png"]
    data = replace(actor.settings.data, encoder="resnet18", encoder_weights="none")
    actor.settings.data = data
    files = [str(pictures / "blue.png"), str(pictures / "red.png")]
    code, out, err = softbellman("caption", "run", *files, "--size", "32")
    assert code == 0, err
    assert [line.split("\t")[1] for line in out.splitlines()] == [
        line.split("\t")[1] for line in from_features.splitlines()
    ]
    assert "broken" not in err and softbellman("caption", "run", str(pictures / "x.png")).code == 2
    # without the word none the text is handed on: a file's name, or the word that downloads
    for weights in ("w.pth", "download"):
        words[words.index("--weights") + 1] = weights
        words[words.index("--output") + 1] = str(tmp_path / f"{weights}.npy")
        assert softbellman("captions", *words, "--skip-broken").code == 0
        assert Colours.asked[-1] == ("resnet18", weights)
