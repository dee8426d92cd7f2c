"""Captions read back, and judged: true, false, vague, ungrammatical; and as a reader of pixels judges them."""

from __future__ import annotations

import random

import pytest
from scene_reader import is_true, look

from softbellman.data.scenes import (
    Scene,
    Shape,
    Truth,
    UnreadableCaption,
    judge_caption,
    judge_captions,
    read_caption,
    render,
)
from softbellman.data.scenes.generator import generate_split
from softbellman.data.scenes.reader import Counted, Named, Placed, Related


def shape(kind: str, colour: str, x: int, y: int, *, size: str = "medium", radius: int = 500) -> Shape:
    return Shape(kind, colour, size, x, y, radius, (0, 0, 0))  # type: ignore[arg-type]


# A red circle at the left, a small blue star right of it, and a green square below both.
ROW = Scene(
    (
        shape("circle", "red", 900, 1000),
        shape("star", "blue", 3000, 1100, size="small", radius=480),
        shape("square", "green", 1900, 3700, size="large", radius=1000),
    ),
    (255, 255, 255),
)
# A black dot in a yellow circle, and a pink heart partly in front of the circle.
NESTED = Scene(
    (
        shape("circle", "yellow", 1600, 1600, size="large", radius=1200),
        shape("circle", "black", 1500, 1500, size="small", radius=300),
        shape("heart", "pink", 2700, 1900, radius=700),
    ),
    (255, 255, 255),
)
# A square that touches a cross.
MET = Scene((shape("square", "red", 1000, 2000), shape("cross", "blue", 1940, 2000)), (255, 255, 255))
# Two small squares that share an edge.
SMALL = Scene(
    (
        shape("square", "red", 3156, 689, size="small", radius=478),
        shape("square", "purple", 4000, 689, size="small", radius=482),
    ),
    (255, 255, 255),
)


@pytest.mark.parametrize(
    ("scene", "caption", "true"),
    [
        (SMALL, "a purple box in contact with a red square", True),
        (SMALL, "a red box touching a purple square", True),
        (SMALL, "a red box overlapping a purple square", False),
        (ROW, "a red circle to the left of a blue star", True),
        (ROW, "a red disc is left of a small blue star", True),
        (ROW, "a blue star to the left of a red circle", False),
        (ROW, "a red circle to the right of a blue star", False),
        (ROW, "a red circle with a blue star to its left", False),
        (ROW, "a blue star with a red circle to its left", True),
        (ROW, "a red circle above a blue star", False),
        (ROW, "above a green box is a blue star", True),
        (ROW, "under a blue star we see a large green square", True),
        (ROW, "a red circle and a blue star side by side", True),
        (ROW, "a blue star and a red circle side by side", True),
        (ROW, "a blue star and a red circle one above the other", False),
        (ROW, "a red circle above a green square , and a blue star", True),
        (ROW, "a red circle above a green square , and a blue heart", False),
        (ROW, "a red ring to the left of a blue star", False),
        (ROW, "a pink circle to the left of a blue star", False),
        (ROW, "a large red circle to the left of a blue star", False),
        (ROW, "a tiny blue star right of a red circle", True),
        (ROW, "three shapes , a red circle , a blue star and a green square", True),
        (ROW, "two shapes are shown , a red circle and a blue star", False),
        (ROW, "in the top left is a red circle , and a blue star and a green square", True),
        (ROW, "in the top right is a red circle , and a blue star and a green square", False),
        (ROW, "a red circle , a blue star and a green square at the bottom", True),
        (ROW, "a red circle , a blue star at the bottom and a green square", False),
        (ROW, "a red circle between a blue star and a green square", False),
        (NESTED, "a black circle inside a yellow circle", True),
        (NESTED, "there is a black dot in a yellow disc", True),
        (NESTED, "a yellow circle inside a black circle", False),
        (NESTED, "a yellow circle around a black circle", True),
        (NESTED, "a circle and a circle one inside the other", True),
        (NESTED, "a pink heart inside a yellow circle", False),
        (NESTED, "a pink heart in front of a yellow circle", True),
        (NESTED, "a pink heart behind a yellow circle", False),
        (NESTED, "a yellow circle partly hidden by a pink heart", True),
        (NESTED, "a black circle in front of a yellow circle", False),
        (MET, "a red square touching a blue cross", True),
        (MET, "a blue plus sign and a red box in contact", True),
        (MET, "a red square in front of a blue cross", False),
        (MET, "a red square to the left of a blue cross", True),
        (ROW, "a red circle touching a blue star", False),
    ],
)
def test_true_and_false_captions(scene: Scene, caption: str, true: bool) -> None:
    assert judge_caption(caption, scene) == ("true" if true else "false")


@pytest.mark.parametrize(
    ("scene", "caption", "true"),
    [
        (ROW, "a circle and a star", True),  # colours left out may be any
        (ROW, "a circle left of a star", True),
        (ROW, "a square above a circle", False),
        (NESTED, "a circle inside a circle", True),  # the two circles, one for each name
        (ROW, "a circle and a circle", False),  # there is but one
        (NESTED, "a heart in front of a circle", True),
        (NESTED, "a small circle inside a circle", True),
        (NESTED, "a large circle inside a circle", False),
        (ROW, "a red circle", True),  # says little, and that is true
        (ROW, "there is a star", True),
    ],
)
def test_vague_captions_are_true_where_some_shapes_fit(scene: Scene, caption: str, true: bool) -> None:
    assert judge_caption(caption, scene) == ("true" if true else "false")


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "a",
        "circle",
        "red circle above blue star",
        "a red circle above",
        "above a blue star",
        "to the left of a black circle , and a black cross",
        "a red circle above a blue star above a green square",
        "a red circle a blue star",
        "a red circle , and",
        "a red circle is a blue star",
        "a red red circle above a blue star",
        "a red circle above a blue star .",
        "there is there is a red circle",
        "five shapes , a red circle and a blue star",
        "a red circle in the top",
        "a red circles above a blue star",
        "a circle red above a blue star",
        "a red circle , a blue star and a green square side by side",
        "# and #",
        "we see # above #",
    ],
)
def test_what_is_no_caption_is_not_true(caption: str) -> None:
    for scene in (ROW, NESTED, MET):
        assert judge_caption(caption, scene) == "unreadable"
    with pytest.raises(UnreadableCaption, match="cannot be read"):
        read_caption(caption)


def test_what_a_caption_says() -> None:
    found = read_caption("three shapes are shown , a small red dot at the top , a star and an orange box")
    assert found.shapes == (Named("circle", "red", "small"), Named("star"), Named("square", "orange"))
    assert found.claims == (Counted(3), Placed(0, (0, -1))) and not found.relates
    found = read_caption("a dot and a star with a box between them , and a hoop in the middle")
    assert found.claims == (Placed(3, (0, 0)), Related("between", 2, 0, 1)) and found.relates
    found = read_caption("a dot , a star and a box in a column from top to bottom")
    assert found.claims == (Related("above", 0, 1), Related("above", 1, 2))
    found = read_caption("near the top there is a dot , and a star on the left and a box")
    assert found.claims == (Placed(0, (0, -1)), Placed(1, (-1, 0)))


@pytest.mark.parametrize("difficulty", [1.0, 3.0, 5.0])
def test_every_caption_of_a_scene_is_read_and_true_of_it(difficulty: float) -> None:
    split = generate_split("train", count=60, difficulty=difficulty)
    for captions, scene in zip(split.captions, split.scenes, strict=True):
        assert [judge_caption(caption, scene) for caption in captions] == ["true"] * 5
    shares = judge_captions([captions[0] for captions in split.captions], split.scenes[1:] + split.scenes[:1])
    assert shares.readable == 1.0 and shares.true < 0.1


def test_it_judges_as_the_pixels_do() -> None:
    """Captions of the same and of other scenes, and with a relation turned about, against the reader that looks at pixels."""
    split = generate_split("test", count=80)
    draws = random.Random(1)
    turned = [("left of", "right of"), ("above", "below"), ("inside", "around"), ("in front of", "behind"),
              ("over", "under"), ("left", "right"), ("touching", "in front of"), ("red", "blue")]  # fmt: skip
    verdicts: list[str] = []
    differing: list[str] = []
    for number, scene in enumerate(split.scenes):
        shapes, picture = look(scene), render(scene, side=96)
        captions = [*split.captions[number], *split.captions[draws.randrange(80)]]
        for one, other in turned:
            captions += [text.replace(one, other) for text in split.captions[number] if one in text]
        for caption in captions:
            verdict = judge_caption(caption, scene)
            verdicts.append(verdict)
            try:
                seen = "true" if is_true(caption, shapes, picture) else "false"
            except ValueError:
                seen = "unreadable"
            if verdict != seen:
                differing.append(f"{verdict}, not {seen}: {caption}")
    assert differing == []
    assert min(map(verdicts.count, ("true", "false", "unreadable"))) > 20 and len(verdicts) > 1_000


def test_shares_are_counted_over_all_captions() -> None:
    captions = [
        "a red circle above a green square",
        "a red circle and a star",
        "a star above a circle",
        "circle",
    ]
    assert judge_captions(captions, [ROW] * 4) == Truth(true=0.5, readable=0.75, relating=0.25)
    assert judge_captions([], []) == Truth(0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="there are 1 captions, but 2 scenes"):
        judge_captions(["a star"], [ROW, MET])
