"""The interpreter's module, built once a session, and the tests of tests/simt that it repeats.

Every test starts on a device of one multiprocessor, in ascending order, with the check for races. What is interpreted takes
a hundred times as long as what g++ compiled, so a test of many sizes is run on a few of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ptx_build
import pytest
import torch
from ptx_memory import Guarded
from ptx_variants import variants

HERE = Path(__file__).parent
# Rows within a warp of each type, and beyond the 256 vectors of 16 bytes from which a row has a block of its own.
ROWS = {
    (33, torch.float32),
    (1030, torch.float32),
    (31, torch.float64),
    (100, torch.float16),
    (257, torch.bfloat16),
    (2057, torch.bfloat16),
}


@pytest.fixture(scope="session")
def simt() -> Guarded:
    if why := ptx_build.missing_compiler():
        pytest.skip(why)
    return Guarded(ptx_build.build_module(variants()))


def reset(simt: Guarded) -> None:
    simt.set_schedule(0)
    simt.set_multiprocessors(1)
    simt.set_check_races(True)
    simt.set_approximate(False)
    simt.set_interleaving(6, 200)


@pytest.fixture(autouse=True)
def plain_machine(simt: Guarded) -> Iterator[None]:
    reset(simt)
    yield
    reset(simt)


def is_left_out(item: pytest.Item) -> bool:
    if item.path.parent != HERE or not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return False
    chosen = item.callspec.params
    if chosen.get("vocab") == 20479 and chosen.get("kind", "jsd") != "jsd":
        return True  # the longest rows once
    return (
        {"vocab", "dtype"} <= set(chosen)
        and chosen["vocab"] < 4000
        and (chosen["vocab"], chosen["dtype"]) not in ROWS
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if is_left_out(item)]
    items[:] = [item for item in items if not is_left_out(item)]
    config.hook.pytest_deselected(items=left_out)
