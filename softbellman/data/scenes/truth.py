"""Whether a caption is true of its scene.

A caption is true where distinct shapes of the scene can be found for all that it names, so that everything it claims of
them holds. A colour or a size that it leaves out may be any. What cannot be read is not true.

Relations are judged more generously than captions are made (`relations`), as the eye would: where captions keep a margin
because one could doubt, both readings count. `docs/data.md` has the table. Masks are on a grid of `GRID` x `GRID` points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import permutations
from typing import Any, Literal, NamedTuple

import numpy as np

from softbellman.data.scenes.reader import (
    Claim,
    Counted,
    Named,
    Placed,
    Related,
    Statement,
    UnreadableCaption,
    read_caption,
)
from softbellman.data.scenes.relations import Place, Relation, touches
from softbellman.data.scenes.scene import CANVAS, Scene, Shape
from softbellman.data.scenes.shapes import covers

GRID = 96
"""Points a side on which shapes are compared."""

LEAST_OVERLAP, MOST_OVERLAP = 0.08, 0.8
"""Share of the smaller of two shapes that both cover where one is in front of the other."""

NEAR, MOST_TOUCHING = 2, 0.02
"""Grid points between two shapes that touch, and the share of the smaller that both may cover."""

Mask = Any  # bool, [GRID, GRID]
Verdict = Literal["true", "false", "unreadable"]


class Truth(NamedTuple):
    """Shares of captions, 0 to 1.

    Attributes:
        true: true of their scene.
        readable: of the grammar, true or not.
        relating: true, and telling a relation between shapes.
    """

    true: float
    readable: float
    relating: float


def judge_caption(caption: str, scene: Scene) -> Verdict:
    """Whether a caption is true of a scene.

    Args:
        caption: see `read_caption`.
        scene: what it should tell.
    """
    try:
        statement = read_caption(caption)
    except UnreadableCaption:
        return "unreadable"
    return "true" if holds(statement, scene) else "false"


def judge_captions(captions: Sequence[str], scenes: Sequence[Scene]) -> Truth:
    """The shares of captions that are true, that can be read, that are true and tell a relation.

    Args:
        captions: N of them.
        scenes: the N scenes.

    Raises:
        ValueError: another number of captions than of scenes.
    """
    if len(captions) != len(scenes):
        raise ValueError(f"there are {len(captions)} captions, but {len(scenes)} scenes")
    readable = true = relating = 0
    for caption, scene in zip(captions, scenes, strict=True):
        try:
            statement = read_caption(caption)
        except UnreadableCaption:
            continue
        readable += 1
        if holds(statement, scene):
            true += 1
            relating += statement.relates
    count = max(len(captions), 1)
    return Truth(true / count, readable / count, relating / count)


def holds(statement: Statement, scene: Scene) -> bool:
    """Whether distinct shapes of the scene fit all names and claims of a statement."""
    view = _View(scene)
    candidates = permutations(range(len(scene.shapes)), len(statement.shapes))
    return any(
        all(_fits(name, scene.shapes[k]) for name, k in zip(statement.shapes, chosen, strict=True))
        and all(view.claim_holds(claim, chosen) for claim in statement.claims)
        for chosen in candidates
    )


def _fits(name: Named, shape: Shape) -> bool:
    return name.kind == shape.kind and name.colour in (None, shape.colour) and name.size in (None, shape.size)


class _View:
    """A scene as it is looked at: shapes by number, with what each covers."""

    def __init__(self, scene: Scene) -> None:
        self.shapes = scene.shapes
        self._relations: dict[Relation, Callable[[int, int], bool]] = {
            "left": self._left,
            "above": self._above,
            "inside": self._inside,
            "overlaps": self._in_front,
            "touches": self._touches,
        }

    def claim_holds(self, claim: Claim, chosen: Sequence[int]) -> bool:
        """Whether a claim is true of the shapes chosen for the names."""
        if isinstance(claim, Counted):
            return claim.count == len(self.shapes)
        if isinstance(claim, Placed):
            return _ninth(self.shapes[chosen[claim.shape]]) == claim.place
        return self._relation_holds(claim, chosen)

    def _relation_holds(self, claim: Related, chosen: Sequence[int]) -> bool:
        one, two = chosen[claim.subject], chosen[claim.object]
        if claim.relation == "between":
            three = chosen[claim.other]
            return any(
                relation(first, one) and relation(one, last)
                for relation in (self._left, self._above)
                for first, last in ((two, three), (three, two))
            )
        relation = self._relations[claim.relation]
        return relation(one, two) or (claim.either and relation(two, one))

    def _left(self, one: int, two: int) -> bool:
        """One ends before the other begins, and lies more sideways than up or down from it."""
        a, b = self.shapes[one], self.shapes[two]
        return a.box.right <= b.box.left and abs(b.y - a.y) < b.x - a.x

    def _above(self, one: int, two: int) -> bool:
        """One ends above the top of the other, and lies more upwards than sideways from it."""
        a, b = self.shapes[one], self.shapes[two]
        return a.box.bottom <= b.box.top and abs(b.x - a.x) < b.y - a.y

    def _inside(self, one: int, two: int) -> bool:
        """The other covers all that one does."""
        return not bool((self._masks[one] & ~self._masks[two]).any())

    def _in_front(self, one: int, two: int) -> bool:
        """One is painted later, and both cover a good part, not nearly all, of the smaller."""
        return one > two and LEAST_OVERLAP < self._overlap(one, two) < MOST_OVERLAP

    def _touches(self, one: int, two: int) -> bool:
        """They meet, and hardly overlap. Small ones that share an edge have a good part of their grid points in common."""
        if touches(self.shapes[one], self.shapes[two]):
            return True
        near = _widened(self._masks[one]) & self._masks[two]
        return bool(near.any()) and self._overlap(one, two) <= MOST_TOUCHING

    def _overlap(self, one: int, two: int) -> float:
        a, b = self._masks[one], self._masks[two]
        return float((a & b).sum() / min(a.sum(), b.sum()))

    @cached_property
    def _masks(self) -> list[Mask]:
        step = CANVAS // GRID
        along = np.arange(step // 2, CANVAS, step, dtype=np.int64)
        return [covers(s.kind, along - s.x, along[:, None] - s.y, s.radius) for s in self.shapes]


def _widened(mask: Mask) -> Mask:
    """The mask with all points at most `NEAR` away from it in a row or a column."""
    wide = np.pad(mask, NEAR)
    near = np.zeros_like(wide)
    for step in range(-NEAR, NEAR + 1):
        near |= np.roll(wide, step, axis=0) | np.roll(wide, step, axis=1)
    return near[NEAR:-NEAR, NEAR:-NEAR]


def _ninth(shape: Shape) -> Place:
    """Column and row of the ninth of the canvas that holds the centre."""
    column, row = (min(2, 3 * value // CANVAS) - 1 for value in (shape.x, shape.y))
    return column, row  # type: ignore[return-value]
