"""docs/equations.md: every file, function and stage that its tables name exists."""

from __future__ import annotations

import importlib
import re

import pytest
from pages import ROOT, expanded

from softbellman.training.algorithms import ALGORITHMS

PAGE = ROOT / "docs" / "equations.md"
ROWS = [
    line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith(("| Eq. (", "| - |"))
]
CODE = re.compile(r"`([^`]+)`")
FILE = re.compile(r"(?:csrc|softbellman|tests)/\S+")
FUNCTION = re.compile(r"(?:reference|losses|payoffs|objectives|oracle|decoding|training)\.[\w.]+")
PAPER = (*range(1, 8), *range(9, 21))
"""The numbers of the paper's equations that the project uses."""


def names(pattern: re.Pattern[str]) -> list[str]:
    found = [name for row in ROWS for name in CODE.findall(row) if pattern.fullmatch(name)]
    return sorted(set(found))


@pytest.mark.parametrize("path", names(FILE))
def test_files_exist(path: str) -> None:
    assert [part for part in expanded(path) if not (ROOT / part).is_file()] == []


@pytest.mark.parametrize("name", names(FUNCTION))
def test_functions_exist(name: str) -> None:
    module, _, function = f"softbellman.{name}".rpartition(".")
    assert callable(getattr(importlib.import_module(module), function))


def test_stages_exist() -> None:
    stages = {stage for algorithm in ALGORITHMS.values() for stage in algorithm.stages}
    named = {name for row in ROWS for name in CODE.findall(row.rsplit("|", 2)[1])}
    assert named <= stages | {"beam_search"}
    assert named >= {"critic", "joint", "oracle", "augmented"}


def test_every_equation_has_a_row() -> None:
    numbers: set[int] = set()
    for row in ROWS:
        found = [int(number) for number in re.findall(r"\((\d+)\)", row.split("|")[1])]
        numbers |= set(range(found[0], found[-1] + 1) if found else ())
    assert numbers == set(PAPER)
