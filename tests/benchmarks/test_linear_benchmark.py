"""The benchmark of the operators on heads: its smallest run, and that it refuses a contender that computes wrong."""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

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
    assert rows.keys() == linear_contenders.CASES.keys()
    for row in rows.values():
        assert row["share_of_logits"]["rows"] < row["share_of_logits"]["eager"]
        assert {"eager/rows"} <= row["ratios"].keys() and row["relative_error"]["rows"] < 1e-5
    assert "sum" in rows["actor_loss"]["times"] and "sum" not in rows["policy_value"]["times"]
    assert "| critic_loss" in capsys.readouterr().out


def test_a_wrong_contender_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import linear_contenders as contenders

    case = contenders.CASES["token_cross_entropy"]
    data = contenders.make_heads(20, 4, 30, torch.float32, "cpu")
    right = contenders.contenders(case, compiled=False)
    assert set(contenders.errors(case, right, data)) == {"sum", "rows", "whole", "eager"}
    wrong = {"wrong": lambda heads: (1.01 * case.ours(heads, reduction="sum")[0],)}
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


def test_liger_is_a_contender_where_it_is_installed_and_the_device_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import linear_contenders as contenders

    class Loss(torch.nn.Module):
        """The arguments of liger-kernel's module, in its order."""

        def __init__(self, reduction: str) -> None:
            super().__init__()
            self.reduction = reduction

        def forward(
            self, weight: torch.Tensor, rows: torch.Tensor, ids: torch.Tensor, bias: torch.Tensor
        ) -> torch.Tensor:
            logits = torch.nn.functional.linear(rows, weight, bias)
            return torch.nn.functional.cross_entropy(logits, ids, reduction=self.reduction)

    package, module = ModuleType("liger_kernel"), ModuleType("liger_kernel.transformers")
    package.__spec__ = ModuleSpec("liger_kernel", None)
    module.LigerFusedLinearCrossEntropyLoss = Loss  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "liger_kernel", package)
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", module)
    case = contenders.CASES["token_cross_entropy"]
    assert "liger" not in contenders.contenders(case, compiled=False)
    assert "liger" not in contenders.contenders(
        contenders.CASES["critic_loss"], compiled=False, device="cuda"
    )
    functions = contenders.contenders(case, compiled=False, device="cuda:0")
    data = contenders.make_heads(20, 4, 30, torch.float32, "cpu")
    assert contenders.errors(case, {"liger": functions["liger"]}, data)["liger"] < 1e-5
