"""A quick run times and measures both forms of the logits; a vocabulary is filled up, never cut."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from softbellman.training.settings import DataSettings
from softbellman.training.task import load_task

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import training_memory

    return training_memory


@pytest.mark.parametrize("timed", [True, False], ids=["times", "peaks"])
def test_a_quick_run_records_a_stage(benchmark, monkeypatch, tmp_path, capsys, timed):
    target = tmp_path / "memory.json"
    words = ["--quick", "--threads", "1", "--vocabulary", "3000", "--stages", "raml", "--json", str(target)]
    words.append("--return-memory" if timed else "--peaks-only")  # memory kept is kept for all later tests
    monkeypatch.setattr(sys, "argv", ["training_memory", *words])
    threads = torch.get_num_threads()
    try:
        benchmark.main()
    finally:
        torch.set_num_threads(threads)
    (row,) = json.loads(target.read_text())["rows"]
    assert row["stage"] == "raml" and row["vocabulary"] == 3000
    assert row["peak_bytes_longest_batch"]["chunked"] < 0.5 * row["peak_bytes_longest_batch"]["whole"]
    assert ("chunked_over_whole" in row) == timed
    if timed:
        assert row["chunked_over_whole"]["median"] > 0
    assert "| raml" in capsys.readouterr().out


def test_a_vocabulary_is_filled_up(benchmark):
    task = load_task(DataSettings(pairs=60, dev_pairs=10, test_pairs=10, difficulty=1.0))
    size = len(task.target_codec)
    wide = benchmark.widen(task, size + 7)
    assert len(wide.target_codec) == size + 7
    assert wide.target_codec.vocabulary.tokens[:size] == task.target_codec.vocabulary.tokens
    with pytest.raises(ValueError, match=f"at least {size}, that of the corpus, got {size - 1}"):
        benchmark.widen(task, size - 1)
