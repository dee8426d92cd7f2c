"""The picture: nothing overlaps or leaves the page, words are wrapped, missing photographs are named."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from softbellman.data import DataError, MissingFileError
from softbellman.experiments.captioned import Captioned, Said
from softbellman.report.sheet import Font, compose, draw_sheet, shorten, wrap

LONG = "a rather long reference caption of very many words that needs several lines , all of them , however narrow ."


def entries(count=3, *, bleu=None, systems=("MLE", "ERAC")):
    return [
        Captioned(
            f"photo_{number}.png",
            (LONG if number % 2 else "a dog", "costs $5 or $6", "never shown"),
            tuple(Said(system, LONG * (number + 1) if number == 1 else "", bleu) for system in systems),
        )
        for number in range(count)
    ]


@pytest.fixture
def photos(tmp_path):
    image = pytest.importorskip("PIL.Image")
    made = []
    for number, shape in enumerate([(30, 90, 3), (90, 30, 3), (40, 40, 3)]):
        made.append(image.fromarray(np.full(shape, 40 * number, dtype=np.uint8)))
        made[-1].save(tmp_path / f"photo_{number}.png")
    return made


def boxes_of(figure):
    """The boxes of all texts and photographs, in pixels."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    texts = [(text.get_text(), text.get_window_extent(renderer)) for text in figure.texts if text.get_text()]
    return texts + [("a photograph", axes.get_window_extent(renderer)) for axes in figure.axes]


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize(
    ("systems", "bleu"),
    [
        (("MLE", "ERAC"), 33.3),
        (("MLE", "ERAC (tau 0.0005, joint.actor_optimizer.learning_rate 0.0005)"), None),
    ],
)
def test_nothing_overlaps_and_nothing_leaves_the_page(photos, columns, systems, bleu):
    figure = compose(entries(systems=systems, bleu=bleu), photos, references=2, columns=columns)
    boxes = boxes_of(figure)
    assert len(figure.axes) == 3 and len(boxes) > 20
    for _, box in boxes:
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width and 0 <= box.y0 < box.y1 <= figure.bbox.height
    for (first, a), (second, b) in itertools.combinations(boxes, 2):
        across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 0 or down <= 1.5, (first, second, across, down)  # 1.5 pixels of 200 an inch


def test_every_word_is_there_and_photographs_keep_their_shape(photos):
    figure = compose(entries(bleu=12.345), photos, references=2, columns=2)
    shown = " ".join(text.get_text() for text in figure.texts)
    for word in (
        "$5",
        "$6",
        "MLE",
        "ERAC",
        "reference",
        "photo_2.png",
        "12.3",
        "BLEU",
        "(nothing)",
        *LONG.split(),
    ):
        assert word in shown
    assert "never shown" not in shown
    for axes, photo in zip(figure.axes, photos, strict=True):
        box = axes.get_window_extent()
        assert box.width / box.height == pytest.approx(photo.width / photo.height, rel=1e-3)


def test_wrapping():
    def measure(text, size, weight, slope):
        return float(len(text))

    font = Font("black")
    assert wrap("a dog runs .", 8, font, measure) == ["a dog", "runs ."]
    assert wrap("a dog runs .", 10, font, measure) == ["a dog", "runs ."]  # the full stop starts no line
    assert wrap("abcdefgh ij", 3, font, measure) == ["abc", "def", "gh", "ij"]
    assert wrap("  ", 3, font, measure) == [""] and wrap("x", 0, font, measure) == ["x"]


def test_long_names_lose_their_beginning():
    def measure(text, size, weight, slope):
        return float(len(text))

    assert shorten("val2014/a_b_123.jpg", 11, Font("black"), measure) == "a_b_123.jpg"
    assert shorten("val2014/a_b_123.jpg", 8, Font("black"), measure) == "…123.jpg"


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_files(photos, tmp_path, ending, magic):
    output = draw_sheet(entries(), tmp_path, tmp_path / "new" / f"sheet.{ending}")
    assert output.read_bytes().startswith(magic) and [*output.parent.iterdir()] == [output]


def test_bad_input_is_named(photos, tmp_path):
    (tmp_path / "photo_1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"photo_1\.png: the image cannot be read"):
        draw_sheet(entries(), tmp_path, tmp_path / "sheet.png")
    (tmp_path / "photo_1.png").unlink()
    with pytest.raises(MissingFileError, match=r"photo_1\.png: the image does not exist"):
        draw_sheet(entries(), tmp_path, tmp_path / "sheet.png")
    with pytest.raises(ValueError, match=r"output must end in \.png, \.pdf, \.svg"):
        draw_sheet(entries(), tmp_path, tmp_path / "sheet.gif")
    with pytest.raises(ValueError, match="at least one image, reference and column, got 0, 2 and 2"):
        draw_sheet([], tmp_path, tmp_path / "sheet.png")
    assert not (tmp_path / "sheet.png").exists()
