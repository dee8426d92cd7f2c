"""`softbellman captions sheet`: which images are chosen, what is handed on, errors in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from softbellman.experiments.captioned import Captioned, Said

RunCommand = Callable[..., Any]

NAMES = [f"{number}.png" for number in range(12)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """A test set of 12 images; what was asked of the gathering and of the drawing is kept."""
    seen: dict[str, Any] = {}

    def gather(paths: object, images: list[str], *, bleu: bool, last: bool) -> list[Captioned]:
        seen.update(paths=paths, images=images, bleu=bleu, last=last)
        return [Captioned(image, ("a dog",), (Said("MLE", "a cat"),)) for image in images]

    def draw(entries: list[Captioned], images: Path, output: Path, **options: int) -> None:
        seen.update(drawn=[entry.image for entry in entries], output=output, options=options)

    place = "softbellman.experiments.captioned."
    monkeypatch.setattr(place + "read_test_set", lambda paths: SimpleNamespace(names=NAMES))
    monkeypatch.setattr(place + "caption_images", gather)
    monkeypatch.setattr("softbellman.report.sheet.draw_sheet", draw)
    seen["words"] = ["sheet", "a", "b", "--images", str(tmp_path), "--output", str(tmp_path / "sheet.png")]
    return seen


def test_first_random_and_names(softbellman: RunCommand, asked: dict[str, Any]) -> None:
    def chosen(*words: str) -> list[str]:
        code, _, err = softbellman("captions", *asked["words"], *words)
        assert code == 0, err
        assert asked["drawn"] == asked["images"]
        return list(asked["images"])

    assert chosen() == NAMES[:10] and asked["paths"] == [Path("a"), Path("b")]
    assert asked["bleu"] is False and asked["options"] == {"references": 2, "columns": 2}
    assert chosen("--count", "3") == NAMES[:3]
    drawn = chosen("--pick", "random", "--count", "5")
    assert len(set(drawn)) == 5 and drawn == sorted(drawn, key=NAMES.index)
    assert chosen("--pick", "random", "--count", "5", "--seed", "1") == drawn
    assert chosen("--pick", "random", "--count", "5", "--seed", "2") != drawn
    assert chosen("--pick", "7.png", "2.png", "7.png") == ["7.png", "2.png"]
    assert asked["last"] is False
    chosen("--bleu", "--references", "1", "--columns", "3", "--checkpoint", "last")
    assert asked["last"] is True
    assert asked["bleu"] is True and asked["options"] == {"references": 1, "columns": 3}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--count", "13"], "--count 13: the test set has 12 images"),
        (["--seed", "1"], "--seed is for --pick random"),
        (["--pick", "2.png", "--count", "1"], "--count is for --pick first and --pick random"),
        (["--output", "sheet.gif"], "--output must end in .png, .pdf, .svg, given sheet.gif"),
        (["--images", "nowhere"], "--images: nowhere is not a folder"),
        (["--columns", "0"], "whole number above zero"),
    ],
)
def test_errors_are_one_line(
    softbellman: RunCommand, asked: dict[str, Any], words: list[str], message: str
) -> None:
    code, out, err = softbellman("captions", *asked["words"], *words)
    assert code == 2 and out == "" and err.count("\n") == 1 and message in err
    assert "drawn" not in asked


def test_actions_explain_themselves(softbellman: RunCommand) -> None:
    for action in ("extract", "sheet"):
        code, out, _ = softbellman("captions", action, "--help")
        assert code == 0 and f"usage: softbellman captions {action}" in out
        assert max(map(len, out.splitlines())) <= 100
    assert "ACTION" in softbellman("captions").err and softbellman("captions").code == 2
