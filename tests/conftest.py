"""Several processes (`pytest -n 2 --dist loadgroup`): the tests of a file stay together, as do those of a built module."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BUILT_ONCE = ("ptx", "simt")  # folders whose tests need a module that takes minutes to build

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        place = item.path.relative_to(HERE)
        group = place.parts[0] if place.parts[0] in BUILT_ONCE else place.as_posix()
        item.add_marker(pytest.mark.xdist_group(group))
