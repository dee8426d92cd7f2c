"""Lengths of sentences in README.md and docs/: those over 25 words are listed, one over 40 ends with 1.

    python scripts/check_prose.py [--list] [FILE ...]

Code, tables, headings and comments are left out; a formula in backticks counts as one word.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
WANTED, LIMIT = 25, 40

COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
FENCED = re.compile(r"^ *(```|:::).*?^ *\1\s*$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`[^`]+`")
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
ITEM = re.compile(r"^\s*(?:[-*]|\d+\.) ")
END = re.compile(r"(?<=[.!?])(?:[)\"*]*)\s+(?=[\"(*]*[A-Z0-9])")
ABBREVIATION = re.compile(r"\b(Eq|e\.g|i\.e|vs|et al)\. ")


class Sentence(NamedTuple):
    """A sentence of a page and how many words it has."""

    page: Path
    words: int
    text: str


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs and list items of a page, each on one line, links and formulas as single words."""
    text = FENCED.sub("\n\n", COMMENT.sub("", text))
    text = LINK.sub(r"\1", CODE.sub("Code", text))
    current: list[str] = []
    for line in [*text.splitlines(), ""]:
        is_prose = line.strip() and not line.startswith(("|", "#", "    ", "!"))
        if current and (not is_prose or ITEM.match(line)):
            yield " ".join(current)
            current = []
        if is_prose:
            current.append(ITEM.sub("", line).strip())


def sentences(page: Path) -> Iterator[Sentence]:
    """The sentences of a page in order."""
    for paragraph in paragraphs(page.read_text(encoding="utf-8")):
        for sentence in END.split(ABBREVIATION.sub(r"\1.", paragraph)):
            words = [word for word in sentence.split() if any(letter.isalnum() for letter in word)]
            yield Sentence(page, len(words), sentence)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--list", action="store_true", help=f"show the sentences over {WANTED} words")
    options = parser.parse_args()
    pages = options.pages or sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
    found = [sentence for page in pages for sentence in sentences(page)]
    longer = [sentence for sentence in found if sentence.words > WANTED]
    for page, words, text in longer:
        if options.list or words > LIMIT:
            print(f"{page}: {words} words: {text}")
    over = sum(sentence.words > LIMIT for sentence in longer)
    print(f"{len(found)} sentences, {len(longer)} over {WANTED} words, {over} over {LIMIT}.")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
