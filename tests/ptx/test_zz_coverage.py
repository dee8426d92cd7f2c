"""Every kernel that nvcc compiles was run; this file's name comes behind those of the tests that run them."""

from __future__ import annotations

from pathlib import Path

import pytest
from ptx_memory import Guarded

HERE = Path(__file__).parent


def test_every_kernel_was_run(simt: Guarded, request: pytest.FixtureRequest) -> None:
    selected = {item.path.name for item in request.session.items if item.path.parent == HERE}
    if request.config.option.keyword or selected != {path.name for path in HERE.glob("test_*.py")}:
        pytest.skip("asked only where all of tests/ptx runs")
    never = set(simt.kernels()) - set(simt.counters()["launches"])
    assert not never, f"never launched: {sorted(never)}"
