"""The scripts of examples/ run, from another folder than theirs, and say how in their headers."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PRINTED = {
    "custom_payoff": ("RAML: test BLEU", "the payoff was custom_payoff.py:overlap"),
    "fine_tune": ("before: test BLEU", "MLE: test BLEU", "ERAC: test BLEU", "exported: test BLEU"),
    "operators": ("update 30: loss",),
    "own_algorithm": ("best of K: test BLEU",),
    "own_transformer": ("ERAC: test BLEU", "Translator with"),
    "sort_with_credit": (
        "Sort, upwards:",
        "Sort, either direction:",
        "| exact values + KL | 0.001 |",
        "seconds",
    ),
}
"""What each of them prints at least."""
NEEDED = {"fine_tune": "transformers", "sort_with_credit": "transformers"}
"""Optional packages."""
ARGUMENTS = {"sort_with_credit": ["--tiny", "--seeds", "2"]}
"""Of those that take longer without."""


def test_all_are_known() -> None:
    assert [path.stem for path in EXAMPLES] == sorted(PRINTED)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path: Path, tmp_path: Path) -> None:
    if path.stem in NEEDED:
        pytest.importorskip(NEEDED[path.stem])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, path, tmp_path, *ARGUMENTS.get(path.stem, [])],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert found.returncode == 0, found.stderr
    for words in PRINTED[path.stem]:
        assert words in found.stdout
    if path.stem == "own_algorithm":
        records = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
        trained = [one for one in records if one["kind"] == "train" and one["stage"] == "best"]
        assert trained and all(one["best_payoff"] > one["payoff"] for one in trained)
    if path.stem == "sort_with_credit":
        results = json.loads((tmp_path / "results.json").read_text())
        upwards, either = (results["test"][task] for task in ("upwards", "either direction"))
        assert len(upwards) == len(either) == 2
        assert {*either[0]} - {*upwards[0]} == {"exact targets, one label"}
        assert (tmp_path / "figure.png").stat().st_size > 10_000
    if path.stem == "fine_tune":
        scores = dict(re.findall(r"^(\w+): test BLEU (\S+)$", found.stdout, re.MULTILINE))
        assert scores["exported"] == scores["ERAC"]  # transformers decodes what was tuned
        assert float(scores["before"]) < float(scores["MLE"]) < float(scores["ERAC"])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_header_says_what_it_shows_and_how_to_run_it(path: Path) -> None:
    header = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert "Shows: " in header and f"python examples/{path.name}" in header
