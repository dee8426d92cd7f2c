"""The words of captions. Of several ways to say something the first is the usual one."""

from __future__ import annotations

from typing import NamedTuple

from softbellman.data.scenes.relations import Place, Relation
from softbellman.data.scenes.scene import Size
from softbellman.data.scenes.shapes import Kind

NOUNS: dict[Kind, tuple[str, ...]] = {
    "circle": ("circle", "disc", "dot"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "cross": ("cross", "plus sign"),
    "ring": ("ring", "hoop"),
    "diamond": ("diamond", "rhombus"),
    "heart": ("heart",),
}
SIZES: dict[Size, tuple[str, ...]] = {
    "small": ("small", "little", "tiny"),
    "medium": (),
    "large": ("large", "big"),
}
NUMBERS = {2: "two", 3: "three", 4: "four"}


class Forms(NamedTuple):
    """How a relation of A (the subject) to B is said.

    Attributes:
        forward: follows A (and `is`), before B.
        backward: follows B, before A.
        after_with: follows `B with A`.
        together: follows `A and B` where the scene holds nothing else; empty: it cannot be said so.
    """

    forward: tuple[str, ...]
    backward: tuple[str, ...]
    after_with: tuple[str, ...]
    together: tuple[str, ...]


RELATIONS: dict[Relation, Forms] = {
    "left": Forms(
        ("to the left of", "left of", "on the left side of"),
        ("to the right of", "right of", "on the right side of"),
        ("to its left", "on its left"),
        ("side by side", "next to each other"),
    ),
    "above": Forms(
        ("above", "over", "higher up than"),
        ("below", "under", "beneath"),
        ("above it", "over it"),
        ("one above the other", "one below the other"),
    ),
    "inside": Forms(
        ("inside", "in", "within"),
        ("around", "surrounding"),
        ("inside it", "in it"),
        ("one inside the other",),
    ),
    "overlaps": Forms(
        ("in front of", "overlapping", "partly covering"),
        ("behind", "partly hidden by"),
        ("in front of it", "partly covering it"),
        ("overlapping each other", "one partly behind the other"),
    ),
    "touches": Forms(
        ("touching", "in contact with"),
        ("touching", "in contact with"),
        ("touching it",),
        ("touching each other", "in contact"),
    ),
}
"""Of the relations between two shapes."""

BETWEEN = ("between", "in between")
ROWS = ("from left to right", "in a row from left to right")
COLUMNS = ("from top to bottom", "in a column from top to bottom")

OPENINGS = ("there is", "we see", "this is", "a picture of", "an image of", "the picture shows")
FRONTED_VERBS = ("there is", "is", "we see")
COUNT_LINKS = (",", "are shown ,", "can be seen ,")

PLACES: dict[Place, tuple[str, ...]] = {
    (-1, -1): ("in the upper left corner", "in the top left", "at the top left"),
    (0, -1): ("at the top", "near the top", "in the upper middle"),
    (1, -1): ("in the upper right corner", "in the top right", "at the top right"),
    (-1, 0): ("on the left", "on the left side", "at the left edge"),
    (0, 0): ("in the middle", "in the center", "in the centre"),
    (1, 0): ("on the right", "on the right side", "at the right edge"),
    (-1, 1): ("in the lower left corner", "in the bottom left", "at the bottom left"),
    (0, 1): ("at the bottom", "near the bottom", "in the lower middle"),
    (1, 1): ("in the lower right corner", "in the bottom right", "at the bottom right"),
}
