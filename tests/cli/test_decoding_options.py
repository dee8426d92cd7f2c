"""Options of decoding in `softbellman translate` and `softbellman caption`: what is written, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from softbellman.data import EOS, Codec, FeatureSpec, Vocabulary, WordTokenizer
from softbellman.decoding import beam_search, sample
from softbellman.models import AttentionSeq2Seq, Captioner
from softbellman.training.settings import DataSettings, EvaluationSettings

RunCommand = Callable[..., Any]

CODEC = Codec(Vocabulary(["der", "hund", "sieht", "die", "katze"]), WordTokenizer())
LINES = ["der hund sieht die katze", "", "katze die", "hund xyzzy"]
STDIN = "\n".join(LINES).encode()
PNG = b"\x89PNG"


@pytest.fixture
def translator(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An untrained translator, as `load_run` returns it; `asked` has the arguments."""
    torch.manual_seed(3)
    sizes = {"embedding": 8, "hidden": 8, "attention_size": 8, "dropout": 0.0, "init_range": 1.0}
    models = [AttentionSeq2Seq(len(CODEC), len(CODEC), **sizes).eval() for _ in range(2)]  # type: ignore[arg-type]
    with torch.no_grad():
        for model in models:
            model.output.bias[EOS] = -3.0  # sentences long enough to repeat themselves
    settings = SimpleNamespace(evaluation=EvaluationSettings(beam=2, batch_size=2, max_length=9))
    asked: dict[str, Any] = {}

    def load_run(path: Path, **given: Any) -> Any:
        asked.update(given)
        return SimpleNamespace(
            model=models[0], models=models if given.get("ensemble") else models[:1], source_codec=CODEC,
            target_codec=CODEC, settings=settings, features=None, asked=asked,
        )  # fmt: skip

    monkeypatch.setattr("softbellman.training.load_run", load_run)
    return SimpleNamespace(model=models[0], asked=asked)


def encoded(line: str) -> torch.Tensor:
    return torch.tensor([[*CODEC.encode(line), EOS]])


def test_the_best_of_each_line(softbellman: RunCommand, translator: Any) -> None:
    code, out, err = softbellman("translate", "run", "--nbest", "3", "--length-penalty", "0.7", stdin=STDIN)
    assert code == 0 and err == ""
    wanted = []
    for number, line in enumerate(LINES, 1):
        if not line:
            continue
        found = beam_search(translator.model, encoded(line), beam=3, best=3, max_length=9, length_penalty=0.7)
        for tokens, score in zip(found.tokens.tolist(), found.scores.tolist(), strict=True):
            wanted.append(f"{number}\t{score:.4f}\t{CODEC.decode(tokens)}")
    assert out.splitlines() == wanted and len(wanted) == 9


def test_draws_of_each_line(
    softbellman: RunCommand, translator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--samples", "4", "--temperature", "0.8", "--top-k", "5", "--top-p", "0.9", "--seed", "7"]
    code, out, err = softbellman("translate", "run", *words, stdin=STDIN)
    assert code == 0 and err == ""
    rows = [line.split("\t") for line in out.splitlines()]
    assert [row[0] for row in rows] == ["1"] * 4 + ["3"] * 4 + ["4"] * 4
    for number, name, line in ((0, "1", LINES[0]), (1, "3", LINES[2])):  # the second line holds no token
        drawn = sample(
            translator.model, encoded(line), max_length=9, samples=4, seed=7, temperature=0.8, top_k=5, top_p=0.9,
            first_row=4 * number,
        )  # fmt: skip
        assert [row[2] for row in rows if row[0] == name] == list(map(CODEC.decode, drawn.tokens.tolist()))
        scores = drawn.log_probs.double().sum(1).tolist()
        assert [float(row[1]) for row in rows if row[0] == name] == pytest.approx(scores, abs=1e-3)
    monkeypatch.setattr("softbellman.cli.translate.CHUNK", 1)
    assert softbellman("translate", "run", *words, "--batch-size", "1", stdin=STDIN).out == out


def test_rules_and_ensembles(softbellman: RunCommand, translator: Any) -> None:
    free = softbellman("translate", "run", stdin=STDIN).out
    blocked = softbellman("translate", "run", "--block-ngrams", "1", stdin=STDIN).out
    assert any(len(set(line.split())) < len(line.split()) for line in free.splitlines())
    assert all(len(set(line.split())) == len(line.split()) for line in blocked.splitlines())
    assert softbellman("translate", "run", "--repetition-penalty", "9", stdin=STDIN).out != free
    both = softbellman("translate", "run", "--ensemble", "other", stdin=STDIN).out
    assert both != free and translator.asked["ensemble"] == [Path("other")]
    assert softbellman("translate", "run", "--beam", "5", "--coverage-penalty", "50", stdin=STDIN).out != free


def test_unknown_words(softbellman: RunCommand, translator: Any) -> None:
    with torch.no_grad():
        translator.model.output.bias[1] += 30
    _, plain, _ = softbellman("translate", "run", "--beam", "1", stdin=STDIN)
    _, replaced, _ = softbellman("translate", "run", "--beam", "1", "--replace-unknown", stdin=STDIN)
    assert "<unk>" not in plain + replaced
    last = replaced.splitlines()[3].split()
    assert last and set(last) <= {"hund", "xyzzy"}


def test_pictures_of_attention(softbellman: RunCommand, translator: Any, tmp_path: Path) -> None:
    picture = tmp_path / "pictures" / "a.png"
    code, out, _ = softbellman("translate", "run", "--attention", str(picture), stdin=STDIN)
    assert code == 0 and out == softbellman("translate", "run", stdin=STDIN).out
    files = sorted(path.name for path in picture.parent.iterdir())
    assert files == ["a-2.png", "a-3.png", "a.png"]  # of the lines that hold a token
    assert all((picture.parent / name).read_bytes().startswith(PNG) for name in files)


def test_the_picture_shows_the_attention(
    translator: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from matplotlib.axes import Axes

    from softbellman.report.attention import draw_attention
    from softbellman.training.translation import Hypothesis

    shown: list[Any] = []
    draw = Axes.imshow
    monkeypatch.setattr(
        Axes, "imshow", lambda self, table, **o: shown.append(table) or draw(self, table, **o)
    )
    attention = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
    path = draw_attention(
        Hypothesis("x", 0.0, ("$x$", "<eos>"), ("y", "<eos>"), attention), tmp_path / "p.png"
    )
    assert shown == [attention.tolist()] and path.read_bytes().startswith(PNG)
    with pytest.raises(ValueError, match="decode with attention=True"):
        draw_attention(Hypothesis("x", 0.0, ("x",)), tmp_path / "q.png")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--nbest", "4", "--beam", "3"], "--nbest must be at most the --beam size 3, got 4"),
        (["--top-k", "3"], "--top-k is of sampling; it needs --samples, of which there are 0"),
        (["--samples", "2", "--nbest", "2"], "--nbest and --coverage-penalty are of a search"),
        (["--samples", "2", "--top-p", "0"], "--top-p must be above 0 and at most 1, got 0"),
        (["--length-penalty", "1e308"], "--length-penalty must be from -20 to 20, got 1e+308"),
        (["--repetition-penalty", "0.5"], "--repetition-penalty must be at least 1 and finite, got 0.5"),
        (["--coverage-penalty", "-1"], "--coverage-penalty must be at least 0 and finite, got -1"),
        (
            ["--batch-size", "1" * 20],
            "expects a whole number of at most 2,147,483,647, given '11111111111111111111'",
        ),
        (["--beam", "9" * 5000], "given '9999999999999999999999999999999999999999'... (5,000 characters)"),
        (["--block-ngrams", "0"], "expects a whole number above zero, given '0'"),
        (["--seed", "-1"], "expects a whole number of at least zero, given '-1'"),
        (["--length-penalty", "nan"], "expects a finite number, given 'nan'"),
        (["--attention", "a\0b"], "an argument holds a NUL character"),
    ],
)
def test_what_is_refused(softbellman: RunCommand, translator: Any, words: list[str], sentence: str) -> None:
    code, out, err = softbellman("translate", "run", *words, stdin=STDIN)
    assert code == 2 and not out and err.count("\n") == 1 and sentence in err and len(err) < 300


def test_captions_take_the_same_options(
    softbellman: RunCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(3)
    model = Captioner(
        3, len(CODEC), embedding=8, hidden=8, attention="dot", dropout=0.0, init_range=1.0
    ).eval()
    settings = SimpleNamespace(
        evaluation=EvaluationSettings(beam=2, batch_size=2, max_length=7), data=DataSettings(kind="captions")
    )
    made = SimpleNamespace(
        model=model,
        models=[model],
        source_codec=None,
        target_codec=CODEC,
        settings=settings,
        features=FeatureSpec(3, 4),
    )
    monkeypatch.setattr("softbellman.training.load_run", lambda path, checkpoint, device: made)
    values = np.random.default_rng(1).normal(size=(3, 4, 3)).astype(np.float32)
    np.save(tmp_path / "f.npy", values)
    (tmp_path / "f.names.txt").write_text("a.jpg\nb.jpg\nc.jpg\n")
    base = ["caption", "run", "--features", str(tmp_path / "f.npy")]
    code, out, err = softbellman(*base, "--nbest", "2", "--length-penalty", "1")
    assert code == 0, err
    found = beam_search(model, torch.from_numpy(values), beam=2, best=2, max_length=7, length_penalty=1.0)
    wanted = [
        f"{'abc'[row // 2]}.jpg\t{found.scores[row]:.4f}\t{CODEC.decode(found.tokens[row].tolist())}"
        for row in range(6)
    ]
    assert out.splitlines() == wanted
    code, out, err = softbellman(*base, "--samples", "3", "--seed", "5", "--top-p", "0.8")
    drawn = sample(model, torch.from_numpy(values), max_length=7, samples=3, seed=5, top_p=0.8)
    assert [line.split("\t")[2] for line in out.splitlines()] == list(
        map(CODEC.decode, drawn.tokens.tolist())
    )
    assert (
        softbellman(*base, "--samples", "3", "--seed", "5", "--top-p", "0.8", "--batch-size", "1").out == out
    )
    picture = tmp_path / "a.png"
    assert softbellman(*base, "--attention", str(picture), "--coverage-penalty", "0.5").code == 0
    assert sorted(path.name for path in tmp_path.glob("a*.png")) == ["a-2.png", "a-3.png", "a.png"]
    assert "--replace-unknown" not in softbellman("caption", "--help").out


def test_models_without_attention_say_so(softbellman: RunCommand, translator: Any) -> None:
    def refuse(*words: Any) -> None:
        raise ValueError("the model has no attention over its source")

    translator.model.attention_weights = refuse
    code, out, err = softbellman("translate", "run", "--coverage-penalty", "1", stdin=STDIN)
    assert code == 2 and not out and "the model has no attention over its source" in err


def test_help_names_every_option(softbellman: RunCommand) -> None:
    for command in ("translate", "caption"):
        shown = softbellman(command, "--help").out
        for name in (
            "nbest", "samples", "temperature", "top-k", "top-p", "seed", "ensemble", "length-penalty", "coverage-penalty",
            "repetition-penalty", "block-ngrams", "attention", "checkpoint",
        ):  # fmt: skip
            assert f"--{name} " in shown
        assert max(map(len, shown.splitlines())) <= 100
