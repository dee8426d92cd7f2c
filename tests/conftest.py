"""Several processes (`pytest -n 2`): the tests of a file stay together, as do those of a module that takes minutes to build."""

from __future__ import annotations

import os
from typing import Any

import pytest

BUILT_ONCE = ("tests/ptx", "tests/simt")

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            """What stays in one process; xdist documents this method as the one to override."""
            file = nodeid.split("::")[0]
            return next((folder for folder in BUILT_ONCE if file.startswith(f"{folder}/")), file)

    return Together(config, log)
