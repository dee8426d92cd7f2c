"""The shim's module, built once a session; every test starts in ascending order, on a device of one multiprocessor."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
import simt_build


@pytest.fixture(scope="session")
def simt() -> ModuleType:
    return simt_build.build_module()


def _reset(simt: ModuleType) -> None:
    simt.set_schedule(0)
    simt.set_multiprocessors(1)


@pytest.fixture(autouse=True)
def _plain_machine(simt: ModuleType) -> Iterator[None]:
    _reset(simt)
    yield
    _reset(simt)
