"""The kernel benchmark: its smallest run, its record, and that it refuses a contender that computes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
TIMING_KEYS = {"median", "lower_quartile", "upper_quartile", "repetitions"}


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import _harness, _memory, _passes, contenders, kernels

    return SimpleNamespace(
        harness=_harness, memory=_memory, passes=_passes, contenders=contenders, kernels=kernels
    )


def test_quick_run_records_every_operator_and_pass(tmp_path: Path) -> None:
    target = tmp_path / "results" / "kernels.json"
    command = [sys.executable, "-m", "benchmarks.kernels", "--quick", "--no-compile", "--threads", "1"]
    command += ["--passes", "forward", "backward", "both", "--json", str(target)]
    run = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("| soft_target_cross_entropy | both") == 3  # one row in each line's table

    content = json.loads(target.read_text())
    assert content["benchmark"] == "kernels"
    environment = content["environment"]
    assert {"commit", "cpu", "cores", "python", "torch", "threads", "softbellman", "date"} <= set(environment)
    assert environment["threads"] == 1
    rows = content["rows"]
    cases = {(row["operator"], row["pass"], row["dtype"]) for row in rows}
    assert len(cases) == len(rows) == 3 * (16 * 3 + 1)  # sampling has no gradient
    for row in rows:
        assert set(row["times"]) == {"ours", "eager", "read", "copy", "copy_to_new"}
        for kind in ("limit", "share_of_limit", "limit_with_allocation", "share_of_limit_with_allocation"):
            assert set(row[kind]) == TIMING_KEYS
        assert set(row["ratios_to_ours"]["eager"]) == TIMING_KEYS
        assert row["times"]["ours"]["repetitions"] == 3
        assert set(row["bytes_per_second"]) == {"read", "copy", "copy_to_new"}
        size = row["rows"] * row["vocabulary"] * torch.finfo(getattr(torch, row["dtype"])).bits // 8
        if row["operator"] == "sparse_divergence" and row["pass"] == "forward":
            assert (
                row["peak_bytes"]["ours"] < 4 * size
            )  # copies rows in slices, which hold all of these few rows
        elif row["pass"] == "forward":
            assert row["peak_bytes"]["ours"] < size / 4  # vectors of one entry a row, no matrix
        else:
            assert row["peak_bytes"]["ours"] >= row["matrices_written"] * size
        if row["operator"] == "sample_tokens":
            assert row["relative_error"] is None
        else:
            assert set(row["relative_error"]) == {"ours", "eager"}


@pytest.mark.parametrize("which", ["forward", "backward", "both"])
def test_wrong_contender_is_refused(benchmarks: SimpleNamespace, which: str) -> None:
    operator = benchmarks.contenders.OPERATORS["policy_value"]
    data = benchmarks.contenders.make_inputs(32, 50, torch.float32, "cpu")
    benchmarks.passes.require_gradients([data], operator, which)
    check = benchmarks.passes.check_contender
    assert check(operator, which, operator.ours, data, ours=True) < 1e-5

    def off_in_the_last_row(inputs: object) -> tuple[torch.Tensor, ...]:
        factor = torch.ones(32)
        factor[-1] = 1.01
        return tuple(factor * output for output in operator.ours(inputs))

    with pytest.raises(RuntimeError, match=f"policy_value {which}"):
        check(operator, which, off_in_the_last_row, data, ours=True)


def test_wrong_draws_are_refused(benchmarks: SimpleNamespace) -> None:
    operator = benchmarks.contenders.OPERATORS["sample_tokens"]
    data = benchmarks.contenders.make_inputs(64, 200, torch.float32, "cpu")
    check = benchmarks.passes.check_contender
    check(operator, "forward", operator.ours, data, ours=True)
    check(operator, "forward", operator.plain, data, ours=False)

    def uniform(inputs: object) -> tuple[torch.Tensor, ...]:
        return (torch.arange(64) * 3,)

    with pytest.raises(RuntimeError, match="deviations"):
        check(operator, "forward", uniform, data, ours=False)

    def shifted(inputs: object) -> tuple[torch.Tensor, ...]:
        tokens, log_prob, entropy = operator.ours(inputs)
        return (tokens + 1) % 200, log_prob, entropy

    with pytest.raises(RuntimeError, match="reference"):
        check(operator, "forward", shifted, data, ours=True)


def test_peak_counts_what_was_held_at_one_time(benchmarks: SimpleNamespace) -> None:
    size = 4 * 100_000

    def two_at_once() -> torch.Tensor:
        for _ in range(5):
            total = torch.zeros(100_000) + torch.ones(100_000)  # the sum is the third
        return total

    # the previous sum is still held while the next three tensors are made
    assert benchmarks.memory.peak_bytes(two_at_once, "cpu") == 4 * size


def test_rotation_gives_each_call_the_next_input(benchmarks: SimpleNamespace) -> None:
    seen: dict[str, list[int]] = {"first": [], "second": []}
    comparison = benchmarks.harness.compare(
        {name: lambda data, name=name: seen[name].append(data) for name in seen},
        range(5),
        repetitions=3,
        warmup=1,
        rotate_every_call=True,
        prepare={"second": lambda data: -data},
        measure=lambda call: (call(), 2.0)[1],
    )
    assert seen == {"first": [0, 2, 4, 1], "second": [-1, -3, 0, -2]}
    assert comparison.ratio("second", "first").median == 1.0
    assert comparison.timings["first"].repetitions == 3


@pytest.mark.parametrize("shape", ["8192", "0x5", "axb", "2x3x4"])
def test_bad_shapes_are_a_usage_error(
    benchmarks: SimpleNamespace, capsys: pytest.CaptureFixture[str], shape: str
) -> None:
    with pytest.raises(SystemExit):
        benchmarks.kernels.parse(["--shapes", shape])
    assert "--shapes takes" in capsys.readouterr().err


def test_a_record_tells_how_to_repeat_the_run_and_not_where_the_data_lay(benchmarks: SimpleNamespace) -> None:
    command = benchmarks.harness._command
    argv = [
        "/somewhere/benchmarks/training.py",
        "--data",
        "/home/me/data",
        "--threads",
        "1",
        "--json=out.json",
    ]
    expected = "python -m benchmarks.training --data DIR --threads 1 --json=out.json"
    assert command(argv) == expected
    argv[1:3] = ["--data=/home/me/data"]
    assert command(argv) == expected.replace("--data DIR", "--data=DIR")
    argv[-1:] = ["--json", "/home/me/out.json"]
    assert command(argv).endswith("--threads 1 --json out.json")
