"""`softbellman translate`: line for line, whatever the batches; then the way from training to a score."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from softbellman.data import EOS, Codec, Vocabulary, WordTokenizer
from softbellman.decoding import beam_search
from softbellman.models import AttentionSeq2Seq
from softbellman.training.settings import EvaluationSettings
from softbellman.training.translation import decoding_of, translations

RunCommand = Callable[..., Any]

WORDS = ["der", "hund", "sieht", "die", "katze", "nicht"]
LINES = [
    "der hund sieht die katze",
    "",
    "katze",
    "   ",
    "ein unbekanntes hund",
    "die katze nicht",
    "hund " * 12,
]


@pytest.fixture(scope="module")
def actor() -> Any:
    """An untrained translator of six words, as `load_run` returns it."""
    torch.manual_seed(3)
    codec = Codec(Vocabulary(WORDS), WordTokenizer())
    model = AttentionSeq2Seq(
        len(codec), len(codec), embedding=8, hidden=8, attention_size=8, dropout=0.0, init_range=1.0
    ).eval()
    settings = SimpleNamespace(evaluation=EvaluationSettings(beam=2, batch_size=2, max_length=9))
    return SimpleNamespace(
        model=model, models=[model], source_codec=codec, target_codec=codec, settings=settings
    )


def expected(actor: Any, line: str, *, beam: int, max_length: int) -> str:
    """One line alone."""
    ids = actor.source_codec.encode(line)
    if not ids:
        return ""
    found = beam_search(actor.model, torch.tensor([[*ids, EOS]]), beam=beam, max_length=max_length)
    return str(actor.target_codec.decode(found.tokens[0].tolist()))


def test_a_broken_checkpoint_is_an_error_of_one_line(
    softbellman: RunCommand, actor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = copy.deepcopy(actor)
    broken.models = [broken.model]
    with torch.no_grad():
        broken.model.output.weight[5] = math.nan
    monkeypatch.setattr("softbellman.training.load_run", lambda path, checkpoint, device: broken)
    code, out, err = softbellman("translate", "run", "--quiet", stdin=b"der hund\n")
    assert (
        code == 2 and not out and err.count("\n") == 1 and "the model gave logits that are not finite" in err
    )


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_each_line_is_translated_as_if_alone(actor: Any, batch_size: int) -> None:
    how = decoding_of(actor.settings.evaluation, beam=3, batch_size=batch_size, max_length=7)
    pairs = [(index, group[0].text) for index, group in translations(actor, LINES, how)]
    assert sorted(index for index, _ in pairs) == [0, 2, 4, 5, 6]
    assert dict(pairs) == {index: expected(actor, LINES[index], beam=3, max_length=7) for index, _ in pairs}
    assert len({text for _, text in pairs}) > 1


def test_command_keeps_lines_in_place(
    softbellman: RunCommand, actor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, ...]] = []

    def load_run(path: Path, checkpoint: str = "best", *, device: str = "cpu") -> Any:
        asked.append((path, checkpoint, device))
        return actor

    monkeypatch.setattr("softbellman.training.load_run", load_run)
    monkeypatch.setattr("softbellman.cli.translate.CHUNK", 1)  # several chunks of two lines
    stdin = "\n".join(LINES).encode()
    code, out, err = softbellman(
        "translate", "some/run", "--checkpoint", "actor", "--device", "cpu", stdin=stdin
    )
    assert code == 0 and err == "" and asked == [(Path("some/run"), "actor", "cpu")]
    assert out.split("\n") == [*(expected(actor, line, beam=2, max_length=9) for line in LINES), ""]
    words = ["--beam", "1", "--batch-size", "50", "--max-length", "4"]
    _, out, _ = softbellman("translate", "some/run", *words, stdin=stdin)
    assert out.split("\n")[:-1] == [expected(actor, line, beam=1, max_length=4) for line in LINES]
    assert softbellman("translate", "some/run", stdin=b"").out == ""
    code, _, err = softbellman("translate", "some/run", stdin=b"hund\n\xff\n")
    assert code == 2 and "standard input, line 2: invalid UTF-8" in err


def test_from_training_to_a_score(softbellman: RunCommand, tmp_path: Path) -> None:
    """Two updates on a tiny built-in corpus: every command works on the run folder that comes out."""
    run = tmp_path / "run"
    keys = {
        "algorithm": "mle", "output": str(run),
        "data.pairs": "60", "data.dev_pairs": "6", "data.test_pairs": "6",
        "data.min_frequency": "1", "model.embedding": "8", "model.hidden": "8", "model.attention_size": "8",
        "actor.schedule.max_updates": "2", "actor.schedule.batch_size": "10", "evaluation.max_length": "8",
        "evaluation.beam": "2",
    }  # fmt: skip
    words = [word for key, value in keys.items() for word in (f"--{key}", value)]
    code, out, err = softbellman("train", "--config", "builtin_erac", "--quiet", *words)
    assert code == 0, err
    assert "MLE" in out and "sacrebleu: " in out and f"softbellman translate {run}" in out
    assert (run / "curve.png").exists() and (run / "config.yaml").exists()
    hypotheses = (run / "hypotheses" / "test-actor.txt").read_text().splitlines()
    assert len(hypotheses) == 6

    from softbellman.training import load_run

    source = "\n".join([" ".join(load_run(run).source_codec.vocabulary.decode([5, 6, 4])), ""])
    for checkpoint in ("best", "last", "actor"):
        code, out, err = softbellman("translate", str(run), "--checkpoint", checkpoint, stdin=source.encode())
        assert code == 0 and out.count("\n") == 1, err
    code, _, err = softbellman("translate", str(run), "--checkpoint", "joint", stdin=source.encode())
    assert code == 2 and err.count("\n") == 1 and "joint" in err
    code, _, err = softbellman("train", "--config", "builtin_erac", *words)
    assert code == 2 and "already holds a run; continue it with --resume" in err
    code, out, err = softbellman("train", "--resume", str(run), "--quiet")
    assert code == 0 and "MLE" in out, err

    reference = tmp_path / "reference"
    reference.write_text("".join(f"{line}\n" for line in hypotheses))
    stdin = (run / "hypotheses" / "test-actor.txt").read_bytes()
    code, out, _ = softbellman("score", "--references", str(reference), "--metric", "chrf", stdin=stdin)
    assert code == 0 and "chrF2" in out

    vocabulary = run / "target.vocabulary.json"
    vocabulary.write_text(vocabulary.read_text().replace('"the"', '"two\\nlines"'))
    code, out, err = softbellman("translate", str(run), stdin=source.encode())
    assert code == 2 and not out and err.count("\n") == 1
    assert f"{vocabulary}: 'two\\nlines' cannot be an ordinary token" in err
