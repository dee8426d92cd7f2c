"""The learning curve of a run."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from softbellman.report.curve import _lay_out, _points, draw_curve


def records() -> list[dict[str, object]]:
    made: list[dict[str, object]] = []
    for step in range(6):
        common = {"step": step * 10, "time": step * 40.0, "epoch": step}
        made.append({"stage": "actor", "kind": "dev", "dev_bleu": 20.0 + step, **common})
    for step in range(4):
        common = {"step": step * 10, "time": step * 20.0, "epoch": step}
        made.append({"stage": "critic", "kind": "dev", "dev_td_error": 1.0 / (step + 1), **common})
    for step in range(5):
        common = {"step": step * 10, "time": step * 50.0, "epoch": step}
        rank = None if step == 2 else 0.4 + 0.05 * step
        made.append({"stage": "joint", "kind": "train", "td_error": 0.2, **common})
        made.append(
            {"stage": "joint", "kind": "dev", "dev_bleu": 25.0 + step, "rank_correlation": rank, **common}
        )
    made.append({"stage": "joint", "kind": "test", "test_bleu": 30.0})
    return made


def write(path: Path, lines: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def png_size(path: Path) -> tuple[int, int]:
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", header[16:24])
    return width, height


def test_stages_are_laid_end_to_end() -> None:
    placed, spans, label = _lay_out(records(), "time")
    assert label == "wall time (minutes)"
    edges = [(span.stage, round(span.start * 60), round(span.end * 60)) for span in spans]
    assert edges == [("actor", 0, 200), ("critic", 200, 260), ("joint", 260, 460)]
    ranks = _points(placed, "joint", ["dev_rank_correlation", "rank_correlation"])
    assert [value for _, value in ranks] == pytest.approx([0.4, 0.45, 0.55, 0.6])
    _, spans, label = _lay_out(records(), "updates")
    assert label == "updates" and [(span.start, span.end) for span in spans] == [(0, 50), (50, 80), (80, 120)]


def test_the_curve_grows_a_panel_with_the_critic(tmp_path: Path) -> None:
    everything = write(tmp_path / "all.jsonl", records())
    alone = write(tmp_path / "actor.jsonl", [line for line in records() if line["stage"] == "actor"])
    assert draw_curve(everything, tmp_path / "all.png", title="run") == tmp_path / "all.png"
    assert draw_curve(alone, tmp_path / "actor.png", axis="updates") == tmp_path / "actor.png"
    full, small = png_size(tmp_path / "all.png"), png_size(tmp_path / "actor.png")
    assert full[0] == small[0] and full[1] > small[1] > 500
    assert not list(tmp_path.glob(".*"))


def test_no_curve_without_a_validation(tmp_path: Path) -> None:
    only_critic = write(tmp_path / "m.jsonl", [line for line in records() if line["stage"] == "critic"])
    assert draw_curve(only_critic, tmp_path / "m.png") is None
    one = write(tmp_path / "one.jsonl", records()[:1])
    assert draw_curve(one, tmp_path / "one.png") is not None
