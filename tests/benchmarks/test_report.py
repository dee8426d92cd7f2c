"""The table of goals: that it is the one in the documentation, and that a missed goal is called missed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _benchmarks_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def test_the_page_holds_the_recorded_runs(tmp_path: Path) -> None:
    from benchmarks import report

    page = ROOT / "docs" / "performance.md"
    renewed = tmp_path / "page.md"
    renewed.write_text(page.read_text())
    report.main(["--page", str(renewed)])
    assert renewed.read_text() == page.read_text(), (
        "run python -m benchmarks.report --page docs/performance.md"
    )


def test_medians_decide(tmp_path: Path) -> None:
    from benchmarks import report

    for name in report.GOALS:
        source = ROOT / "benchmarks" / "results" / f"{name}-cpu.json"
        (tmp_path / source.name).write_text(source.read_text())
    before = report.report(tmp_path).splitlines()
    content: dict[str, Any] = json.loads((tmp_path / "training-cpu.json").read_text())
    for row in content["rows"]:
        row["published_over_ours"] |= {"median": 0.5 if row["stage"] == "mle" else 100.0}
    (tmp_path / "training-cpu.json").write_text(json.dumps(content))
    after = report.report(tmp_path).splitlines()
    updates = [line for line in after if line.startswith("| update") and "bfloat16" not in line]
    assert [": missed, at least" in line for line in updates] == [
        line.startswith("| update, mle") for line in updates
    ]
    assert len(updates) == 3
    others = [line.split() for line in before[1:] if not line.startswith(("| update", "| what", "| ---"))]
    assert len(others) > 50
    assert others == [
        line.split() for line in after[1:] if not line.startswith(("| update", "| what", "| ---"))
    ]


def test_a_missing_record_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks import report

    with pytest.raises(SystemExit):
        report.main(["--results", str(tmp_path)])
    assert "kernels-cpu.json is missing" in capsys.readouterr().err
