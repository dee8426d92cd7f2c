"""`softbellman sweep` from end to end on runs that take seconds, and `softbellman plot` of its runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_settings_file import SETTINGS

from softbellman.training.runfolder import RunFolder

RunCommand = Callable[..., Any]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SETTINGS)
    return path


def test_a_sweep_from_end_to_end(softbellman: RunCommand, tiny: Path, tmp_path: Path) -> None:
    """Four runs by two processes, a report, a second call that trains nothing, and their curves."""
    root = tmp_path / "sweep"
    words = [
        "sweep",
        "--config",
        str(tiny),
        "--seeds",
        "1,4",
        "--vary",
        "algorithm=ac,mle",
        "--output",
        str(root),
    ]
    code, out, err = softbellman(*words, "--model.hidden", "12", "--dry-run")
    assert (
        code == 0
        and "4 runs in" in out
        and "stage actor: trained 2 times for 4 runs" in out
        and not root.exists()
    )
    words += ["--model.hidden", "12", "--workers", "2", "--nice", "0"]
    code, out, err = softbellman(*words)
    assert code == 0, err
    assert (root / "report.html").is_file() and f"report: {root / 'report.html'}" in out
    for name, seed in (("ac-1", 1), ("ac-4", 4), ("mle-1", 1), ("mle-4", 4)):
        text = (root / "runs" / name / "config.yaml").read_text()
        assert f"seed: {seed}\n" in text and "hidden: 12" in text
    code, out, err = softbellman(*words)
    assert code == 0 and "4 of 4 runs are finished already" in out
    assert len(RunFolder(root / "runs" / "ac-4").test_records()) == 2
    for name, axis in (("a.png", "updates"), ("b.pdf", "time")):
        code, out, err = softbellman("plot", str(root), "--output", str(tmp_path / name), "--x", axis)
        assert code == 0 and "AC (2)" in out and "MLE (2)" in out, err
        assert (tmp_path / name).read_bytes()[:4] in (b"\x89PNG", b"%PDF")


def test_errors_of_the_command(softbellman: RunCommand, tiny: Path, tmp_path: Path) -> None:
    def error(*words: str) -> str:
        code, out, err = softbellman("sweep", "--config", str(tiny), "--output", str(tmp_path / "s"), *words)
        assert code == 2 and not out and err.count("\n") == 1 and not (tmp_path / "s").exists()
        return str(err)

    assert "--seeds: seeds begin at 1" in error("--seeds", "0")
    assert "--seed: the runs of a sweep have their own; see --seeds" in error("--seed", "3")
    assert "unknown option '--credit'" in error("--credit", "3") or "expects" in error("--credit", "3")
    assert "unknown key 'credit.tav'" in error("--credit.tav", "3")
