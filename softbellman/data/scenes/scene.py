"""The record of a scene: shapes on a canvas, in whole numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from softbellman.data.scenes.shapes import OUTLINES, Kind

CANVAS = 4608
"""Units a side of the canvas, the origin at the upper left. Divides into 8 samples a pixel at 32, 48, 64 and 96 pixels."""

Size = Literal["small", "medium", "large"]
Colour = Literal["red", "blue", "green", "yellow", "purple", "orange", "black", "pink", "brown"]
Rgb = tuple[int, int, int]


class Box(NamedTuple):
    """The smallest upright rectangle around a shape, in units."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Shape:
    """One shape.

    Attributes:
        kind, colour, size: what captions call it.
        x, y: its centre, units from the left and from the top.
        radius: units; what it covers follows from kind and radius, see `shapes.covers`.
        paint: its colour as painted.
    """

    kind: Kind
    colour: Colour
    size: Size
    x: int
    y: int
    radius: int
    paint: Rgb

    @cached_property
    def box(self) -> Box:
        outline, radius = OUTLINES[self.kind], self.radius
        across = outline.across * radius // 1000
        return Box(
            self.x - across,
            self.y - outline.top * radius // 1000,
            self.x + across,
            self.y + outline.bottom * radius // 1000,
        )

    @property
    def reach(self) -> int:
        """Radius of a disc around the centre that holds the shape."""
        return -(-OUTLINES[self.kind].reach * self.radius // 1000)

    @property
    def room(self) -> int:
        """Radius of a disc around the centre that the shape covers; 0 for kinds that hold nothing."""
        return OUTLINES[self.kind].room * self.radius // 1000


@dataclass(frozen=True)
class Scene:
    """Two to four shapes, no two of the same kind and colour, painted in their order.

    Attributes:
        shapes: the later ones cover the earlier ones.
        background: colour of the canvas.
    """

    shapes: tuple[Shape, ...]
    background: Rgb
