"""The shim's module, built once a session; every test starts with threads running in ascending order."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
import simt_build


@pytest.fixture(scope="session")
def simt() -> ModuleType:
    return simt_build.build_module()


@pytest.fixture(autouse=True)
def _ascending_schedule(simt: ModuleType) -> Iterator[None]:
    simt.set_schedule(0)
    yield
    simt.set_schedule(0)
