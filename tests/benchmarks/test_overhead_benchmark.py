"""The benchmark of what a call costs on the host: its smallest run, its record, and what it switches off and on."""

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
        assert set(row["ratios_to_ours"]) == {"dispatched", *eager}
        assert set(row["times"]) == {"ours", "dispatched", *eager}


def test_dispatched_calls_pass_the_dispatcher_and_no_others(overhead: SimpleNamespace) -> None:
    from losses.harness import dispatched

    contenders = overhead.cases((2, 3), "cpu")["critic_loss"]
    for which in overhead.PASSES:
        for name, case in contenders.items():
            run = overhead.loop(name, case, which, 2)
            with dispatched() as called:
                run(None)
            both = {"softbellman.critic_loss.default", "softbellman.critic_loss_backward.default"}
            forward = {"softbellman.critic_loss.default"}
            expected = set() if name != "dispatched" else both if which == "both" else forward
            assert set(called) == expected
