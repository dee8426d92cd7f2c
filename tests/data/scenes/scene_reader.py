"""Reads captions of scenes back and checks them against pixels: a grammar and a geometry of its own.

Nothing here uses the package's relations or its words: each shape is painted alone, and what a caption claims is looked up in
the painted pixels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from softbellman.data.scenes import CANVAS, Scene, render

SIDE = 96
NOUNS = {
    "circle": "circle", "disc": "circle", "dot": "circle", "square": "square", "box": "square", "triangle": "triangle",
    "star": "star", "cross": "cross", "plus sign": "cross", "ring": "ring", "hoop": "ring", "diamond": "diamond",
    "rhombus": "diamond", "heart": "heart",
}  # fmt: skip
PAINTS = {
    "red": (200, 50, 40), "blue": (40, 80, 200), "green": (50, 150, 70), "yellow": (240, 210, 50),
    "purple": (130, 60, 170), "orange": (240, 130, 30), "black": (30, 30, 30), "pink": (245, 150, 190),
    "brown": (120, 80, 45),
}  # fmt: skip
SMALL, LARGE = ("small", "little", "tiny"), ("large", "big")
PLACES = {
    "in the upper left corner|in the top left|at the top left": (0, 0),
    "at the top|near the top|in the upper middle": (1, 0),
    "in the upper right corner|in the top right|at the top right": (2, 0),
    "on the left|on the left side|at the left edge": (0, 1),
    "in the middle|in the center|in the centre": (1, 1),
    "on the right|on the right side|at the right edge": (2, 1),
    "in the lower left corner|in the bottom left|at the bottom left": (0, 2),
    "at the bottom|near the bottom|in the lower middle": (1, 2),
    "in the lower right corner|in the bottom right|at the bottom right": (2, 2),
}
# Words between two shapes: what they say of the first, and of which two.
BETWEEN_TWO = {
    "to the left of|left of|on the left side of": ("left", False),
    "to the right of|right of|on the right side of": ("left", True),
    "above|over|higher up than": ("above", False),
    "below|under|beneath": ("above", True),
    "inside|in|within": ("inside", False),
    "around|surrounding": ("inside", True),
    "in front of|overlapping|partly covering": ("front", False),
    "behind|partly hidden by": ("front", True),
    "touching|in contact with": ("touch", False),
}
AFTER_WITH = {
    "to its left|on its left": "left",
    "above it|over it": "above",
    "inside it|in it": "inside",
    "in front of it|partly covering it": "front",
    "touching it": "touch",
}
TOGETHER = {
    "side by side|next to each other": "left",
    "one above the other|one below the other": "above",
    "one inside the other": "inside",
    "overlapping each other|one partly behind the other": "front",
    "touching each other|in contact": "touch",
}
_PHRASE = re.compile(
    rf"\ban? (?:({'|'.join(SMALL + LARGE)}) )?(?:({'|'.join(PAINTS)}) )?({'|'.join(NOUNS)})\b"
)


@dataclass
class Drawn:
    """One shape as its pixels show it."""

    kind: str
    colour: str
    radius: float  # pixels
    mask: np.ndarray
    paint: tuple[int, int, int]
    centre: tuple[float, float]  # pixels from the left and from the top

    @property
    def rows(self) -> np.ndarray:
        return np.flatnonzero(self.mask.any(axis=1))

    @property
    def columns(self) -> np.ndarray:
        return np.flatnonzero(self.mask.any(axis=0))


def look(scene: Scene) -> list[Drawn]:
    """Every shape, painted alone."""
    found = []
    for shape in scene.shapes:
        alone = render(Scene((replace(shape, paint=(0, 0, 0)),), (255, 255, 255)), side=SIDE)
        mask = alone[:, :, 0] < 128
        nearest = min(
            PAINTS, key=lambda name: sum((a - b) ** 2 for a, b in zip(PAINTS[name], shape.paint, strict=True))
        )
        x, y, radius = (value * SIDE / CANVAS for value in (shape.x, shape.y, shape.radius))
        found.append(Drawn(shape.kind, nearest, radius, mask, shape.paint, (x, y)))
    return found


def holds(relation: str, one: Drawn, two: Drawn, picture: np.ndarray) -> bool:
    """What the relation means in pixels."""
    both = (one.mask & two.mask).sum()
    across = two.centre[0] - one.centre[0]
    down = two.centre[1] - one.centre[1]
    if relation == "left":
        return bool(one.columns[-1] < two.columns[0]) and abs(down) < across
    if relation == "above":
        return bool(one.rows[-1] < two.rows[0]) and abs(across) < down
    if relation == "inside":
        return bool(both == one.mask.sum())
    if relation == "front":
        partly = 0.08 * min(one.mask.sum(), two.mask.sum()) < both < 0.8 * min(one.mask.sum(), two.mask.sum())
        seen = picture[one.mask & two.mask].astype(int)
        return bool(partly) and np.abs(np.median(seen, axis=0) - one.paint).max() < 3
    assert relation == "touch"
    wide = np.pad(one.mask, 2)
    near = np.zeros_like(wide)
    for step in (-2, -1, 0, 1, 2):
        near |= np.roll(wide, step, axis=0) | np.roll(wide, step, axis=1)
    met = (near[2:-2, 2:-2] & two.mask).any()
    return bool(met) and both <= 0.02 * min(one.mask.sum(), two.mask.sum())


def place(drawn: Drawn) -> tuple[int, int]:
    return int(drawn.centre[0] * 3 // SIDE), int(drawn.centre[1] * 3 // SIDE)


Claim = tuple[str, tuple[int, ...]]


def parse(caption: str) -> tuple[list[tuple[str | None, str | None, str]], list[Claim]]:
    """The shapes a caption names (size, colour, kind) and what it claims of them; ValueError where it cannot be read."""
    names = [(m[1], m[2], NOUNS[m[3]]) for m in _PHRASE.finditer(caption)]
    counter = iter(range(len(names)))
    text = _PHRASE.sub(lambda _: f"#{next(counter)}", caption)
    claims: list[Claim] = []
    verbs = "there is|is|we see"

    def located(part: str) -> str:
        """Takes the places out of `#1 in the top left`."""
        for words, where in PLACES.items():
            for word in sorted(words.split("|"), key=len, reverse=True):
                for found in re.findall(rf"#(\d) {word}(?= ,| and|$)", part):
                    claims.append((f"place {where[0]} {where[1]}", (int(found),)))
                    part = re.sub(rf"#{found} {word}(?= ,| and|$)", f"#{found}", part)
        return part

    if found := re.fullmatch(r"(two|three|four) shapes (?:,|are shown ,|can be seen ,) (.*)", text):
        claims.append((f"count {['two', 'three', 'four'].index(found[1]) + 2}", ()))
        text = found[2]
    for words, where in PLACES.items():
        if found := re.fullmatch(rf"(?:{words}) (?:{verbs}) #(\d) , and (.*)", text):
            claims.append((f"place {where[0]} {where[1]}", (int(found[1]),)))
            text = f"#{found[1]} and {found[2]}" if " and " not in found[2] else f"#{found[1]} , {found[2]}"
            break
    text = re.sub(r"^(there is|we see|this is|a picture of|an image of|the picture shows) (?=#)", "", text)
    text = located(text)
    if found := re.fullmatch(r"(.*?) , and ((?:#\d(?: , | and )?)+)", text):  # further shapes
        text = found[1]
    if re.fullmatch(r"#\d(?: , #\d)*(?: and #\d)?", text):
        return names, claims
    if found := re.fullmatch(
        r"#(\d) , #(\d) and #(\d) (?:in a (?:row|column) )?from (left|top) to (?:right|bottom)", text
    ):
        order = [int(found[k]) for k in (1, 2, 3)]
        relation = "left" if found[4] == "left" else "above"
        return names, [*claims, (relation, (order[0], order[1])), (relation, (order[1], order[2]))]
    for pattern, order in (
        (r"#(\d)(?: is)? (?:between|in between) #(\d) and #(\d)", (1, 2, 3)),
        (rf"(?:between|in between) #(\d) and #(\d) (?:{verbs}) #(\d)", (3, 1, 2)),
        (r"#(\d) and #(\d) with #(\d) between them", (3, 1, 2)),
    ):
        if found := re.fullmatch(pattern, text):
            return names, [*claims, ("between", tuple(int(found[k]) for k in order))]
    for words, (relation, turned) in BETWEEN_TWO.items():
        for pattern, order in (
            (rf"#(\d)(?: is)? (?:{words}) #(\d)", (1, 2)),
            (rf"(?:{words}) #(\d) (?:{verbs}) #(\d)", (2, 1)),
        ):
            if found := re.fullmatch(pattern, text):
                pair = [int(found[k]) for k in order]
                return names, [*claims, (relation, tuple(reversed(pair) if turned else pair))]
    for words, relation in AFTER_WITH.items():
        if found := re.fullmatch(rf"#(\d) with #(\d) (?:{words})", text):
            return names, [*claims, (relation, (int(found[2]), int(found[1])))]
    for words, relation in TOGETHER.items():
        if found := re.fullmatch(rf"#(\d) and #(\d) (?:{words})", text):
            return names, [*claims, (f"either {relation}", (int(found[1]), int(found[2])))]
    raise ValueError(f"cannot be read: {caption!r} -> {text!r}")


def is_true(caption: str, shapes: list[Drawn], picture: np.ndarray) -> bool:
    """Some choice of distinct shapes fits every name and every claim of the caption."""
    names, claims = parse(caption)
    return any(
        all(fits(name, shapes[k]) for name, k in zip(names, chosen, strict=True))
        and all(claim_holds(claim, [shapes[k] for k in chosen], len(shapes), picture) for claim in claims)
        for chosen in permutations(range(len(shapes)), len(names))
    )


def fits(name: tuple[str | None, str | None, str], drawn: Drawn) -> bool:
    size, colour, kind = name
    if (size in SMALL and drawn.radius > SIDE / 8) or (size in LARGE and drawn.radius < SIDE / 5.5):
        return False
    return kind == drawn.kind and colour in (None, drawn.colour)


def claim_holds(claim: Claim, named: list[Drawn], count: int, picture: np.ndarray) -> bool:
    what, numbers = claim
    kind, *rest = what.split()
    if kind == "count":
        return count == int(rest[0])
    if kind == "place":
        return place(named[numbers[0]]) == (int(rest[0]), int(rest[1]))
    one, two = named[numbers[0]], named[numbers[1]]
    if kind == "either":
        return holds(rest[0], one, two, picture) or holds(rest[0], two, one, picture)
    if kind == "between":
        three = named[numbers[2]]
        return any(
            holds(relation, first, one, picture) and holds(relation, one, last, picture)
            for relation in ("left", "above")
            for first, last in ((two, three), (three, two))
        )
    return holds(kind, one, two, picture)
