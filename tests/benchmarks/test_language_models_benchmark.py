"""The benchmark of language models' losses: its smallest run, and that it refuses a contender that computes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def test_a_small_run_records_every_loss(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import _language_cases, language_models

    target, threads = tmp_path / "language_models.json", torch.get_num_threads()
    try:
        language_models.main(["--quick", "--threads", "1", "--json", str(target)])
    finally:
        torch.set_num_threads(threads)
    rows = json.loads(target.read_text())["rows"]
    assert {(row["loss"], row["dtype"]) for row in rows} == {
        (loss, dtype) for loss in _language_cases.CASES for dtype in language_models.DTYPES
    }
    for row in rows:
        assert {"sum/eager", "rows/eager", "eager/sum", "checkpointed/sum"} <= row["ratios"].keys()
        assert row["relative_error"]["rows"] < (1e-5 if row["dtype"] == "float32" else 0.05)
        assert ("narrow" in row["times"]) == (row["dtype"] == "bfloat16" and row["loss"] != "sparse")
        absent = _language_cases.CASES[row["loss"]].others.keys() - row["times"].keys()
        assert absent == row["missing"].keys()
    assert "| cross_entropy" in capsys.readouterr().out


def test_memory_of_a_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import language_models

    monkeypatch.setitem(language_models.MODELS, "Qwen3 8B", (128, 2000))  # a vocabulary that takes no time
    target, threads = tmp_path / "memory.json", torch.get_num_threads()
    try:
        language_models.main(
            ["--memory", "Qwen3 8B", "--losses", "cross_entropy", "--threads", "1", "--json", str(target)]
        )
    finally:
        torch.set_num_threads(threads)
    (row,) = json.loads(target.read_text())["rows"]
    assert row["logits_bytes"] == 1280 * 2000 * 2 and row["results_bytes"] == (1280 + 2000) * 128 * 2
    assert row["held_bytes"]["narrow"] <= 0.1 * row["logits_bytes"] < row["held_bytes"]["eager"]
    sums = (
        3 * 1280 * 128 * 4
    )  # float32 sums of the hidden states' gradient, a product of them, and one widened
    assert row["held_bytes"]["sum"] <= 0.1 * row["logits_bytes"] + sums + 2**20  # the last of the matmul
    assert "| Qwen3 8B" in capsys.readouterr().out


def test_the_page_shows_the_recorded_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import _language_tables, language_models

    page = ROOT / "docs" / "performance.md"
    files = [
        ROOT / "benchmarks" / "results" / f"{name}-cpu.json"
        for name in ("language-models", "language-models-memory")
    ]
    for file in files:
        shown = _language_tables.tables(json.loads(file.read_text()))
        assert shown in page.read_text(), "benchmarks/README.md says how to renew it"
    copy = tmp_path / "page.md"
    copy.write_text(page.read_text().replace("| `sparse_divergence` ", "| another "))
    language_models.main(["--table", *map(str, files), "--page", str(copy)])
    assert copy.read_text() == page.read_text()


def test_a_wrong_contender_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import _language_cases as cases

    case = cases.CASES["forward_kl"]
    data = cases.make_data(20, 4, 30, torch.float32, "cpu")
    wrong = {"wrong": lambda given: 1.01 * case.ours["rows"](given)}
    with pytest.raises(RuntimeError, match="wrong: error"):
        cases.errors(case, wrong, data)
