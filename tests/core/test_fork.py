"""A forked child: with one thread kernels run, with several they say what is wrong instead of waiting for ever."""

from __future__ import annotations

import subprocess
import sys

import pytest

import softbellman

pytestmark = pytest.mark.skipif(
    softbellman.build_info()["threading"] != "openmp" or "clang" in softbellman.build_info()["compiler"],
    reason="threads of GNU's OpenMP alone do not survive a fork",
)

PROGRAM = """
import os, sys, torch, softbellman
parent_threads, child_threads = map(int, sys.argv[1:])
torch.set_num_threads(parent_threads)
large, small = torch.zeros(64, 4096), torch.zeros(2, 8)
def computed(q, threads):
    torch.set_num_threads(threads)
    try:
        return softbellman.soft_value(q, tau=1.0).sum().item()
    except RuntimeError as error:
        return error
print("before=", computed(large, parent_threads), flush=True)
child = os.fork()
if child == 0:
    print("small=", computed(small, child_threads), flush=True)
    print("large=", computed(large, child_threads), flush=True)
    print("alone=", computed(large, 1), flush=True)
    os._exit(0)
print("status=", os.waitpid(child, 0)[1], flush=True)
print("after=", computed(large, parent_threads), flush=True)
"""
LARGE, SMALL = "532.3", "4.158"


def outcome(parent_threads: int, child_threads: int) -> dict[str, str]:
    command = [sys.executable, "-c", PROGRAM, str(parent_threads), str(child_threads)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return dict(line.split("= ", 1) for line in done.stdout.splitlines())


def test_a_child_with_several_threads_is_told_why_it_cannot() -> None:
    said = outcome(2, 2)
    assert "forked from one that had computed with several threads" in said["large"]
    assert "torch.set_num_threads(1)" in said["large"]
    assert said["small"].startswith(SMALL), "what one thread does needs no other"
    assert said["alone"].startswith(LARGE)
    assert said["status"] == "0" and said["after"] == said["before"]


def test_a_child_with_one_thread_computes() -> None:
    said = outcome(2, 1)
    assert said["large"] == said["alone"] == said["before"]


def test_a_child_of_a_parent_without_threads_starts_its_own() -> None:
    said = outcome(1, 2)
    assert said["large"] == said["alone"] == said["before"]
