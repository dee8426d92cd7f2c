"""Huge pages are asked for where a gradient is large, and nowhere else; that they are given is the system's choice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import softbellman
from softbellman.core import native

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
GIVEN = SETTING.is_file() and "[never]" not in SETTING.read_text()
HUGE = 2 << 20


def ask(elements: int) -> bool:
    tensor = torch.empty(elements)
    given: bool = native.cpu.ask_for_huge_pages(tensor.data_ptr(), tensor.nbytes)
    return given


def test_little_memory_is_left_alone() -> None:
    assert not ask(native.cpu.HUGE_PAGE_MINIMUM // 4 - 1)


@pytest.mark.skipif(not GIVEN, reason="the system gives no huge pages")
def test_huge_pages_are_asked_for_a_large_gradient() -> None:
    q = torch.randn(64, 1 << 18, requires_grad=True)  # 64 MiB
    softbellman.soft_value(q, tau=1.0).sum().backward()
    assert q.grad is not None
    end = q.grad.data_ptr() + q.grad.nbytes
    for address in range(q.grad.data_ptr() + HUGE, end - HUGE, HUGE):
        assert "hg" in flags_of(address)
    expected = torch.softmax(q.detach()[:2].double(), -1)
    torch.testing.assert_close(q.grad[:2].double(), expected, rtol=1e-5, atol=0)


def flags_of(address: int) -> list[str]:
    """What the system has noted of the mapping that the address lies in; "hg" where huge pages were asked for."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name = line.split()[0]
        if not name.endswith(":"):
            first, last = (int(end, 16) for end in name.split("-"))
            inside = first <= address < last
        elif inside and name == "VmFlags:":
            return line.split()[1:]
    return []


@pytest.mark.skipif(not GIVEN, reason="the system gives no huge pages")
@pytest.mark.parametrize(("choice", "expected"), [("0", "False"), ("1", "True")])
def test_the_environment_decides(choice: str, expected: str) -> None:
    code = (
        "import torch; from softbellman.core import native; t = torch.empty(1 << 22); "
        "print(native.cpu.ask_for_huge_pages(t.data_ptr(), t.nbytes))"
    )
    environment = {**os.environ, "SOFTBELLMAN_HUGE_PAGES": choice}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.split()[-1] == expected
