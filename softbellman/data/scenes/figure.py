"""Scenes with their captions on one sheet, to look at."""

from __future__ import annotations

import textwrap
from pathlib import Path

from softbellman.core.files import replacing
from softbellman.data.scenes.generator import SceneSplit
from softbellman.data.scenes.render import render

_COLUMNS = 3
_INK = "#30343b"


def draw_sheet(split: SceneSplit, png_path: str | Path) -> Path:
    """Draw every scene (at 96 pixels, enlarged) with its captions beside it, three scenes a row.

    Returns:
        `png_path`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-len(split) // _COLUMNS)
    figure = Figure(figsize=(15.0, 1.95 * rows), dpi=100)
    FigureCanvasAgg(figure)
    for number, (scene, captions) in enumerate(zip(split.scenes, split.captions, strict=True)):
        row, column = divmod(number, _COLUMNS)
        left, bottom = column / _COLUMNS + 0.005, 1 - (row + 1) / rows + 0.04 / rows
        height = 0.92 / rows
        panel = figure.add_axes((left, bottom, height * 1.95 * rows / 15.0, height))
        panel.imshow(render(scene, side=96), interpolation="nearest")
        panel.set_axis_off()
        text = "\n".join(
            "\n".join(textwrap.wrap(caption, width=42, subsequent_indent="    ")) for caption in captions
        )
        across = left + height * 1.95 * rows / 15.0 + 0.006
        figure.text(across, bottom + height / 2, text, fontsize=8, color=_INK, va="center", linespacing=1.25)
    with replacing(Path(png_path)) as temporary:
        figure.savefig(temporary, format=Path(png_path).suffix.removeprefix(".") or "png")
    return Path(png_path)
