"""Progress on a terminal, in a log and quiet; the final table; the learning curve."""

from __future__ import annotations

import io
import json
import re
import struct
from pathlib import Path
from typing import NamedTuple

import pytest

from softbellman.training.curve import _lay_out, _points
from softbellman.training.reporting import Progress, draw_curve, format_table
from softbellman.training.runfolder import RunFolder


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Score(NamedTuple):
    score: float
    signature: str
    length_ratio: float


class Row(NamedTuple):
    system: str
    dev_bleu: float
    test: Score
    others: dict[str, float]


def work(progress: Progress) -> None:
    with progress.bar("joint", 3, 30, 4) as bar:
        for _ in range(4):
            bar.update(1, {"td_error": 0.25, "unknown": 1.0})
    progress.note("joint", 3.0, {"dev_bleu": 27.314, "entropy": 1.5, "joint_learning_rate": 1e-4}, best=True)


def test_a_log_gets_plain_lines() -> None:
    out, bars = io.StringIO(), io.StringIO()
    work(Progress(out=out, bars=bars, log_interval=0.0))
    lines = out.getvalue().splitlines()
    assert re.fullmatch(r"joint 3/30: 1/4 updates in \d+ s, TD error 0\.2500", lines[0]) and len(lines) == 5
    assert re.fullmatch(r"\[  0:\d\d\] joint +epoch  3\.00 \* dev BLEU 27\.31  entropy 1\.500", lines[-1])
    assert bars.getvalue() == "" and "\r" not in out.getvalue()


def test_a_log_is_not_flooded() -> None:
    out = io.StringIO()
    work(Progress(out=out, bars=io.StringIO(), log_interval=1000.0))
    assert len(out.getvalue().splitlines()) == 1


def test_a_terminal_gets_a_bar() -> None:
    out, bars = io.StringIO(), Terminal()
    work(Progress(out=out, bars=bars))
    assert "joint 3/30" in bars.getvalue() and "\r" in bars.getvalue()
    assert out.getvalue().count("\n") == 1


def test_work_of_unknown_length() -> None:
    out = io.StringIO()
    with Progress(out=out, bars=io.StringIO(), log_interval=0.0).count("translate", None, unit="line") as bar:
        bar.update(7)
    assert re.fullmatch(r"translate: 7 lines in \d+ s\n", out.getvalue())


@pytest.mark.parametrize("bars", [io.StringIO(), Terminal()])
def test_quiet_shows_the_result_alone(tmp_path: Path, bars: io.StringIO) -> None:
    out = io.StringIO()
    progress = Progress(quiet=True, out=out, bars=bars, log_interval=0.0)
    work(progress)
    assert out.getvalue() == bars.getvalue() == ""
    signature = "nrefs:1|case:mixed|eff:no|tok:none|smooth:exp|version:2.6.0"
    rows = [
        Row("MLE", 27.0, Score(26.5, signature, 0.98), {"cider": 58.5}),
        Row("ERAC", 28.75, Score(27.8, signature, 1.01), {"cider": 61.25}),
    ]
    progress.finish(RunFolder(tmp_path / "my run"), rows)
    text = out.getvalue()
    assert "ERAC minus MLE on the test set: +1.30 BLEU" in text
    assert text.splitlines()[1] == "system  dev BLEU  test BLEU  CIDEr-D  length ratio"
    assert text.count(signature) == 1 and "--tokenize none" in text
    assert f"softbellman translate '{tmp_path}/my run' < source.txt" in text


def test_table() -> None:
    rows = [{"system": "MLE", "BLEU": 9.5, "updates": 12}, {"system": "ERAC", "BLEU": 28.125, "note": "x"}]
    assert format_table(rows).splitlines() == [
        "system   BLEU  updates  note",
        "----------------------------",
        "MLE      9.50       12  -",
        "ERAC    28.12        -  x",
    ]
    assert format_table(rows, digits=1, markdown=True).splitlines() == [
        "| system | BLEU | updates | note |",
        "|--------|-----:|--------:|------|",
        "| MLE    |  9.5 |      12 | -    |",
        "| ERAC   | 28.1 |       - | x    |",
    ]
    # text asked to stand on the right
    assert format_table([{"a": "x"}, {"a": "1 ± 2"}], markdown=True, right=["a"]).splitlines() == [
        "|     a |",
        "|------:|",
        "|     x |",
        "| 1 ± 2 |",
    ]


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
