"""A page of lengths in points, 1/72 inch, from its upper left corner: texts that are measured before they are placed.

Words are wrapped to the width there is. Photographs, boxes and rules lie beside them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from softbellman.core.files import replacing

DOTS_PER_INCH = 200
LINE = 12.0
"""Height of a line of text."""

TEXT = 9.0
"""Size of its letters."""

INK, GREY, EDGE = "#23272e", "#6f7680", "#dfe2e6"
FORMATS = (".png", ".pdf", ".svg")
_SLACK = 1.01  # formats other than PNG measure text a little differently

Weight = Literal["normal", "bold"]
Slope = Literal["normal", "italic"]
Measure = Callable[[str, float, Weight, Slope], float]
"""Width of a text on one line: text, font size, weight, slope."""


class Font(NamedTuple):
    """How a text is set."""

    colour: str
    size: float = TEXT
    weight: Weight = "normal"
    slope: Slope = "normal"


_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """A text with U+FFFD for each control character and half of a character, which no page and no font takes."""
    return _UNPRINTABLE.sub("\ufffd", text)


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
            known[key] = _SLACK * pixels * 72 / DOTS_PER_INCH
        return known[key]

    return measure


def new_figure() -> Any:
    """An empty white figure, drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(dpi=DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, output: Path) -> Path:
    """Writes a figure in the format of the file's ending, whole or not at all; makes its folder."""
    with replacing(output) as temporary:
        figure.savefig(temporary, format=output.suffix.lower().removeprefix("."))
    return output


class Paper:
    """A figure addressed in points from its upper left corner; it gets the size."""

    def __init__(self, figure: Any, width: float, height: float) -> None:
        figure.set_size_inches(width / 72, height / 72)
        self.figure, self.width, self.height = figure, width, height

    def text(self, x: float, y: float, text: str, font: Font, *, align: str = "left") -> None:
        """A line whose box of `LINE` starts at y; letters of one size stand on one base line."""
        self.figure.text(
            x / self.width, 1 - (y + 0.78 * LINE) / self.height, text,
            color=font.colour, fontsize=font.size, fontweight=font.weight, fontstyle=font.slope,
            ha=align, va="baseline", parse_math=False,
        )  # fmt: skip

    def photo(self, x: float, y: float, size: tuple[float, float], photo: Any) -> None:
        width, height = size
        box = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box)
        axes.imshow(photo, aspect="auto")
        axes.set_axis_off()

    def box(self, x: float, y: float, size: tuple[float, float], colour: str) -> None:
        """A filled rectangle, behind the texts."""
        from matplotlib.patches import Rectangle

        corner = (x / self.width, 1 - (y + size[1]) / self.height)
        shape = (size[0] / self.width, size[1] / self.height)
        self.figure.add_artist(
            Rectangle(
                corner, *shape, transform=self.figure.transFigure, facecolor=colour, linewidth=0, zorder=0
            )
        )

    def rule(self, left: float, y: float, right: float) -> None:
        from matplotlib.lines import Line2D

        across = [left / self.width, right / self.width]
        self.figure.add_artist(Line2D(across, [1 - y / self.height] * 2, color=EDGE, linewidth=0.6))
