"""The Python blocks of README.md and docs/ run, those of a page one after another in one namespace."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pages import PAGES, blocks_of, name_of

from softbellman.training.algorithms import ALGORITHMS

WITH_SNIPPETS = [page for page in PAGES if any(block.language == "python" for block in blocks_of(page))]


@pytest.mark.parametrize("page", WITH_SNIPPETS, ids=name_of)
def test_snippets_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    # A page may register an algorithm; the tests after this one must not see it.
    known = set(ALGORITHMS)
    namespace: dict[str, object] = {"__name__": "snippet"}
    try:
        for block in blocks_of(page):
            if block.language == "python" and block.runs:
                source = "\n" * (block.line - 1) + block.text  # a traceback names the line of the page
                exec(compile(source, str(page), "exec"), namespace)
    finally:
        for name in set(ALGORITHMS) - known:
            del ALGORITHMS[name]


def test_few_snippets_are_left_out() -> None:
    left_out = [block for page in WITH_SNIPPETS for block in blocks_of(page) if not block.runs]
    assert len(left_out) <= 3


def test_a_snippet_that_is_left_out_says_why(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not run: needs a GPU -->\n\n```python\n1 / 0\n```\n\ntext\n\n```python\nx = 1\n```\n"
    )
    first, second = blocks_of(page)
    assert (first.runs, second.runs) == (False, True)
    assert (second.text, second.line) == ("x = 1", 10)
