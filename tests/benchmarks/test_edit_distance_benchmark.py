"""The benchmark of the edit distance: its smallest run, and that the plain method computes the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def test_a_small_run_records_every_contender(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import edit_distance

    batch = edit_distance.make_batch(4, 3, 9, 31, 0, torch.device("cpu"))
    assert torch.equal(edit_distance.our_values(batch), edit_distance.plain_values(batch))
    target = tmp_path / "edit_distance.json"
    monkeypatch.setattr(sys, "argv", ["edit_distance", "--quick", "--threads", "1", "--json", str(target)])
    threads = torch.get_num_threads()
    try:
        edit_distance.main()
    finally:
        torch.set_num_threads(threads)
    (row,) = json.loads(target.read_text())["rows"]
    assert {"ours", "plain", "fill", "distances", "plain_over_ours", "ours_over_fill"} <= row.keys()
    assert "| 3 x 2 x 7" in capsys.readouterr().out
