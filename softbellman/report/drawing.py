"""What the figures of a report share: colours and lines of systems, empty figures, axes, files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

INK, GREY, EDGE, GRID = "#30343b", "#7b828c", "#c8ccd2", "#e3e6ea"
SYSTEMS = ("MLE", "MLE continued", "RAML", "VAML", "AC", "ERAC")
"""Systems whose colours are the first of the palette."""
PALETTE = ("#3566a8", "#b9791a", "#2b8a57", "#7a5195", "#c2453d", "#17808f", "#8a6d3b", "#d0679d", "#5b6b7b")
_ROUNDS: tuple[tuple[str | tuple[int, tuple[int, ...]], str], ...] = (
    ("-", "o"), ((0, (4, 2)), "s"), ((0, (1, 1)), "^"), ((0, (6, 2, 1, 2)), "D"),
)  # fmt: skip


class Style(NamedTuple):
    """How a system is drawn: repeated colours have another line and another marker."""

    colour: str
    line: str | tuple[int, tuple[int, ...]] = "-"
    marker: str = "o"


def styles_of(names: Sequence[str]) -> dict[str, Style]:
    """A style for each system, the same in all figures of a section; those of the paper's table have it in every section."""
    found = {name: Style(PALETTE[SYSTEMS.index(name)]) for name in names if name in SYSTEMS}
    taken = {style.colour for style in found.values()}
    rounds = [Style(colour, line, marker) for line, marker in _ROUNDS for colour in PALETTE]
    left = [
        style for style in rounds if (style.line, style.marker) != _ROUNDS[0] or style.colour not in taken
    ]
    others = [name for name in names if name not in found]
    return found | {name: left[number % len(left)] for number, name in enumerate(others)}


def png(figure: Any) -> bytes:
    """The figure as PNG."""
    return saved(figure, "png")


def saved(figure: Any, kind: str) -> bytes:
    """The figure as png or pdf, the same bytes for the same figure."""
    stream = io.BytesIO()
    # without the date the same runs give the same bytes
    metadata = {"CreationDate": None} if kind == "pdf" else {"Software": None}
    figure.savefig(stream, format=kind, metadata=metadata)
    return stream.getvalue()


def new_figure(width: float, height: float) -> Any:
    """An empty figure, inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Any, *, grid: str) -> None:
    """A faint grid along one axis, no frame."""
    axes.grid(axis=grid, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(EDGE)
