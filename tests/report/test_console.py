"""What is shown of a run on a terminal, in a log and quiet; the final table; the curve in the folder."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from softbellman.report import Console, Progress
from softbellman.training import RunResult
from softbellman.training.evaluation import BleuScore
from softbellman.training.result import FinalRow
from softbellman.training.runfolder import RunFolder


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(progress: Progress) -> None:
    console = Console(progress)
    with console.updates("joint", 3, 30, 4) as bar:
        for _ in range(4):
            bar.update(1, {"td_error": 0.25, "unknown": 1.0})
    metrics = {"dev_bleu": 27.314, "entropy": 1.5, "joint_learning_rate": 1e-4}
    console.validated("joint", 3.0, metrics, best=True)


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
        FinalRow("MLE", "actor", 27.0, BleuScore(26.5, signature, 0.98), {"cider": 58.5}),
        FinalRow("ERAC", "joint", 28.75, BleuScore(27.8, signature, 1.01), {"cider": 61.25}),
    ]
    selected = [replace(row, dev_others={"cider": 50.0}) for row in rows]
    Console(progress).finished(RunResult(tmp_path / "my run", tuple(selected), "text"))
    header = out.getvalue().splitlines()[1]
    assert header == "system  dev BLEU  dev CIDEr-D  test BLEU  CIDEr-D  length ratio"
    out.truncate(out.seek(0))
    Console(progress).finished(RunResult(tmp_path / "my run", tuple(rows), "text"))
    text = out.getvalue()
    assert "ERAC minus MLE on the test set: +1.30 BLEU" in text
    assert text.splitlines()[1] == "system  dev BLEU  test BLEU  CIDEr-D  length ratio"
    assert text.count(signature) == 1 and "--tokenize none" in text
    assert f"softbellman translate '{tmp_path}/my run' < source.txt" in text


def test_a_stage_that_ended_is_in_the_picture(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    for step in range(3):
        folder.log(stage="actor", kind="dev", step=step, time=float(step), dev_bleu=20.0 + step)
    Console(Progress(quiet=True)).stage_ended("actor", folder)
    assert folder.curve_path.read_bytes()[:4] == b"\x89PNG"
