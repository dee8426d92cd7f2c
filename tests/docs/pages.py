"""The pages that the tests of the documentation read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^( *)```(\w*)\s*$")
FILE = re.compile(r"<!-- file: (\S+) -->")
NOT_RUN = re.compile(r"<!-- not run: \S.* -->")


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        language: the word behind the fence.
        text: what stands between the fences.
        line: number of the first line of the text.
        runs: False behind a comment `<!-- not run: why -->`.
        file: behind a comment `<!-- file: name -->` the name of the file that the text is.
    """

    language: str
    text: str
    line: int
    runs: bool
    file: str = ""


def name_of(page: Path) -> str:
    """The path of a page within the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    found: list[Block] = []
    start: int | None = None
    for number, line in enumerate(lines):
        match = FENCE.match(line)
        if match and start is None:
            start, indent, language = number, len(match[1]), match[2]
            before = next((text for text in reversed(lines[:number]) if text.strip()), "")
        elif start is not None and line.strip() == "```":
            text = "\n".join(text[indent:] for text in lines[start + 1 : number])
            file = FILE.search(before)
            found.append(
                Block(language, text, start + 2, NOT_RUN.search(before) is None, file[1] if file else "")
            )
            start = None
    return found


def expanded(path: str) -> list[str]:
    """`policy.{h,cpp}` as two paths."""
    match = re.fullmatch(r"(.*)\{(.*)\}(.*)", path)
    return [path] if match is None else [match[1] + part + match[3] for part in match[2].split(",")]
