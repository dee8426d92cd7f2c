"""`softbellman report`: what is written, what is said. The page itself: tests/report/test_study_page.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from study_runs import write_run

RunCommand = Callable[..., Any]


def test_page_and_figures_are_named(softbellman: RunCommand, tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "erac-1", "erac", sentences=20)
    page = tmp_path / "out" / "table.html"
    words = ["report", str(tmp_path / "runs"), "--output", str(page), "--resamples", "50", "--title", "Mine"]
    code, out, err = softbellman(*words, "--figures", str(tmp_path / "figures"))
    assert code == 0 and err == ""
    assert out.splitlines()[0] == str(page) and all(Path(line).is_file() for line in out.splitlines())
    assert "<title>Mine</title>" in page.read_text() and len(list((tmp_path / "figures").iterdir())) == 4


def test_runs_are_collected_and_read_from_there(softbellman: RunCommand, tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "erac-1", "erac", sentences=20)
    kept = tmp_path / "kept"
    code, out, _ = softbellman("report", str(tmp_path / "runs"), "--collect", str(kept))
    assert code == 0 and out == f"1 runs in {kept}\n" and not (tmp_path / "report.html").exists()
    code, out, err = softbellman(
        "report", str(kept), "--output", str(tmp_path / "r.html"), "--resamples", "50"
    )
    assert code == 0 and err == "" and (tmp_path / "r.html").is_file()


def test_runs_are_collected_without_their_texts(softbellman: RunCommand, tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "erac-1", "erac", sentences=20)
    kept = tmp_path / "kept"
    code, *_ = softbellman("report", str(tmp_path / "runs"), "--collect", str(kept), "--no-texts")
    assert code == 0 and not list(kept.rglob("*.txt"))
    page = tmp_path / "r.md"
    code, _, err = softbellman("report", str(kept), "--output", str(page), "--resamples", "50")
    assert code == 0 and err == "" and "MLE" in page.read_text()
    code, _, err = softbellman(
        "score", "--paired", str(kept / "runs" / "erac-1"), str(kept / "runs" / "erac-1:actor")
    )
    assert code == 2 and "copied without its texts" in err


def test_what_does_not_fit_together_goes_to_standard_error(softbellman: RunCommand, tmp_path: Path) -> None:
    for number in (1, 2):
        write_run(tmp_path / "runs" / f"erac-{number}", "erac", sentences=20, data_seed=number)
    words = ["report", str(tmp_path / "runs"), "--output", str(tmp_path / "r.html"), "--resamples", "20"]
    code, _, err = softbellman(*words)
    assert code == 0 and "tested on different data" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere is not a run folder: it does not exist"),
        (["{empty}"], "is not a run folder: it holds no config.yaml"),
        (["{runs}", "--output", "page.pdf"], "--output must end in .html or .md, given page.pdf"),
        (["{runs}", "--baseline", "ocd"], "--baseline 'ocd' is none of the systems: 'MLE', 'ERAC'"),
        (["{runs}", "--orderings", "ERAC"], "an ordering is names with < (or >) between them, given 'ERAC'"),
        (["{runs}", "--no-texts"], "--no-texts is of --collect"),
        (["{runs}", "--resamples", "0"], "expects a whole number above zero"),
        ([], "the following arguments are required: DIR"),
    ],
)
def test_errors_are_one_line(softbellman: RunCommand, tmp_path: Path, words: list[str], message: str) -> None:
    write_run(tmp_path / "runs" / "erac-1", "erac", sentences=10)
    (tmp_path / "empty").mkdir()
    places = {"runs": tmp_path / "runs", "empty": tmp_path / "empty"}
    code, out, err = softbellman("report", *(word.format(**places) for word in words))
    assert code == 2 and out == "" and message in err and err.count("\n") == 1
