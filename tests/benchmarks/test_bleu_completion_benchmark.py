"""The benchmark of BLEU's completion values: its smallest run, and that the peers compute the same."""

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
    from benchmarks import bleu_completion

    bleu_completion.check_agreement(bleu_completion.make_batch(3, 2, 3, 5, 7))
    target = tmp_path / "bleu_completion.json"
    monkeypatch.setattr(sys, "argv", ["bleu_completion", "--quick", "--threads", "1", "--json", str(target)])
    threads = torch.get_num_threads()
    try:
        bleu_completion.main()
    finally:
        torch.set_num_threads(threads)
    (row,) = json.loads(target.read_text())["rows"]
    assert {"compact", "values", "fill", "python", "sacrebleu", "python_over_compact"} <= row.keys()
    assert "| 2 x 1 x 5" in capsys.readouterr().out
