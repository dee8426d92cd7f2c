"""The benchmark of what a call costs on the host: its smallest run and its record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def overhead() -> Iterator[SimpleNamespace]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        from benchmarks import overhead

        threads = torch.get_num_threads()
        yield overhead
        torch.set_num_threads(threads)


def test_smallest_run_records_every_operator_and_pass(overhead: SimpleNamespace, tmp_path: Path) -> None:
    target = tmp_path / "overhead.json"
    overhead.main(["--shapes", "2x3", "--calls", "2", "--repetitions", "2", "--json", str(target)])
    content = json.loads(target.read_text())
    assert content["benchmark"] == "overhead"
    rows = content["rows"]
    assert len({(row["operator"], row["pass"]) for row in rows}) == len(rows) == 8 * 3 + 3
    for row in rows:
        eager = {"eager"} if row["operator"] not in ("sample_edits", "prefix_bleu") else set()
        assert set(row["ratios_to_ours"]) == eager
        assert set(row["times"]) == {"ours", *eager}
