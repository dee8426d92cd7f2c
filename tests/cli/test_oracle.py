"""`softbellman oracle`: the exact targets along a hypothesis, and a learnt oracle's beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from softbellman.data import BOS, EOS, PAD, UNK, Codec, Vocabulary, WordTokenizer
from softbellman.models import AttentionSeq2Seq
from softbellman.oracle import EditDistanceOracle, kullback_leibler, target_distribution, total_variation
from softbellman.training.settings import PayoffSettings

RunCommand = Callable[..., Any]

WORDS = ["der", "hund", "sieht", "die", "katze", "nicht", "$5"]
REFERENCE, HYPOTHESIS = "der hund sieht die katze", "der katze sieht hund pferd"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An untrained oracle and actor, as `load_oracle` and `load_run` return them; what was asked of both."""
    torch.manual_seed(5)
    codec = Codec(Vocabulary(WORDS), WordTokenizer())

    def model() -> AttentionSeq2Seq:
        sizes = {"embedding": 8, "hidden": 8, "attention_size": 8}
        return AttentionSeq2Seq(len(codec), len(codec), **sizes, dropout=0.0, init_range=1.0).eval()

    settings = SimpleNamespace(payoff=PayoffSettings(metric="cider", references="all"))
    oracle = SimpleNamespace(model=model(), target_codec=codec, settings=settings, tau=0.4)
    actor = SimpleNamespace(model=model(), source_codec=codec, target_codec=codec, settings=None)
    asked: list[tuple[str, Path, str, str]] = []

    def load(name: str, answer: Any) -> Callable[..., Any]:
        def loader(path: Path, checkpoint: str = "best", *, device: str = "cpu") -> Any:
            asked.append((name, path, checkpoint, device))
            return answer

        return loader

    monkeypatch.setattr("softbellman.training.load_oracle", load("oracle", oracle), raising=False)
    monkeypatch.setattr("softbellman.training.load_run", load("run", actor))
    return SimpleNamespace(oracle=oracle, actor=actor, codec=codec, asked=asked)


def test_the_table_says_what_the_oracle_says(softbellman: RunCommand) -> None:
    code, out, err = softbellman("oracle", "--reference", "a b c", "--hypothesis", "a c c", "--top", "2")
    assert code == 0 and not err
    lines = out.splitlines()
    assert "tau 0.5, 3 tokens and <eos>" in out
    assert lines[-4].split() == ["1", "a", "3", "3", "3", "a", "0.785", "(3)", "b", "0.106", "(2)"]
    assert lines[-2].split()[:5] == ["3", "c", "1", "0", "0"]  # b was left out, c follows or does not
    assert lines[-1].split()[:7] == ["4", "<eos>", "1", "0", "0", "<eos>", "0.711"]
    words = ["oracle", "--reference", "a b c", "--hypothesis", "a c c", "--tau", "0"]
    _, out, _ = softbellman(*words, "--others", "1000")
    assert "1003 tokens and <eos>" in out and out.splitlines()[-3].endswith("b 1.000 (2)")


def test_json_and_a_learnt_oracle(softbellman: RunCommand, run: Any, tmp_path: Path) -> None:
    file = tmp_path / "targets.json"
    words = ["oracle", "--reference", REFERENCE, "--hypothesis", HYPOTHESIS, "--run", "some/run"]
    code, out, err = softbellman(*words, "--checkpoint", "last", "--device", "cpu", "--json", str(file))
    assert code == 0 and not err and run.asked == [("oracle", Path("some/run"), "last", "cpu")]
    record = json.loads(file.read_text())
    assert record["run"] == "some/run" and record["tau"] == 0.4 and record["vocabulary"] == 11
    assert record["hypothesis"] == ["der", "katze", "sieht", "hund", "<unk>"]

    reference, hypothesis = run.codec.encode(REFERENCE), run.codec.encode(HYPOTHESIS)
    specials = (PAD, UNK, BOS)
    oracle = EditDistanceOracle(reference, vocabulary=11, eos_id=EOS, tau=0.4, special_ids=specials)
    exact = target_distribution(oracle.along(hypothesis), 0.4)
    with torch.no_grad():
        q = run.oracle.model(torch.tensor([[*reference, EOS]]), torch.tensor([[BOS, *hypothesis]]))[
            0
        ].double()
    q[:, list(specials)] = -torch.inf
    learnt = target_distribution(q, 0.4)
    assert len(record["positions"]) == len(hypothesis) + 1
    for position, entry in enumerate(record["positions"]):
        gaps = entry["gaps"]["learnt oracle"]
        assert gaps["total_variation"] == pytest.approx(float(total_variation(exact, learnt)[position]))
        assert gaps["kl"] == pytest.approx(float(kullback_leibler(exact, learnt)[position]))
        best = entry["targets"]["learnt oracle"][0]
        assert best["probability"] == pytest.approx(float(learnt[position].max()))
        assert run.codec.vocabulary.tokens[int(learnt[position].argmax())] == best["token"]
        assert entry["value"] == oracle.value(hypothesis[:position])
    assert "TV learnt oracle" in out and "KL learnt oracle" in out
    assert "learnt oracle: CIDEr-D against all references times the reference length, tau 0.4" in out
    assert record["positions"][4]["q"] is None  # <unk> is never produced


def test_an_actor_and_the_figure(softbellman: RunCommand, run: Any, tmp_path: Path) -> None:
    figure = tmp_path / "targets.png"
    words = ["oracle", "--reference", f"{REFERENCE} $5", "--hypothesis", HYPOTHESIS, "--tau", "0"]
    code, out, err = softbellman(*words, "--run", "some/run", "--source", "katze", "--plot", str(figure))
    assert code == 0 and not err and [name for name, *_ in run.asked] == ["oracle", "run"]
    assert "TV actor" in out and "tau 0," in out
    assert figure.read_bytes().startswith(b"\x89PNG") and figure.stat().st_size > 10_000
    long = " ".join(WORDS * 4)
    code, _, err = softbellman(
        "oracle", "--reference", long, "--hypothesis", long, "--plot", str(figure), "--top", "50"
    )
    assert code == 0 and not err


def test_empty_texts(softbellman: RunCommand) -> None:
    code, out, _ = softbellman("oracle", "--reference", "", "--hypothesis", "a")
    assert code == 0 and out.splitlines()[-2].split()[:6] == ["1", "a", "0", "0", "-1", "<eos>"]
    code, out, _ = softbellman("oracle", "--reference", "a", "--hypothesis", "")
    assert code == 0 and out.splitlines()[-1].split()[:6] == ["1", "<eos>", "1", "1", "0", "a"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--reference", "a"], "the following arguments are required: --hypothesis"),
        (["--reference", "", "--hypothesis", ""], "--reference and --hypothesis: the vocabulary is empty"),
        (
            ["--reference", "a", "--hypothesis", "b", "--tau", "-1"],
            "tau must be a finite number of at least 0",
        ),
        (["--reference", "a", "--hypothesis", "b", "--top", "0"], "whole number above zero, given '0'"),
        (["--reference", "a", "--hypothesis", "b", "--source", "c"], "--source is for the actor of a run"),
        (["--reference", "a", "--hypothesis", "b", "--others", "-1"], "--others expects a whole number"),
        (["--reference", "a", "--hypothesis", "b", "--plot", "/dev/null/x.png"], "/dev/null"),
    ],
)
def test_errors_are_one_line(softbellman: RunCommand, words: list[str], message: str) -> None:
    code, _, err = softbellman("oracle", *words)
    assert code == 2 and err.count("\n") == 1 and message in err
