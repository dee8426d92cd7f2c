"""The benchmark of the linear operators: its smallest run, and that it refuses a contender that computes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def test_a_small_run_records_every_operator(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import linear, linear_contenders

    target, threads = tmp_path / "linear.json", torch.get_num_threads()
    try:
        linear.main(["--quick", "--no-compile", "--threads", "1", "--json", str(target)])
    finally:
        torch.set_num_threads(threads)
    rows = {row["operator"]: row for row in json.loads(target.read_text())["rows"]}
    assert rows.keys() == {f"linear_{name}" for name in linear_contenders.CASES}
    for row in rows.values():
        assert row["share_of_logits"]["rows"] < row["share_of_logits"]["eager"]
        assert {"eager/rows"} <= row["ratios"].keys() and row["relative_error"]["rows"] < 1e-5
    assert "sum" in rows["linear_actor_loss"]["times"] and "sum" not in rows["linear_policy_value"]["times"]
    assert "| linear_critic_loss" in capsys.readouterr().out


def test_a_wrong_contender_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import linear_contenders as contenders

    case = contenders.CASES["token_cross_entropy"]
    data = contenders.make_heads(20, 4, 30, torch.float32, "cpu")
    right = contenders.contenders(case, compiled=False)
    assert set(contenders.errors(case, right, data)) == {"sum", "rows", "whole", "eager"}
    wrong = {"wrong": lambda heads: (1.01 * case.ours(heads, "sum")[0],)}
    with pytest.raises(RuntimeError, match="token_cross_entropy wrong"):
        contenders.errors(case, wrong, data)


@pytest.mark.parametrize("shape", ["2048x256", "0x4x5", "axbxc"])
def test_bad_shapes_are_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shape: str
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import linear

    with pytest.raises(SystemExit):
        linear.main(["--shapes", shape])
    assert "--shapes takes" in capsys.readouterr().err
