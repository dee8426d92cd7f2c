"""Imports point downwards: no module knows what stands on a floor above its own, and the reference knows nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import softbellman

PACKAGE = Path(softbellman.__file__).parent

FLOORS = (
    ("_C",),
    ("core",),
    ("config",),
    ("losses", "payoffs"),
    ("objectives", "models", "data", "oracle"),
    ("decoding",),
    ("hf",),
    ("training",),
    ("experiments",),
    ("report",),
    ("cli",),
)
"""From the bottom to the top. A part may import those on lower floors, not its neighbours."""

ROOT = "softbellman"
"""The package itself: the operators under one name. It stands on the floor of the losses and payoffs."""

ALONE = "reference"
"""Imports nothing of the project, and nothing but tests and benchmarks imports it."""

FLOOR_OF = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}


def imported_names(source: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import, those within functions and of types alone too; relative ones begin with a dot."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def part_of(name: str) -> str:
    """The part a dotted name belongs to: `softbellman.core.checks` -> core, `softbellman.build_info` -> the root."""
    part = f"{name}.".split(".")[1]
    return part if part in {*FLOOR_OF, ALONE} else ROOT


def complaint(importer: str, name: str) -> str | None:
    """Why a part must not import this name; None where it may."""
    if name.startswith("."):
        return "is relative"
    if name.split(".")[0] != ROOT:
        return None
    imported = part_of(name)
    if imported == importer:
        return None
    if ALONE in (importer, imported):
        return "is of the reference, which stands alone"
    if ROOT in (importer, imported):
        floor = FLOOR_OF["losses"]
        allowed = FLOOR_OF[imported] <= floor if importer == ROOT else FLOOR_OF[importer] > floor
    else:
        allowed = FLOOR_OF[imported] < FLOOR_OF[importer]
    return None if allowed else f"is not below {importer}"


def complaints(path: Path) -> list[str]:
    place = path.relative_to(PACKAGE)
    importer = place.parts[0] if len(place.parts) > 1 else {"__main__.py": "cli"}.get(place.name, ROOT)
    return [
        f"{place}:{line}: {name} {reason}"
        for line, name in imported_names(path.read_text(encoding="utf-8"))
        if (reason := complaint(importer, name))
    ]


def test_every_part_has_a_floor() -> None:
    parts = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert parts == {*FLOOR_OF, ALONE} - {"_C"}


@pytest.mark.parametrize("part", ["", *sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))])
def test_imports_are_absolute_and_point_downwards(part: str) -> None:
    files = sorted((PACKAGE / part).rglob("*.py") if part else PACKAGE.glob("*.py"))
    assert files and [found for path in files for found in complaints(path)] == []


@pytest.mark.parametrize(
    ("importer", "source", "reason"),
    [
        ("training", "from softbellman.report import Console", "softbellman.report.Console is not below training"),
        ("losses", "from softbellman.payoffs.tokens import x", "is not below losses"),
        ("models", "def f():\n    import softbellman.training.run", "is not below models"),
        ("core", "import softbellman", "is not below core"),
        ("core", "from softbellman import _C", None),
        ("core", "from . import checks", "checks is relative"),
        ("core", "from ..losses import x", "..losses.x is relative"),
        ("reference", "from softbellman.core.checks import x", "stands alone"),
        ("reference", "from softbellman import build_info", "stands alone"),
        ("reference", "from softbellman.reference.rows import x", None),
        ("training", "from softbellman.reference import soft_value", "stands alone"),
        ("training", "import torch, softbellman", None),
        ("cli", "from softbellman.experiments import collect_runs", None),
    ],
)  # fmt: skip
def test_the_rule_itself(importer: str, source: str, reason: str | None) -> None:
    found = [f"{name} {why}" for _, name in imported_names(source) if (why := complaint(importer, name))]
    assert (reason is None and not found) or (reason is not None and reason in found[0])
