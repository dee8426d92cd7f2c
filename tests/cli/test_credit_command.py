"""`softbellman credit`: the page, the pictures and the JSON of chosen and of typed sentences; errors in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from softbellman.training import run
from softbellman.training.settings import DataSettings, EvaluationSettings, ModelSettings, Settings

RunCommand = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = Settings(
        algorithm="mle", device="cpu", output=str(tmp_path_factory.mktemp("credit") / "my run"),
        data=DataSettings(pairs=60, dev_pairs=4, test_pairs=2, difficulty=1.0, min_frequency=1),
        model=ModelSettings(embedding=8, hidden=8, attention_size=8),
        evaluation=EvaluationSettings(beam=2, max_length=9),
    )  # fmt: skip
    schedule = replace(settings.actor.schedule, epochs=1)
    return run(replace(settings, actor=replace(settings.actor, schedule=schedule))).folder


def names_of(page: Path) -> list[str]:
    tree = ElementTree.fromstring(page.read_text(encoding="utf-8"))
    return ["".join(found.itertext()) for found in tree.iter("{http://www.w3.org/1999/xhtml}h2")]


def test_chosen_sentences(softbellman: RunCommand, folder: Path, tmp_path: Path) -> None:
    page, pictures, record = tmp_path / "page.html", tmp_path / "pictures", tmp_path / "all.json"
    words = ["--output", str(page), "--png", str(pictures), "--json", str(record), "--device", "cpu"]
    code, out, err = softbellman("credit", str(folder), "--split", "dev", "--sentences", "4", "2", *words)
    assert code == 0 and not err, err
    assert names_of(page) == ["dev 4", "dev 2"] and f"2 sentences: {page}" in out
    assert sorted(path.name for path in pictures.iterdir()) == ["credit-dev-2.png", "credit-dev-4.png"]
    found = json.loads(record.read_text())
    assert found["facts"]["algorithm"] == "MLE" and [s["name"] for s in found["sentences"]] == [
        "dev 4",
        "dev 2",
    ]
    tokens = found["sentences"][0]["hypotheses"][2]["tokens"]
    assert tokens[-1]["token"] == "<eos>" and tokens[-1]["reward"] == 0.0 and tokens[0]["q"] is None
    assert sum(token["reward"] for token in tokens) == pytest.approx(
        found["sentences"][0]["hypotheses"][2]["payoff"]
    )
    assert "Token credit of my run" in page.read_text()
    code, out, _ = softbellman("credit", str(folder), "--output", str(page))  # test has 2 sentences
    assert code == 0 and names_of(page) == ["test 1", "test 2"]


def test_typed_sentences(softbellman: RunCommand, folder: Path, tmp_path: Path) -> None:
    lines, page = tmp_path / "typed.tsv", tmp_path / "page.html"
    lines.write_text("ein hund\ta dog\tthe dog\nkatze\ta <script> cat\n")
    words = ["--lines", str(lines), "--hypothesis", "a cat", "--output", str(page)]
    code, _, err = softbellman("credit", str(folder), *words)
    assert code == 0 and not err
    assert names_of(page) == ["line 1", "line 2"]
    text = page.read_text()
    assert "the dog (not scored by the payoff)" in text and "typed: a cat" in text
    assert "a &lt;script&gt; cat" in text and "<script" not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sentences", "3"], "sentence 3: test has sentences 1 to 2"),
        (["--sentences", "0"], "expects a whole number above zero"),
        (["--lines", "{empty}"], "expects a source, a tab and a reference"),
        (["--lines", "{empty}", "--split", "dev"], "--split is for sentences of the run's data"),
        (["--images", "nowhere"], "--images: nowhere is not a folder"),
        (["--tau", "-1"], "--tau expects a number of at least 0"),
        (["--checkpoint", "joint"], "no checkpoint 'joint'"),
    ],
)
def test_errors_are_one_line(
    softbellman: RunCommand, folder: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    empty = tmp_path / "empty.tsv"
    empty.write_text("only a source\n")
    words = [word.replace("{empty}", str(empty)) for word in words]
    code, _, err = softbellman("credit", str(folder), *words, "--output", str(tmp_path / "page.html"))
    assert code == 2 and message in err and err.count("\n") == 1
    assert not (tmp_path / "page.html").exists()
