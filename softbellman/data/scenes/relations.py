"""What holds between the shapes of a scene. Captions say nothing that is not found here.

The definitions leave a margin: where the eye could doubt, neither a relation nor its opposite holds.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, NamedTuple

import numpy as np

from softbellman.data.scenes.scene import CANVAS, Scene, Shape
from softbellman.data.scenes.shapes import OUTLINES, Array, Kind, covers

Relation = Literal["inside", "between", "overlaps", "touches", "left", "above"]
Place = tuple[Literal[-1, 0, 1], Literal[-1, 0, 1]]

GAP = CANVAS // 40
"""Units between two shapes that are apart: more than a pixel at 48 pixels a side."""

_UNSURE = CANVAS // 24  # around the lines that divide the canvas into thirds
_LEAST, _MOST = 0.12, 0.75  # share of the smaller of two overlapping shapes that both cover
_STEP = CANVAS // 96


class Fact(NamedTuple):
    """A relation between shapes, by their position in the scene.

    `inside`, `left`, `above`: the subject is inside, left of, above the object. `overlaps`: the subject lies in front of a
    part of the object. `touches`: they meet without overlap. `between`: the subject is between object (on the left, or above)
    and other.
    """

    relation: Relation
    subject: int
    object: int
    other: int = -1


def apart(one: Shape, two: Shape) -> bool:
    """A gap parts the boxes, or the discs, around two shapes."""
    a, b = one.box, two.box
    if max(a.left - b.right, b.left - a.right, a.top - b.bottom, b.top - a.bottom) >= GAP:
        return True
    return _squared_distance(one, two) >= (one.reach + two.reach + GAP) ** 2


def is_left(one: Shape, two: Shape) -> bool:
    """`one` ends a gap before `two` begins, and lies more sideways than up or down from it."""
    return one.box.right + GAP <= two.box.left and 2 * abs(two.y - one.y) <= two.x - one.x


def is_above(one: Shape, two: Shape) -> bool:
    """`one` ends a gap above the top of `two`, and lies more upwards than sideways from it."""
    return one.box.bottom + GAP <= two.box.top and 2 * abs(two.x - one.x) <= two.y - one.y


def is_inside(one: Shape, two: Shape) -> bool:
    """The disc around `one` lies within a disc that `two` covers."""
    left = two.room - one.reach
    return left >= 0 and _squared_distance(one, two) <= left * left


def touches(one: Shape, two: Shape) -> bool:
    """Side by side or one on the other, at the same height (width), with no unit between them."""
    if not (OUTLINES[one.kind].square_on and OUTLINES[two.kind].square_on):
        return False
    a, b = one.box, two.box
    beside = one.y == two.y and (a.right == b.left or b.right == a.left)
    stacked = one.x == two.x and (a.bottom == b.top or b.bottom == a.top)
    return beside or stacked


def overlaps(one: Shape, two: Shape) -> bool:
    """Both cover a good part, and not nearly all, of the smaller of the two."""
    a, b = one.box, two.box
    box = (max(a.left, b.left), max(a.top, b.top), min(a.right, b.right), min(a.bottom, b.bottom))
    if box[0] >= box[2] or box[1] >= box[3] or is_inside(one, two) or is_inside(two, one):
        return False
    smaller = min(_area(one.kind, one.radius), _area(two.kind, two.radius))
    across = np.arange(box[0], box[2], _STEP, dtype=np.int64)
    down = np.arange(box[1], box[3], _STEP, dtype=np.int64)[:, None]
    both = _covered(one, across, down) & _covered(two, across, down)
    return bool(_LEAST * smaller <= both.sum() <= _MOST * smaller)


def facts_of(scene: Scene) -> list[Fact]:
    """Every fact of a scene, the striking ones first."""
    found: list[Fact] = []
    shapes = scene.shapes
    pairs = [(a, b) for a in range(len(shapes)) for b in range(len(shapes)) if a != b]
    for a, b in pairs:
        one, two = shapes[a], shapes[b]
        if is_left(one, two):
            found.append(Fact("left", a, b))
        elif is_above(one, two):
            found.append(Fact("above", a, b))
        elif a > b:  # painted later
            if is_inside(one, two):
                found.append(Fact("inside", a, b))
            elif touches(one, two):
                found.append(Fact("touches", a, b))
            elif overlaps(one, two):
                found.append(Fact("overlaps", a, b))
    plain = set(found)
    for relation in ("left", "above"):
        for a, b in pairs:
            for c in range(len(shapes)):
                if {Fact(relation, b, a), Fact(relation, a, c)} <= plain:
                    found.append(Fact("between", a, b, c))
    order = ("inside", "between", "overlaps", "touches", "left", "above")
    return sorted(found, key=lambda fact: order.index(fact.relation))


def place_of(shape: Shape) -> Place | None:
    """Column and row of the third of the canvas that holds a centre, -1, 0 or 1 each; None near a dividing line."""
    found = []
    for value in (shape.x, shape.y):
        if min(abs(3 * value - CANVAS), abs(3 * value - 2 * CANVAS)) < 3 * _UNSURE:
            return None
        found.append(3 * value // CANVAS - 1)
    return found[0], found[1]  # type: ignore[return-value]


def _covered(shape: Shape, across: Array, down: Array) -> Array:
    return covers(shape.kind, across - shape.x, down - shape.y, shape.radius)


@cache
def _area(kind: Kind, radius: int) -> int:
    """Points of a grid that a shape covers."""
    most = 2 * radius  # no kind reaches further
    along = np.arange(-most, most, _STEP, dtype=np.int64)
    return int(covers(kind, along, along[:, None], radius).sum())


def _squared_distance(one: Shape, two: Shape) -> int:
    return (one.x - two.x) ** 2 + (one.y - two.y) ** 2
