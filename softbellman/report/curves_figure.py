"""Learning curves of systems in one figure: the mean over runs, the band from the least to the most."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from softbellman.core.files import write_atomically
from softbellman.experiments.curves import Axis, Curves
from softbellman.report.drawing import GREY, INK, dress, new_figure, saved, styles_of
from softbellman.report.results import title as metric_title

FORMATS = (".png", ".pdf")
_MANY_POINTS = 40  # more get no markers
_MOST_LINES = 8  # entries in a column of the legend


def draw_curves(curves: Curves, *, metric: str, axis: Axis, title: str = "") -> Any:
    """The figure."""
    figure = new_figure(8.4, 4.8)
    axes = figure.subplots()
    last = max(band.position[-1] for band in curves.bands.values())
    scale, unit = _unit(last, axis)
    styles = styles_of(list(curves.bands))
    for name, band in curves.bands.items():
        colour, line, marker = styles[name]
        place = [position / scale for position in band.position]
        if len(place) >= _MANY_POINTS:
            marker = ""
        runs = len(curves.lines[name])
        label = name if runs == 1 else f"{name} ({runs} runs)"
        axes.plot(
            place, band.mean, color=colour, linestyle=line, linewidth=1.7, marker=marker, markersize=3, label=label
        )  # fmt: skip
        if runs > 1:
            axes.fill_between(place, band.low, band.high, color=colour, alpha=0.14, linewidth=0)
    axes.set_xlabel(unit, color=INK, fontsize=9.5)
    axes.set_ylabel(metric_title(metric), color=INK, fontsize=9.5)
    dress(axes, grid="y")
    columns = -(-len(curves.bands) // _MOST_LINES)
    axes.legend(frameon=False, fontsize=9, loc="best", ncols=columns, labelcolor=INK)
    if title:
        figure.suptitle(title, fontsize=11, color=INK)
    if any(len(lines) > 1 for lines in curves.lines.values()):
        figure.text(0.995, 0.005, "band: least to most", ha="right", va="bottom", fontsize=7.5, color=GREY)
    return figure


def write_curves(curves: Curves, path: Path, *, metric: str, axis: Axis, title: str = "") -> Path:
    """Draw and write; the file's ending, .png or .pdf, says which. Equal runs give equal bytes.

    Raises:
        ValueError: another ending.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"{path} must end in {' or '.join(FORMATS)}")
    figure = draw_curves(curves, metric=metric, axis=axis, title=title)
    write_atomically(path, saved(figure, path.suffix.removeprefix(".")))
    return path


def _unit(last: float, axis: Axis) -> tuple[float, str]:
    """How many units of the axis one of the figure has, and its name."""
    if axis == "updates":
        return 1.0, "updates"
    scale, unit = (3600.0, "hours") if last > 10800 else (60.0, "minutes") if last > 180 else (1.0, "seconds")
    return scale, f"training time ({unit})"
