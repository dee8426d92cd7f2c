"""A contact sheet: photographs, beside each its reference captions and what the systems said.

Lengths are in points, 1/72 inch. Every text is measured before it is placed: words are wrapped to the width there is, and a row
is as high as its tallest card.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from softbellman.data.captions.pixels import open_image
from softbellman.experiments.captioned import Captioned

FORMATS = (".png", ".pdf", ".svg")
_DOTS_PER_INCH = 200

_MARGIN, _COLUMN_GAP, _ROW_GAP = 14.0, 26.0, 22.0
_CARD_WIDTH = 390.0
_PHOTO_WIDTH, _PHOTO_HEIGHT, _PHOTO_GAP = 150.0, 124.0, 13.0
_TEXT, _SMALL = 9.0, 6.5  # font sizes
_LINE, _BLOCK_GAP, _SMALL_LINE = 12.0, 3.5, 10.0
_REFERENCES_GAP = 5.0  # more between references and systems
_LABEL_GAP, _LABEL_SHARE = 8.0, 0.36  # the labels take at most this share of the text's width
_SLACK = 1.01  # formats other than PNG measure text a little differently

_INK, _GREY, _EDGE = "#23272e", "#6f7680", "#dfe2e6"
_COLOURS = ("#3566a8", "#c2453d", "#2b8a57", "#b9791a", "#7a5195", "#17808f")

Weight = Literal["normal", "bold"]
Slope = Literal["normal", "italic"]
Measure = Callable[[str, float, Weight, Slope], float]
"""Width of a text on one line: text, font size, weight, slope."""


class Font(NamedTuple):
    """How a text is set."""

    colour: str
    size: float = _TEXT
    weight: Weight = "normal"
    slope: Slope = "normal"


@dataclass(frozen=True)
class Block:
    """One caption of a card, in lines: the label's on the left, the caption's on the right, a number at the edge.

    Attributes:
        gap: above it.
    """

    label: tuple[str, ...]
    lines: tuple[str, ...]
    number: str
    label_font: Font
    font: Font
    gap: float = 0.0

    @property
    def height(self) -> float:
        """Of the higher of both, without the gap."""
        return _LINE * max(len(self.label), len(self.lines))


@dataclass(frozen=True)
class Card:
    """One photograph and its captions.

    Attributes:
        photo: what Pillow opened.
        name: of the image, as it is shown.
        blocks: the captions from top to bottom.
        label_width: of the column of labels.
    """

    photo: Any
    name: str
    blocks: tuple[Block, ...]
    label_width: float

    @property
    def photo_size(self) -> tuple[float, float]:
        """Width and height of the photograph, whole, within its box."""
        width, height = self.photo.size
        scale = min(_PHOTO_WIDTH / width, _PHOTO_HEIGHT / height)
        return width * scale, height * scale

    @property
    def height(self) -> float:
        """Of the photograph with its name, or of the captions."""
        text = sum(block.gap + block.height for block in self.blocks)
        return max(self.photo_size[1] + _SMALL_LINE, text)


def draw_sheet(
    entries: Sequence[Captioned],
    images: str | Path,
    output: str | Path,
    *,
    references: int = 2,
    columns: int = 2,
) -> Path:
    """Draw the sheet.

    Args:
        entries: what is shown, in this order.
        images: folder of the photographs, by the entries' names.
        output: .png, .pdf or .svg.
        references: at most so many reference captions an image, the first ones.
        columns: photographs side by side.

    Returns:
        `output`.

    Raises:
        ValueError: another ending, or a number below 1.
        MissingFileError, DataError: a photograph that is not there or cannot be read; names its file.
    """
    output = Path(output)
    if output.suffix.lower() not in FORMATS:
        raise ValueError(f"output must end in {', '.join(FORMATS)}, got {output}")
    if not entries or references < 1 or columns < 1:
        raise ValueError(
            f"a sheet needs at least one image, reference and column, "
            f"got {len(entries)}, {references} and {columns}"
        )
    photos = [open_image(Path(images) / entry.image) for entry in entries]
    figure = compose(entries, photos, references=references, columns=columns)
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f".{output.name}.part")
    figure.savefig(temporary, format=output.suffix.lower().removeprefix("."))
    temporary.replace(output)
    return output


def compose(entries: Sequence[Captioned], photos: Sequence[Any], *, references: int, columns: int) -> Any:
    """The matplotlib figure of as many entries as photographs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(dpi=_DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    measure = text_measure(figure)
    cards = [
        lay_out(entry, photo, measure, references=references)
        for entry, photo in zip(entries, photos, strict=True)
    ]
    columns = min(columns, len(cards))
    rows = [cards[start : start + columns] for start in range(0, len(cards), columns)]
    heights = [max(card.height for card in row) for row in rows]
    width = 2 * _MARGIN + columns * _CARD_WIDTH + (columns - 1) * _COLUMN_GAP
    height = 2 * _MARGIN + sum(heights) + _ROW_GAP * (len(rows) - 1)
    figure.set_size_inches(width / 72, height / 72)
    paper = _Paper(figure, width, height)
    top = _MARGIN
    for number, (row, row_height) in enumerate(zip(rows, heights, strict=True)):
        if number:
            paper.rule(_MARGIN, top - _ROW_GAP / 2, width - _MARGIN)
        for column, card in enumerate(row):
            _draw_card(paper, card, _MARGIN + column * (_CARD_WIDTH + _COLUMN_GAP), top)
        top += row_height + _ROW_GAP
    return figure


def lay_out(entry: Captioned, photo: Any, measure: Measure, *, references: int) -> Card:
    """The captions of one image in lines that fit."""
    shown = entry.references[:references]
    reference_label = Font(_GREY)
    systems = list(dict.fromkeys(said.system for said in entry.said))
    fonts = {
        system: Font(_COLOURS[number % len(_COLOURS)], weight="bold") for number, system in enumerate(systems)
    }
    labels = [("reference", reference_label), *fonts.items()]
    width = _CARD_WIDTH - _PHOTO_WIDTH - _PHOTO_GAP
    widest = max(measure(text, font.size, font.weight, font.slope) for text, font in labels)
    label_width = min(widest, _LABEL_SHARE * width)
    numbers = ["" if said.bleu is None else f"{said.bleu:.1f}" for said in entry.said]
    number_width = max(measure(text, _TEXT, "normal", "normal") for text in ["BLEU", *numbers]) + _LABEL_GAP
    text_width = width - label_width - _LABEL_GAP - (number_width if any(numbers) else 0.0)

    def block(label: str, text: str, number: str, label_font: Font, font: Font, gap: float) -> Block:
        return Block(
            label=tuple(wrap(label, label_width, label_font, measure)),
            lines=tuple(wrap(text or "(nothing)", text_width, font, measure)),
            number=number,
            label_font=label_font,
            font=font,
            gap=gap,
        )

    blocks = [
        block(
            "reference" if number == 0 else "",
            text,
            "BLEU" if number == 0 and any(numbers) else "",
            reference_label,
            Font(_GREY, slope="italic"),
            _BLOCK_GAP if number else 0.0,
        )
        for number, text in enumerate(shown)
    ]
    for place, (said, number) in enumerate(zip(entry.said, numbers, strict=True)):
        gap = _BLOCK_GAP if place else _BLOCK_GAP + _REFERENCES_GAP
        blocks.append(block(said.system, said.caption, number, fonts[said.system], Font(_INK), gap))
    return Card(
        photo, shorten(entry.image, _PHOTO_WIDTH, Font(_GREY, _SMALL), measure), tuple(blocks), label_width
    )


def wrap(text: str, width: float, font: Font, measure: Measure) -> list[str]:
    """A text in lines of at most `width`. A word that is longer is broken anywhere; punctuation starts no line."""

    def fits(line: str) -> bool:
        return measure(line, font.size, font.weight, font.slope) <= width

    lines = [""]
    for word in _units(text):
        joined = f"{lines[-1]} {word}".strip()
        if fits(joined):
            lines[-1] = joined
            continue
        lines.append("")
        for character in word:
            if lines[-1] and not fits(lines[-1] + character):
                lines.append("")
            lines[-1] += character
    return [line for line in lines if line] or [""]


def shorten(name: str, width: float, font: Font, measure: Measure) -> str:
    """A file's name without its folders, and without its beginning where it is wider than `width`."""
    own = Path(name).name
    shown = own
    while len(own) > 1 and measure(shown, font.size, font.weight, font.slope) > width:
        own = own[1:]
        shown = f"\u2026{own}"
    return shown


def _units(text: str) -> list[str]:
    """The words of a text, each with the punctuation that follows it."""
    units: list[str] = []
    for word in text.split():
        if units and not any(character.isalnum() for character in word):
            units[-1] += f" {word}"
        else:
            units.append(word)
    return units


def text_measure(figure: Any) -> Measure:
    """Measures by the fonts that the figure draws with."""
    from matplotlib.font_manager import FontProperties

    renderer = figure.canvas.get_renderer()
    known: dict[tuple[str, float, str, str], float] = {}

    def measure(text: str, size: float, weight: Weight, slope: Slope) -> float:
        key = (text, size, weight, slope)
        if key not in known:
            properties = FontProperties(size=size, weight=weight, style=slope)
            pixels, _, _ = renderer.get_text_width_height_descent(text, properties, ismath=False)
            known[key] = _SLACK * pixels * 72 / _DOTS_PER_INCH
        return known[key]

    return measure


class _Paper:
    """A figure addressed in points from its upper left corner."""

    def __init__(self, figure: Any, width: float, height: float) -> None:
        self.figure, self.width, self.height = figure, width, height

    def text(self, x: float, y: float, text: str, font: Font, *, align: str = "left") -> None:
        """A line whose box of `_LINE` starts at y; letters of one size stand on one base line."""
        self.figure.text(
            x / self.width, 1 - (y + 0.78 * _LINE) / self.height, text,
            color=font.colour, fontsize=font.size, fontweight=font.weight, fontstyle=font.slope,
            ha=align, va="baseline", parse_math=False,
        )  # fmt: skip

    def photo(self, x: float, y: float, size: tuple[float, float], photo: Any) -> None:
        width, height = size
        box = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box)
        axes.imshow(photo, aspect="auto")
        axes.set_axis_off()

    def rule(self, left: float, y: float, right: float) -> None:
        from matplotlib.lines import Line2D

        across = [left / self.width, right / self.width]
        self.figure.add_artist(Line2D(across, [1 - y / self.height] * 2, color=_EDGE, linewidth=0.6))


def _draw_card(paper: _Paper, card: Card, left: float, top: float) -> None:
    width, height = card.photo_size
    paper.photo(left + (_PHOTO_WIDTH - width) / 2, top, (width, height), card.photo)
    paper.text(left + _PHOTO_WIDTH / 2, top + height, card.name, Font(_GREY, _SMALL), align="center")
    text_left, right = left + _PHOTO_WIDTH + _PHOTO_GAP, left + _CARD_WIDTH
    y = top
    for block in card.blocks:
        y += block.gap
        for number, line in enumerate(block.label):
            paper.text(text_left, y + number * _LINE, line, block.label_font)
        for number, line in enumerate(block.lines):
            paper.text(text_left + card.label_width + _LABEL_GAP, y + number * _LINE, line, block.font)
        if block.number:
            font = Font(_GREY) if block.number != "BLEU" else Font(_GREY, _SMALL + 0.5)
            paper.text(right, y, block.number, font, align="right")
        y += block.height
