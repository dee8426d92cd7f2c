"""The figures of a report: scores and differences, learning curves with the band of the seeds, the sweep of a setting."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from softbellman.experiments.resampling import MAIN_METRICS
from softbellman.experiments.series import Band, Sweep, curve_bands, find_sweep
from softbellman.experiments.study import Section
from softbellman.report.drawing import GREY, INK, PALETTE, Style, dress, new_figure, saved, styles_of
from softbellman.report.results import title as metric_title
from softbellman.report.scores_figure import draw_scores

SWEPT = ("credit.tau", "augmented.tau", "oracle.tau", "completion.tau")
"""Settings whose sweep gets a figure."""

_CURVE_TITLES = {
    "entropy": "entropy of the actor (nats a token)",
    "payoff": "payoff of the sequences it learns from",
    "rank_correlation": "critic's rank correlation",
}


class Drawing(NamedTuple):
    """A figure with the name of its files and what it shows."""

    name: str
    caption: str
    figure: Any


def draw_section(section: Section) -> list[Drawing]:
    """The figures that a section has something for."""
    styles = styles_of([group.name for group in section.groups])
    found = [
        Drawing(
            "scores",
            "Left: test scores, a dot a run, the line is their mean. Right: differences, thick the 95 % interval over "
            "sentences for these runs, thin the one for new runs as well.",
            draw_scores(section, styles),
        )
    ]
    start = curve_bands(section.runs, section.groups, start=True)
    final = curve_bands(section.runs, section.groups, start=False)
    if start or final:
        found.append(
            Drawing(
                "curves",
                "Learning curves: mean over the runs, the band from the least to the most. First maximum likelihood, then the "
                "stage that each run ends with, from its first update.",
                _draw_curves(start, final, styles),
            )
        )
    for key in SWEPT:
        sweep = find_sweep(section.groups, key)
        if sweep is not None:
            name = key.replace(".", "-")
            found.append(
                Drawing(
                    f"sweep-{name}",
                    f"Scores over {key}: mean, a dot a run, the band is one standard deviation. Dashed: the mean start.",
                    _draw_sweep(sweep, section),
                )
            )
    return found


def save(drawing: Drawing, folder: Path, prefix: str) -> None:
    """Write PREFIX-NAME.png and .pdf."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("png", "pdf"):
        (folder / f"{prefix}-{drawing.name}.{kind}").write_bytes(saved(drawing.figure, kind))


# Curves -----------------------------------------------------------------------------------------------------------------


def _draw_curves(
    start: Mapping[str, Mapping[str, Band]],
    final: Mapping[str, Mapping[str, Band]],
    styles: Mapping[str, Style],
) -> Any:
    panels = [("maximum likelihood", name, bands) for name, bands in start.items() if name.startswith("dev_")]
    panels += [("final stage", name, bands) for name, bands in final.items()]
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(10.5, 3.1 * rows + 0.5)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    shown: dict[str, Any] = {}
    for panel, (stage, name, bands) in zip(axes, panels, strict=False):
        for system, band in bands.items():
            shown[system] = _draw_band(panel, band, styles[system])
        if stage == "final stage" and name.startswith("dev_"):
            _zoom(panel, bands.values())
        panel.set_title(_curve_title(name), fontsize=9.5, color=INK, loc="left")
        panel.set_xlabel(f"updates, {stage}", fontsize=9, color=GREY)
        dress(panel, grid="y")
    figure.legend(
        shown.values(),
        shown.keys(),
        loc="outside lower center",
        ncols=min(4, len(shown)),
        frameon=False,
        fontsize=9,
        handlelength=3.2,
    )
    return figure


def _curve_title(name: str) -> str:
    if name.startswith("dev_"):
        return f"{metric_title(name).removeprefix('validation ')} on the validation set"
    return _CURVE_TITLES.get(name, name)


def _draw_band(axes: Any, band: Band, style: Style) -> Any:
    marker = style.marker if len(band.updates) < 40 else ""
    (line,) = axes.plot(
        band.updates, band.mean, color=style.colour, linestyle=style.line, linewidth=1.6, marker=marker, markersize=2.8
    )  # fmt: skip
    if max(band.runs) > 1:
        axes.fill_between(band.updates, band.low, band.high, color=style.colour, alpha=0.13, linewidth=0)
    return line


def _zoom(axes: Any, bands: Any) -> None:
    """What begins or ends near zero, new weights or a broken run, leaves the panel rather than flatten the others."""
    values = sorted(value for band in bands for value in band.mean)
    low, high = values[len(values) // 10], max(value for band in bands for value in band.high)
    room = max(high - low, 0.5)
    least = min(value for band in bands for value in band.low)
    if low - least <= room:
        low = least
    axes.set_ylim(max(low - 0.25 * room, -0.02 * room), high + 0.1 * room)


# Sweeps -----------------------------------------------------------------------------------------------------------------


def _draw_sweep(sweep: Sweep, section: Section) -> Any:
    metrics = [name for name in MAIN_METRICS if name in section.tested] or ["bleu"]
    columns = [f"test_{metric}" for metric in metrics] + ["dev_bleu"]
    figure = new_figure(3.6 * len(columns) + 0.4, 3.4)
    for axes, metric in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
        _draw_sweep_of(axes, sweep, section, metric)
    return figure


def _draw_sweep_of(axes: Any, sweep: Sweep, section: Section, metric: str) -> None:
    positive = [point.value for point in sweep.points if point.value > 0]
    zero = (
        min(positive) / (max(positive) / min(positive)) ** 0.35 if positive else 0.0
    )  # 0 is left of the least
    places, means, deviations = [], [], []
    for point in sweep.points:
        values = list(point.group.values(metric).values())
        if not values:
            continue
        place = point.value or zero
        mean = sum(values) / len(values)
        deviation = (sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1)) ** 0.5
        places.append(place)
        means.append(mean)
        deviations.append(deviation)
        axes.plot(
            [place] * len(values),
            values,
            "o",
            color=PALETTE[0],
            markersize=3.5,
            alpha=0.45,
            markeredgewidth=0,
        )
    axes.plot(places, means, color=PALETTE[0], marker="o", markersize=4.5, linewidth=1.6)
    low = [mean - deviation for mean, deviation in zip(means, deviations, strict=True)]
    high = [mean + deviation for mean, deviation in zip(means, deviations, strict=True)]
    axes.fill_between(places, low, high, color=PALETTE[0], alpha=0.13, linewidth=0)
    starts = [
        value
        for group in section.groups
        if any(result.stage == "actor" for result in group.results.values())
        for value in group.values(metric).values()
    ]
    if starts:
        axes.axhline(sum(starts) / len(starts), color=GREY, linewidth=1.0, linestyle=(0, (5, 3)))
    axes.set_xscale("log")
    axes.set_xticks(
        [point.value or zero for point in sweep.points],
        [f"{point.value:g}" for point in sweep.points],
        minor=False,
    )
    axes.minorticks_off()
    axes.set_xlabel(sweep.key, fontsize=9.5, color=INK)
    axes.set_title(metric_title(metric), fontsize=9.5, color=INK, loc="left")
    dress(axes, grid="y")
