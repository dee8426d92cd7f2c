"""Links outside of the site, pages and files that are named, the one spelling of an equation; the build finds the rest."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from pages import PAGES, ROOT, expanded, name_of

OUTSIDE = [
    ROOT / name for name in ("README.md", "docs/README.md", "benchmarks/README.md", "benchmarks/NOTES.md")
]
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
PATH = re.compile(r"`((?:csrc|softbellman|tests|benchmarks|scripts|configs|docs)/[^`\s]+)`")
NAMED = re.compile(r"\bdocs/[\w/.-]*\w\.(?:md|png|py)\b")
# "Eq. (20)", "Eq. (18), (19)" and "Eq. (1) to (3)" are the spelling.
OTHER_SPELLINGS = re.compile(r"\b(?:[Ee]quations? \(?\d|eqs?\. ?\(?\d|eqs? \(?\d|Eqs?\. ?\d|Eqs\.)")


@pytest.mark.parametrize("page", OUTSIDE, ids=name_of)
def test_links_lead_to_files(page: Path) -> None:
    missing = [
        link for link in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()
    ]
    assert not missing


def test_pages_that_files_name_exist() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("needs a git checkout")
    missing = set()
    for name in listed.stdout.split():
        path = ROOT / name
        if (
            path.suffix in (".py", ".md", ".yaml", ".yml", ".sh", ".h", ".cpp", ".cu", ".cuh")
            and path.exists()
        ):
            named = NAMED.findall(path.read_text(encoding="utf-8"))
            missing |= {(name, page) for page in named if not (ROOT / page).exists()}
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_equations_have_one_spelling(page: Path) -> None:
    assert not OTHER_SPELLINGS.findall(page.read_text(encoding="utf-8"))


def test_paths_in_pages_exist() -> None:
    """A placeholder is `x.py`, `stages/x.py` or holds a `*`."""
    missing = set()
    for page in PAGES:
        for path in PATH.findall(page.read_text(encoding="utf-8")):
            placeholder = "*" in path or re.search(r"(^|[/_])x\.", path)
            if not placeholder and not all((ROOT / part).exists() for part in expanded(path)):
                missing.add((name_of(page), path))
    assert not missing
