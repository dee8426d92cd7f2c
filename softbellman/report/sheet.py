"""A contact sheet: photographs, beside each its reference captions and what the systems said.

Lengths are in points, 1/72 inch. Every text is measured before it is placed: words are wrapped to the width there is, and a row
is as high as its tallest card.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softbellman.data.captions.pixels import open_image
from softbellman.experiments.captioned import Captioned
from softbellman.report.paper import (
    FORMATS,
    GREY,
    INK,
    LINE,
    TEXT,
    Font,
    Measure,
    Paper,
    new_figure,
    save_figure,
    shorten,
    text_measure,
    wrap,
)

_MARGIN, _COLUMN_GAP, _ROW_GAP = 14.0, 26.0, 22.0
_CARD_WIDTH = 390.0
_PHOTO_WIDTH, _PHOTO_HEIGHT, _PHOTO_GAP = 150.0, 124.0, 13.0
_SMALL = 6.5  # size of small letters
_BLOCK_GAP, _SMALL_LINE = 3.5, 10.0
_REFERENCES_GAP = 5.0  # more between references and systems
_LABEL_GAP, _LABEL_SHARE = 8.0, 0.36  # the labels take at most this share of the text's width

_COLOURS = ("#3566a8", "#c2453d", "#2b8a57", "#b9791a", "#7a5195", "#17808f")


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
        return LINE * max(len(self.label), len(self.lines))


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
    return save_figure(compose(entries, photos, references=references, columns=columns), output)


def compose(entries: Sequence[Captioned], photos: Sequence[Any], *, references: int, columns: int) -> Any:
    """The matplotlib figure of as many entries as photographs."""
    figure = new_figure()
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
    paper = Paper(figure, width, height)
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
    reference_label = Font(GREY)
    systems = list(dict.fromkeys(said.system for said in entry.said))
    fonts = {
        system: Font(_COLOURS[number % len(_COLOURS)], weight="bold") for number, system in enumerate(systems)
    }
    labels = [("reference", reference_label), *fonts.items()]
    width = _CARD_WIDTH - _PHOTO_WIDTH - _PHOTO_GAP
    widest = max(measure(text, font.size, font.weight, font.slope) for text, font in labels)
    label_width = min(widest, _LABEL_SHARE * width)
    numbers = ["" if said.bleu is None else f"{said.bleu:.1f}" for said in entry.said]
    number_width = max(measure(text, TEXT, "normal", "normal") for text in ["BLEU", *numbers]) + _LABEL_GAP
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
            Font(GREY, slope="italic"),
            _BLOCK_GAP if number else 0.0,
        )
        for number, text in enumerate(shown)
    ]
    for place, (said, number) in enumerate(zip(entry.said, numbers, strict=True)):
        gap = _BLOCK_GAP if place else _BLOCK_GAP + _REFERENCES_GAP
        blocks.append(block(said.system, said.caption, number, fonts[said.system], Font(INK), gap))
    return Card(
        photo, shorten(entry.image, _PHOTO_WIDTH, Font(GREY, _SMALL), measure), tuple(blocks), label_width
    )


def _draw_card(paper: Paper, card: Card, left: float, top: float) -> None:
    width, height = card.photo_size
    paper.photo(left + (_PHOTO_WIDTH - width) / 2, top, (width, height), card.photo)
    paper.text(left + _PHOTO_WIDTH / 2, top + height, card.name, Font(GREY, _SMALL), align="center")
    text_left, right = left + _PHOTO_WIDTH + _PHOTO_GAP, left + _CARD_WIDTH
    y = top
    for block in card.blocks:
        y += block.gap
        for number, line in enumerate(block.label):
            paper.text(text_left, y + number * LINE, line, block.label_font)
        for number, line in enumerate(block.lines):
            paper.text(text_left + card.label_width + _LABEL_GAP, y + number * LINE, line, block.font)
        if block.number:
            font = Font(GREY) if block.number != "BLEU" else Font(GREY, _SMALL + 0.5)
            paper.text(right, y, block.number, font, align="right")
        y += block.height
