"""IWSLT 2014, German to English, as the field prepares it.

The steps are those of fairseq's `examples/translation/prepare-iwslt14.sh`, which follows the script of MIXER (Ranzato et al.,
2016): titles and descriptions of the talks count as sentences; Moses' tokeniser; pairs with a side of more than 175 tokens,
or with 1.5 times as many tokens as the other, are left out; lower case; each 23rd pair is for validation; the test set is
dev2010, dev2012, tst2010, tst2011 and tst2012. Sub-words are not made: the models read words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

from softbellman.data.errors import DataError

LANGUAGES = ("de", "en")
TESTS = ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")
LONGEST, RATIO = 175, 1.5
"""Tokens of a side, and how many times as many as the other side's; training pairs beyond are left out."""
EACH = 23
"""The EACH-th training pair, and each EACH-th after it, is for validation."""

_METADATA = ("<url>", "<talkid>", "<keywords>")
_MARKS = re.compile(r"</?(?:title|description)>")
_SEGMENT = re.compile(r'<seg id="[0-9]*">\s*')
_RIGHT_QUOTE = "\u2019"
_SEGMENT_END = re.compile(r"\s*</seg>\s*")

Tokenize = Callable[[str], str]
"""A sentence as it was written -> its tokens, parted by single spaces."""


def moses(language: str) -> Tokenize:
    """Moses' tokeniser (its Python port) with its own escapes, such as `&apos;`.

    Raises:
        ImportError: sacremoses is not installed.
    """
    try:
        from sacremoses import MosesTokenizer
    except ImportError as error:
        raise ImportError(
            "preparing iwslt14 needs sacremoses (pip install 'softbellman[text]' or pip install sacremoses)"
        ) from error
    tokenizer = MosesTokenizer(lang=language)
    return lambda text: str(tokenizer.tokenize(text, return_str=True))


def prepare(
    members: Mapping[str, bytes],
    *,
    tokenizers: Mapping[str, Tokenize] | None = None,
    advance: Callable[[int], object] = lambda count: None,
) -> dict[str, bytes]:
    """The six files from those of the archive.

    Args:
        members: the archive's files by name.
        tokenizers: of each language; None: `moses`.
        advance: told how many lines were tokenised.

    Returns:
        `train.de`, `train.en`, `val.de`, ..., `test.en` with their contents.

    Raises:
        DataError: the two sides of a part have different numbers of lines; names it.
        ImportError: sacremoses is not installed.
    """
    tokenizers = tokenizers or {language: moses(language) for language in LANGUAGES}

    def tokens(lines: Iterable[str], language: str) -> list[str]:
        found = []
        for line in lines:
            found.append(tokenizers[language](line))
            advance(1)
        return found

    training = [
        tokens(training_lines(_text(members, f"train.tags.de-en.{language}")), language)
        for language in LANGUAGES
    ]
    _check_aligned("train.tags.de-en", training)
    pairs = [
        (source.lower(), target.lower())
        for source, target in zip(*training, strict=True)
        if fits(source, target)
    ]
    parts = {
        "train": [pair for number, pair in enumerate(pairs, start=1) if number % EACH],
        "val": list(islice(pairs, EACH - 1, None, EACH)),
        "test": [],
    }
    for test in TESTS:
        sides = [
            tokens(segments(_text(members, f"IWSLT14.{test}.de-en.{language}.xml")), language)
            for language in LANGUAGES
        ]
        _check_aligned(f"IWSLT14.{test}.de-en", sides)
        parts["test"] += [(source.lower(), target.lower()) for source, target in zip(*sides, strict=True)]
    return {
        f"{name}.{language}": "".join(f"{pair[side]}\n" for pair in part).encode()
        for name, part in parts.items()
        for side, language in enumerate(LANGUAGES)
    }


def training_lines(text: str) -> list[str]:
    """The sentences of a file of talks: its lines without those of metadata, titles and descriptions without their marks."""
    return [_MARKS.sub("", line) for line in _lines(text) if not any(mark in line for mark in _METADATA)]


def segments(text: str) -> list[str]:
    """The sentences of a file of segments, with plain apostrophes."""
    return [
        _SEGMENT_END.sub("", _SEGMENT.sub("", line)).replace(_RIGHT_QUOTE, "'")
        for line in _lines(text)
        if "<seg id" in line
    ]


def fits(source: str, target: str) -> bool:
    """Whether a pair of tokenised sentences is used: neither empty, nor too long, nor too unlike in length."""
    lengths = sorted(len(side.split()) for side in (source, target))
    return lengths[0] >= 1 and lengths[1] <= LONGEST and lengths[1] <= RATIO * lengths[0]


def _lines(text: str) -> list[str]:
    """Only a line feed ends a line; the last one may lack it."""
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _text(members: Mapping[str, bytes], name: str) -> str:
    try:
        return members[name].decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"invalid UTF-8 at byte {error.start}", path=name) from None


def _check_aligned(name: str, sides: Sequence[Sequence[str]]) -> None:
    if len(sides[0]) != len(sides[1]):
        raise DataError(f"the sides have {len(sides[0]):,} and {len(sides[1]):,} lines", path=name)
