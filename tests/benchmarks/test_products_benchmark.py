"""The benchmark of the native products: its smallest run, and that it leaves the choice of products as it was."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from softbellman.core import native

ROOT = Path(__file__).resolve().parents[2]


def test_a_small_run_records_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import products

    target, before = tmp_path / "products.json", native.cpu.PRODUCT_IS_FASTER
    monkeypatch.setattr(sys, "argv", ["products", "--quick", "--threads", "1", "--json", str(target)])
    threads = torch.get_num_threads()
    try:
        products.main()
    finally:
        torch.set_num_threads(threads)
    rows = json.loads(target.read_text())["rows"]
    assert [row["product"] for row in rows] == ["logits", "hidden", "weight"]
    assert all(row["ours_gflops"] > 0 and row["ours_error"] < 1e-5 for row in rows)
    assert before == native.cpu.PRODUCT_IS_FASTER
    assert "| 64 x 300 x 64" in capsys.readouterr().out


def test_a_wrong_product_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import products

    monkeypatch.setattr(products.products, "multiply", lambda left, right, out: out.fill_(1.0))
    monkeypatch.setattr(sys, "argv", ["products", "--quick", "--threads", "1"])
    with pytest.raises(SystemExit, match="wrong product logits"):
        products.main()
