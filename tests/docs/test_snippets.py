"""The Python blocks of README.md and docs/ run, those of a page one after another in one namespace; some are files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pages import PAGES, blocks_of, name_of

WITH_SNIPPETS = [page for page in PAGES if any(block.language == "python" for block in blocks_of(page))]


@pytest.mark.parametrize("page", WITH_SNIPPETS, ids=name_of)
def test_snippets_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if any(
        block.runs and not block.file and "\nfrom transformers" in f"\n{block.text}"
        for block in blocks_of(page)
    ):
        pytest.importorskip("transformers", reason="the page needs the extra [hf]")
    if any(block.runs and "import CreditGRPOTrainer" in block.text for block in blocks_of(page)):
        pytest.importorskip("trl", reason="the page needs the extra [trl]")
        monkeypatch.setenv("CI", "1")  # TRL then sends no telemetry
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    namespace: dict[str, object] = {"__name__": "snippet"}
    for block in blocks_of(page):
        if block.file:
            (tmp_path / block.file).write_text(block.text + "\n", encoding="utf-8")
        elif block.language == "python" and block.runs:
            source = "\n" * (block.line - 1) + block.text  # a traceback names the line of the page
            exec(compile(source, str(page), "exec"), namespace)


def test_few_snippets_are_left_out() -> None:
    left_out = [block for page in WITH_SNIPPETS for block in blocks_of(page) if not block.runs]
    assert len(left_out) <= 3


def test_a_block_may_be_a_file(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- file: own.py -->\n\n```python\nx = 1\n```\n\n```python\nimport own\n```\n")
    assert [block.file for block in blocks_of(page)] == ["own.py", ""]


def test_a_snippet_that_is_left_out_says_why(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not run: needs a GPU -->\n\n```python\n1 / 0\n```\n\ntext\n\n```python\nx = 1\n```\n"
    )
    first, second = blocks_of(page)
    assert (first.runs, second.runs) == (False, True)
    assert (second.text, second.line) == ("x = 1", 10)
