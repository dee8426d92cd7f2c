"""Freed memory is used again instead of being fetched anew: page faults counted in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from softbellman.training.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()

def step():
    return torch.ones(16 << 20)  # 64 MB: above every threshold of glibc

for _ in range(3):  # the heap grows to its size
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, check=True, timeout=120
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the switch is glibc's")
def test_freed_memory_is_used_again() -> None:
    assert page_faults("keep") * 10 < page_faults("return")
