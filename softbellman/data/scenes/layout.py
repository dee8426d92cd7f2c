"""Draws a scene: shapes around one relation, then further ones where there is room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from softbellman.data.builtin.draws import Draws
from softbellman.data.scenes.difficulty import SceneDifficulty
from softbellman.data.scenes.relations import apart, is_above, is_inside, is_left, overlaps, touches
from softbellman.data.scenes.scene import CANVAS, Colour, Rgb, Scene, Shape, Size
from softbellman.data.scenes.shapes import KINDS, OUTLINES, Kind

COLOURS: dict[Colour, Rgb] = {
    "red": (214, 40, 40),
    "blue": (38, 84, 196),
    "green": (44, 150, 66),
    "yellow": (240, 208, 40),
    "purple": (130, 60, 170),
    "orange": (240, 130, 30),
    "black": (30, 30, 34),
    "pink": (244, 150, 190),
    "brown": (122, 78, 44),
}
BACKGROUND: Rgb = (236, 236, 232)
MOST_SHAPES = 4

# Least and greatest radius of each size, in units; between the sizes lies a gap. Of shapes that hold another, and of those
# within, there are no others.
RADII: dict[Size, tuple[int, int]] = {"small": (460, 540), "medium": (660, 760), "large": (940, 1100)}
_HOLDER, _HELD = (1150, 1320), (430, 500)
_MARGIN = 60

_LAYOUTS = ("beside", "stacked", "inside", "overlapping", "touching", "row", "column")
_WEIGHTS = (0.24, 0.46, 0.62, 0.76, 0.84, 0.92, 1.0)  # running sums
_TRIES = 40

_ARRANGED: dict[str, Callable[[Shape, Shape], bool]] = {
    "beside": is_left,
    "stacked": is_above,
    "inside": lambda first, second: is_inside(second, first),
    "overlapping": lambda first, second: overlaps(second, first),
}


class _Kit:
    """Draws shapes of which no two are alike."""

    def __init__(self, draws: Draws, settings: SceneDifficulty) -> None:
        self.draws, self.settings = draws, settings
        self._taken: set[tuple[Kind, Colour]] = set()

    def shape(
        self,
        *,
        sizes: tuple[Size, ...] = ("small", "medium", "large"),
        holder: bool = False,
        held: bool = False,
        square_on: bool = False,
        against: Shape | None = None,
    ) -> Shape:
        """A new shape in the middle of the canvas, to be moved; of another colour than the one it is seen against."""
        draws, settings = self.draws, self.settings
        kinds = [
            kind
            for kind in KINDS[: settings.kinds]
            if (OUTLINES[kind].room or not holder) and (OUTLINES[kind].square_on or not square_on)
        ]
        while True:
            kind = draws.pick(kinds)
            colour = draws.pick(tuple(COLOURS)[: settings.colours])
            if (kind, colour) not in self._taken and (against is None or against.colour != colour):
                break
        self._taken.add((kind, colour))
        size: Size = "large" if holder else "small" if held else draws.pick(sizes)
        least, greatest = _HOLDER if holder else _HELD if held else RADII[size]
        radius = least + draws.below(greatest - least + 1)
        paint = self.paint(COLOURS[colour])
        return Shape(kind, colour, size, CANVAS // 2, CANVAS // 2, radius, paint)

    def paint(self, colour: Rgb) -> Rgb:
        """A colour near the given one."""
        jitter = self.settings.jitter
        red, green, blue = (
            min(255, max(0, value + self.draws.below(2 * jitter + 1) - jitter)) for value in colour
        )
        return red, green, blue

    def anywhere(self, shape: Shape) -> Shape:
        """The shape at a place where it lies within the canvas."""
        return self.near(shape, CANVAS // 2, CANVAS // 2, CANVAS)

    def near(self, shape: Shape, x: int, y: int, spread: int) -> Shape:
        """The shape at most `spread` from a point in either direction, moved into the canvas where it would leave it."""
        box = shape.box
        moved = []
        for centre, before, behind, now in (
            (x, box.left, box.right, shape.x),
            (y, box.top, box.bottom, shape.y),
        ):
            low = max(centre - spread, now - before + _MARGIN)
            high = min(centre + spread, CANVAS - (behind - now) - _MARGIN)
            moved.append(low + self.draws.below(high - low + 1) if high > low else low)
        return replace(shape, x=moved[0], y=moved[1])


def draw_scene(draws: Draws, settings: SceneDifficulty) -> Scene:
    """A scene whose first shapes stand in one striking relation and whose others keep apart."""
    while True:
        kit = _Kit(draws, settings)
        layout = draws.weighted(_LAYOUTS, _WEIGHTS)
        shapes = _first_shapes(kit, layout)
        if shapes is None:
            continue
        while len(shapes) < MOST_SHAPES and draws.chance(settings.further):
            further = _further(kit, shapes)
            if further is None:
                break
            shapes.append(further)
        return Scene(tuple(shapes), kit.paint(BACKGROUND))


def _first_shapes(kit: _Kit, layout: str) -> list[Shape] | None:
    """Two or three shapes in the relation of the layout; None when none was found."""
    if layout in ("row", "column"):
        return _three(kit, upright=layout == "column")
    if layout == "inside":
        first = kit.shape(holder=True)
        second = kit.shape(held=True, against=first)
    elif layout == "touching":
        first = kit.shape(square_on=True)
        second = kit.shape(square_on=True, against=first)
    elif layout == "overlapping":
        first = kit.shape(sizes=("medium", "large"))
        second = kit.shape(sizes=("medium", "large"), against=first)
    else:
        first, second = kit.shape(), kit.shape()
    for _ in range(_TRIES):
        first = kit.anywhere(first)
        if layout == "touching":
            moved = _pushed(kit, first, second)
            if moved is not None and touches(moved, first):
                return [first, moved]
            continue
        spread = first.room if layout == "inside" else first.reach if layout == "overlapping" else CANVAS
        second = kit.near(second, first.x, first.y, spread)
        if _ARRANGED[layout](first, second):
            return [first, second]
    return None


def _pushed(kit: _Kit, first: Shape, second: Shape) -> Shape | None:
    """The second shape against the right side or the bottom of the first; None where it leaves the canvas."""
    box, own = first.box, second.box
    if kit.draws.chance(0.5):
        x, y = box.right + (second.x - own.left), first.y
    else:
        x, y = first.x, box.bottom + (second.y - own.top)
    moved = replace(second, x=x, y=y)
    box = moved.box
    within = min(box) >= _MARGIN and max(box) <= CANVAS - _MARGIN
    return moved if within else None


def _three(kit: _Kit, *, upright: bool) -> list[Shape] | None:
    """Three shapes in a row, or in a column."""
    shapes = [kit.shape(sizes=("small", "medium")) for _ in range(3)]
    follows = is_above if upright else is_left
    for _ in range(_TRIES):
        common = CANVAS // 4 + kit.draws.below(CANVAS // 2)
        placed = []
        for number, shape in enumerate(shapes):
            along = (2 * number + 1) * CANVAS // 6
            x, y = (common, along) if upright else (along, common)
            placed.append(kit.near(shape, x, y, CANVAS // 12))
        if follows(placed[0], placed[1]) and follows(placed[1], placed[2]):
            return placed
    return None


def _further(kit: _Kit, shapes: list[Shape]) -> Shape | None:
    """One more shape, apart from all there are; None when no room was found."""
    shape = kit.shape(sizes=("small", "medium"))
    for _ in range(_TRIES):
        shape = kit.anywhere(shape)
        if all(apart(shape, other) for other in shapes):
            return shape
    return None
