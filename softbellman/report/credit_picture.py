"""The credit of a sentence's tokens as a picture: the coloured rows of the token-credit page, a few tokens at a time.

Lengths are in points, 1/72 inch. A column is as wide as its token, and a line holds as many columns as fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softbellman.experiments.token_credit import CreditedHypothesis, CreditedSentence, TokenCredit
from softbellman.report.credit_scale import (
    COLOURS,
    WORDS,
    Limits,
    Quantity,
    limits_of,
    number_of,
    present,
    shade,
    shown,
    title_of,
)
from softbellman.report.paper import (
    FORMATS,
    GREY,
    INK,
    LINE,
    Font,
    Measure,
    Paper,
    new_figure,
    printable,
    save_figure,
    text_measure,
    wrap,
)

_MARGIN, _GAP = 16.0, 12.0
_WIDTH = 760.0
_LABELS = 98.0  # column of the rows' names
_CELL, _CELL_GAP, _NARROWEST, _WIDEST = 13.0, 1.5, 34.0, 96.0
_PHOTO = 150.0  # largest side
_SMALL = 7.0  # size of small letters

_TITLE, _HEAD, _LABEL = Font(INK, 11.0, "bold"), Font(INK, weight="bold"), Font(GREY, 8.0)
_WISH = Font(GREY, _SMALL)


@dataclass(frozen=True)
class Line:
    """Tokens side by side, the width of each one's column, and the rows below them."""

    tokens: tuple[TokenCredit, ...]
    widths: tuple[float, ...]
    quantities: tuple[Quantity, ...]
    wishes: tuple[tuple[str, str], ...]

    @property
    def height(self) -> float:
        """With the gap below."""
        return (1 + len(self.quantities) + len(self.wishes)) * (_CELL + _CELL_GAP) + _GAP / 2


def draw_credit(sentence: CreditedSentence, output: str | Path, *, limits: Limits | None = None) -> Path:
    """Draw the hypotheses of one sentence.

    Args:
        sentence: what is shown.
        output: .png, .pdf or .svg.
        limits: scales of the colours; None: those of this sentence alone.

    Returns:
        `output`.

    Raises:
        ValueError: another ending.
    """
    output = Path(output)
    if output.suffix.lower() not in FORMATS:
        raise ValueError(f"output must end in {', '.join(FORMATS)}, got {output}")
    return save_figure(compose(sentence, limits or limits_of([sentence])), output)


def compose(sentence: CreditedSentence, limits: Limits) -> Any:
    """The matplotlib figure of a sentence."""
    figure = new_figure()
    measure = text_measure(figure)
    photo_width, photo_height = _photo_size(sentence.photo)
    text_width = _WIDTH - 2 * _MARGIN - (photo_width + _GAP if photo_width else 0.0)
    head = _head_lines(sentence, text_width - _LABELS, measure)
    laid_out = [(hypothesis, _lay_out(hypothesis, measure)) for hypothesis in sentence.hypotheses]
    head_height = max(LINE + 4 + LINE * len(head), photo_height)
    height = (
        2 * _MARGIN
        + LINE
        + head_height
        + sum(_GAP + LINE + 4 + sum(line.height for line in lines) for _, lines in laid_out)
    )
    paper = Paper(figure, _WIDTH, height)
    top = _MARGIN
    paper.text(_MARGIN, top, sentence.name, _TITLE)
    if photo_width:
        paper.photo(_WIDTH - _MARGIN - photo_width, top, (photo_width, photo_height), sentence.photo)
    for number, (label, text) in enumerate(head):
        y = top + LINE + 4 + number * LINE
        paper.text(_MARGIN, y, label, _LABEL)
        paper.text(_MARGIN + _LABELS, y, text, Font(INK, 8.5))
    top += head_height
    for hypothesis, lines in laid_out:
        top += _GAP
        paper.rule(_MARGIN, top - _GAP / 2, _WIDTH - _MARGIN)
        title = f"{hypothesis.title}: payoff {shown(hypothesis.payoff)} tokens, score {shown(hypothesis.score, 3)}"
        paper.text(_MARGIN, top, _cut(title, _WIDTH - 2 * _MARGIN, _HEAD, measure), _HEAD)
        top += LINE + 4
        for line in lines:
            _draw_line(paper, line, top, limits, measure)
            top += line.height
    paper.text(_MARGIN, top, COLOURS, _LABEL)
    return figure


def _head_lines(sentence: CreditedSentence, width: float, measure: Measure) -> list[tuple[str, str]]:
    """The source and all references in lines, each with its label before the first."""
    font, found = Font(INK, 8.5), []
    entries = [("source", sentence.source)]
    for number, reference in enumerate(sentence.references, start=1):
        aside = "" if number <= sentence.scored else " (not scored)"
        entries.append((f"reference {number}", reference + aside))
    for label, text in entries:
        for number, line in enumerate(wrap(printable(text), width, font, measure)):
            found.append((label if number == 0 else "", line))
    return found


def _lay_out(hypothesis: CreditedHypothesis, measure: Measure) -> list[Line]:
    """The tokens in lines that fit."""
    quantities = tuple(present(hypothesis.tokens, coloured=True))
    wishes = tuple(
        wish for wish in WORDS if any(getattr(token, wish[0]) is not None for token in hypothesis.tokens)
    )
    room = _WIDTH - 2 * _MARGIN - _LABELS
    lines: list[Line] = []
    kept: list[tuple[TokenCredit, float]] = []

    def finish() -> None:
        if kept:
            tokens, widths = zip(*kept, strict=True)
            lines.append(Line(tokens, widths, quantities, wishes))
            kept.clear()

    for token in hypothesis.tokens:
        texts = [(token.token, _HEAD), *((getattr(token, field) or "", _WISH) for field, _ in wishes)]
        widest = max(measure(printable(text), font.size, font.weight, font.slope) for text, font in texts)
        width = min(max(_NARROWEST, widest + 6), _WIDEST)
        if sum(taken + _CELL_GAP for _, taken in kept) + width > room:
            finish()
        kept.append((token, width))
    finish()
    return lines


def _draw_line(paper: Paper, line: Line, top: float, limits: Limits, measure: Measure) -> None:
    by_field = {quantity.field: quantity for quantity in line.quantities}
    marked = by_field.get("advantage") or by_field["reward"]
    titles = ["token", *map(title_of, line.quantities), *(title for _, title in line.wishes)]
    for row, title in enumerate(titles):
        paper.text(_MARGIN, top + row * (_CELL + _CELL_GAP), title, _LABEL)
    left = _MARGIN + _LABELS
    for token, width in zip(line.tokens, line.widths, strict=True):
        cells = [(token.token, _HEAD, marked, number_of(token, marked))]
        cells += [
            (shown(value), Font(INK, 8.0), quantity, value)
            for quantity in line.quantities
            for value in [number_of(token, quantity)]
        ]
        for row, (text, font, quantity, value) in enumerate(cells):
            y = top + row * (_CELL + _CELL_GAP)
            colour, ink = shade(quantity, value, limits[quantity.field])
            paper.box(left, y, (width, _CELL), colour)
            fitting = _cut(text, width - 2, font, measure)
            paper.text(left + width / 2, y, fitting, font._replace(colour=ink), align="center")
        for row, (field, _) in enumerate(line.wishes, start=len(cells)):
            y = top + row * (_CELL + _CELL_GAP)
            text = _cut(getattr(token, field) or "", width - 2, _WISH, measure)
            paper.text(left + width / 2, y, text, _WISH, align="center")
        left += width + _CELL_GAP


def _cut(text: str, width: float, font: Font, measure: Measure) -> str:
    """A text on one line, without its end where it is wider than `width`."""
    text = " ".join(printable(text).split())
    if measure(text, font.size, font.weight, font.slope) <= width:
        return text
    while text and measure(f"{text}\u2026", font.size, font.weight, font.slope) > width:
        text = text[:-1]
    return f"{text}\u2026"


def _photo_size(photo: Any) -> tuple[float, float]:
    if photo is None:
        return 0.0, 0.0
    width, height = photo.size
    scale = _PHOTO / max(width, height)
    return width * scale, height * scale
