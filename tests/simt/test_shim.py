"""The SIMT shim itself: what it must notice in kernels with planted mistakes, and that the real kernels respect memory."""

from __future__ import annotations

import os
import subprocess
from types import ModuleType

import pytest
import simt_build

pytestmark = pytest.mark.skipif(simt_build.compiler() is None, reason="no g++ to build the SIMT shim with")


@pytest.mark.parametrize("schedule", [0, 1, 2, 3])
def test_shim_runs_a_correct_kernel(simt: ModuleType, schedule: int) -> None:
    simt.set_schedule(schedule)
    assert simt.run_fault(0) == (2016.0, "")


def test_shim_notices_planted_faults(simt: ModuleType) -> None:
    totals = []
    for schedule in range(4):
        simt.set_schedule(schedule)
        totals.append(simt.run_fault(1)[0])  # no __syncthreads between the write and the other warp's read
        assert "after another thread of its block had returned" in simt.run_fault(2)[1]
        assert "wait for each other" in simt.run_fault(3)[1]
    assert any(total != 2016.0 for total in totals)


def test_shim_notices_planted_faults_of_split_rows(simt: ModuleType) -> None:
    """Four blocks share a sum. What no schedule shows is a fence too weak for a GPU's memory: there is one memory here."""
    totals = {fault: set() for fault in (0, 2, 3)}
    for schedule in range(6):
        simt.set_schedule(schedule)
        for fault, seen in totals.items():
            total, message = simt.run_split_fault(fault)
            assert message == ""
            seen.add(total)
        assert "ticket without a __threadfence" in simt.run_split_fault(1)[1]
    assert totals[0] == {1.0}
    assert totals[2] == {0.0}, "without a reset the second launch must never find its last block"
    assert len(totals[3]) > 1, "a sum in order of arrival must depend on the schedule"


def test_memory_is_respected() -> None:
    program = simt_build.build_memory_check()
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *arguments], capture_output=True, text=True, env=environment)

    clean = run()
    assert clean.returncode == 0 and "memory check passed" in clean.stdout, clean.stderr
    beyond, misaligned = run("4"), run("5")
    assert beyond.returncode != 0 and "heap-buffer-overflow" in beyond.stderr
    assert misaligned.returncode != 0 and "misaligned address" in misaligned.stderr
