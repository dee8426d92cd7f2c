"""Reads a caption of a scene back: which shapes it names, and what it claims of them.

The grammar is that of `captions`, from the same words. It is as wide as what a listener understands at once: openings,
details and further shapes may stand wherever they stand in some caption. What it cannot read says nothing of a scene.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from softbellman.data.scenes.relations import Place, Relation
from softbellman.data.scenes.scene import Colour, Size
from softbellman.data.scenes.shapes import Kind
from softbellman.data.scenes.words import (
    BETWEEN,
    COLUMNS,
    COUNT_LINKS,
    FRONTED_VERBS,
    NOUNS,
    NUMBERS,
    OPENINGS,
    PLACES,
    RELATIONS,
    ROWS,
    SIZES,
)


@dataclass(frozen=True)
class Named:
    """A shape as a caption names it; None where it leaves size or colour open."""

    kind: Kind
    colour: Colour | None = None
    size: Size | None = None


@dataclass(frozen=True)
class Related:
    """A relation between named shapes, by their number in the caption.

    Attributes:
        relation: as in `Fact`, with its subject, object and, of `between`, other.
        either: one of both is the subject, whichever: `one above the other`.
    """

    relation: Relation
    subject: int
    object: int
    other: int = -1
    either: bool = False


@dataclass(frozen=True)
class Placed:
    """Where a named shape is."""

    shape: int
    place: Place


@dataclass(frozen=True)
class Counted:
    """How many shapes there are in all."""

    count: int


Claim = Related | Placed | Counted


@dataclass(frozen=True)
class Statement:
    """What a caption says.

    Attributes:
        shapes: the shapes in the order in which it names them.
        claims: what it says of them, beside that they are there.
    """

    shapes: tuple[Named, ...]
    claims: tuple[Claim, ...]

    @property
    def relates(self) -> bool:
        """Whether it tells a relation between shapes, not only what is there and where."""
        return any(isinstance(claim, Related) for claim in self.claims)


class UnreadableCaption(ValueError):
    """A text that is no caption of the scenes' grammar; the message quotes it."""


def read_caption(caption: str) -> Statement:
    """What a caption says.

    Args:
        caption: lowercased words parted by single spaces, as `generate_scenes` writes them and a captioner does.

    Raises:
        UnreadableCaption: it is not of the grammar.

    Example:
        >>> read_caption("a small dot above a red star").claims
        (Related(relation='above', subject=0, object=1, other=-1, either=False),)
    """
    shapes: list[Named] = []

    def number(found: re.Match[str]) -> str:
        shapes.append(
            Named(_kinds()[found["noun"]], found["colour"], _sizes().get(found["size"] or ""))  # type: ignore[arg-type]
        )
        return "#"

    # From here on a named shape is `#`; their order tells which one.
    text = _pattern("name").sub(number, caption)
    if text.count("#") != len(shapes):
        raise UnreadableCaption(f"cannot be read: {caption!r}")
    claims: list[Claim] = []
    if found := _pattern("count").fullmatch(text):
        claims.append(Counted(next(count for count, word in NUMBERS.items() if word == found["count"])))
        text = found["rest"]
    elif found := _pattern("fronted place").fullmatch(text):
        claims.append(Placed(0, _places()[found["place"]]))
        text = found["rest"]
    text = _pattern("opening").sub("", text)
    for found in _pattern("place").finditer(text):
        claims.append(Placed(text[: found.start()].count("#"), _places()[found["place"]]))
    text = _pattern("place").sub("#", text)
    core, further, rest = text.partition(" , and ")
    if further and not _pattern("list").fullmatch(rest):
        raise UnreadableCaption(f"cannot be read: {caption!r}")
    for form in _forms():
        if form.pattern.fullmatch(core):
            return Statement(tuple(shapes), (*claims, *form.claims))
    raise UnreadableCaption(f"cannot be read: {caption!r}")


@dataclass(frozen=True)
class _Form:
    """What a caption of some words claims of its first two or three shapes."""

    pattern: re.Pattern[str]
    claims: tuple[Related, ...] = ()


@cache
def _forms() -> tuple[_Form, ...]:
    """The sentences of the grammar, places and further shapes taken out."""
    return tuple(_all_forms())


def _all_forms() -> Iterator[_Form]:
    verbs, between = _words(FRONTED_VERBS), _words(BETWEEN)
    yield _form("#(?: , #)*(?: and #)?")
    for order, relation in ((ROWS, "left"), (COLUMNS, "above")):
        first, second = Related(relation, 0, 1), Related(relation, 1, 2)  # type: ignore[arg-type]
        yield _form(f"# , # and # (?:{_words(order)})", first, second)
    yield _form(f"#(?: is)? (?:{between}) # and #", Related("between", 0, 1, 2))
    yield _form(f"(?:{between}) # and # (?:{verbs}) #", Related("between", 2, 0, 1))
    yield _form("# and # with # between them", Related("between", 2, 0, 1))
    for relation, forms in RELATIONS.items():
        first, second = Related(relation, 0, 1), Related(relation, 1, 0)
        for ways, stated, turned in ((forms.forward, first, second), (forms.backward, second, first)):
            yield _form(f"#(?: is)? (?:{_words(ways)}) #", stated)
            yield _form(f"(?:{_words(ways)}) # (?:{verbs}) #", turned)
        yield _form(f"# with # (?:{_words(forms.after_with)})", second)
        yield _form(f"# and # (?:{_words(forms.together)})", Related(relation, 0, 1, either=True))


def _form(pattern: str, *claims: Related) -> _Form:
    return _Form(re.compile(pattern), claims)


Part = Literal["name", "count", "fronted place", "opening", "place", "list"]


@cache
def _pattern(part: Part) -> re.Pattern[str]:
    """The parts of a caption that are taken out of it."""
    places, verbs = _words(_places()), _words(FRONTED_VERBS)
    size, colour, noun = _words(_sizes()), _words(get_args(Colour)), _words(_kinds())
    patterns: dict[Part, str] = {
        "name": rf"\ban? (?:(?P<size>{size}) )?(?:(?P<colour>{colour}) )?(?P<noun>{noun})\b",
        "count": rf"(?P<count>{_words(NUMBERS.values())}) shapes (?:{_words(COUNT_LINKS)}) (?P<rest>.*)",
        "fronted place": rf"(?P<place>{places}) (?:{verbs}) (?P<rest># , and .*)",
        "opening": rf"^(?:{_words(OPENINGS)}) (?=#)",
        "place": rf"# (?P<place>{places})(?= ,| and|$)",
        "list": "#(?: , #)*(?: and #)?",
    }
    return re.compile(patterns[part])


def _words(ways: Iterable[str]) -> str:
    """The ways as alternatives of a pattern, longer ones first."""
    return "|".join(re.escape(way) for way in sorted(ways, key=len, reverse=True))


@cache
def _kinds() -> dict[str, Kind]:
    return {noun: kind for kind, nouns in NOUNS.items() for noun in nouns}


@cache
def _sizes() -> dict[str, Size]:
    return {word: size for size, words in SIZES.items() for word in words}


@cache
def _places() -> dict[str, Place]:
    return {word: place for place, words in PLACES.items() for word in words}
