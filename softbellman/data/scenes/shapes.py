"""What each kind of shape covers, in whole numbers, so that every machine paints the same bits.

A shape of radius r lies around its centre; dx grows to the right and dy downwards. Lengths below are thousandths of r.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

Kind = Literal["circle", "square", "triangle", "star", "cross", "ring", "diamond", "heart"]
KINDS: tuple[Kind, ...] = ("circle", "square", "triangle", "star", "cross", "ring", "diamond", "heart")

Array = Any  # of numpy


class Outline(NamedTuple):
    """Lengths of a kind in thousandths of its radius.

    Attributes:
        across, top, bottom: how far it reaches to both sides, upwards and downwards.
        reach: radius of a disc around the centre that holds it.
        room: radius of a disc around the centre that it covers; 0: nothing is put inside it.
        square_on: it reaches its sides, top and bottom at the height (width) of its centre, so that two such shapes that
            are pushed together along an axis touch there.
    """

    across: int
    top: int
    bottom: int
    reach: int
    room: int = 0
    square_on: bool = False


OUTLINES: dict[Kind, Outline] = {
    "circle": Outline(1000, 1000, 1000, 1000, room=1000, square_on=True),
    "square": Outline(880, 880, 880, 1245, room=880, square_on=True),
    "triangle": Outline(1000, 1000, 750, 1250),
    "star": Outline(1142, 1200, 971, 1200),
    "cross": Outline(1000, 1000, 1000, 1054, square_on=True),
    "ring": Outline(1000, 1000, 1000, 1000, square_on=True),
    "diamond": Outline(1150, 1150, 1150, 1150, room=813, square_on=True),
    "heart": Outline(1000, 820, 950, 1087),
}

_ARM = 330  # half the width of a cross's arms
_HOLE = 560  # radius of a ring's hole
_STAR = 1200  # from a star's centre to its points
# Unit vectors to the five points of a star, times 1000, and cos 72 degrees times 1000.
_POINTS = ((0, -1000), (951, -309), (588, 809), (-588, 809), (-951, -309))
_COS72 = 309
# A heart: two discs, a block between them, a wedge down to the tip.
_LOBE_X, _LOBE_Y, _LOBE = 480, -300, 520
_WEDGE_TOP, _WEDGE_HALF, _TIP = -40, 930, 950


def covers(kind: Kind, dx: Array, dy: Array, radius: int) -> Array:
    """Where a shape covers points.

    Args:
        kind: the shape.
        dx, dy: int64 arrays, points relative to its centre; up to 10,000 units.
        radius: in the same units.

    Returns:
        bool, of the broadcast shape of both.
    """
    across, down = 1000 * dx, 1000 * dy  # in thousandths, as the lengths are after `* radius`
    distance = dx * dx + dy * dy
    if kind == "circle":
        return distance <= radius * radius
    if kind == "ring":
        hole = _HOLE * radius // 1000
        return (distance <= radius * radius) & (distance >= hole * hole)
    if kind == "square":
        return np.maximum(np.abs(across), np.abs(down)) <= OUTLINES[kind].across * radius
    if kind == "diamond":
        return np.abs(across) + np.abs(down) <= OUTLINES[kind].across * radius
    if kind == "cross":
        wide, high = np.abs(across), np.abs(down)
        arm, end = _ARM * radius, OUTLINES[kind].across * radius
        return (np.minimum(wide, high) <= arm) & (np.maximum(wide, high) <= end)
    if kind == "triangle":
        outline = OUTLINES[kind]
        below_tip = down + outline.top * radius
        height = outline.top + outline.bottom
        return (down <= outline.bottom * radius) & (np.abs(across) * height <= outline.across * below_tip)
    if kind == "star":
        # The five lines through the points of a pentagram: a point of the star is on the inner side of four of them.
        limit = _COS72 * _STAR * radius
        within = sum(((x * across + y * down <= limit).astype(np.int8) for x, y in _POINTS), np.int8(0))
        return np.asarray(within >= 4)
    lobe = _LOBE * radius // 1000
    wide, lower = np.abs(dx) - _LOBE_X * radius // 1000, dy - _LOBE_Y * radius // 1000
    lobes = wide * wide + lower * lower <= lobe * lobe
    block = (np.abs(across) <= _LOBE_X * radius) & (down >= _LOBE_Y * radius) & (down <= 0)
    wedge = (down >= _WEDGE_TOP * radius) & (
        np.abs(across) * (_TIP - _WEDGE_TOP) <= _WEDGE_HALF * (_TIP * radius - down)
    )
    return lobes | block | wedge
