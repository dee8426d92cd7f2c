"""The figures of a report: scores and differences, learning curves with the band of the seeds, the sweep of a setting."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from softbellman.experiments.contrasts import Contrast
from softbellman.experiments.groups import Group
from softbellman.experiments.orderings import judge
from softbellman.experiments.resampling import RESAMPLED
from softbellman.experiments.series import Band, Sweep, curve_bands, find_sweep
from softbellman.experiments.study import Section
from softbellman.report.results import title as metric_title

MAIN_METRICS = ("bleu", "cider", "rouge_l")
"""What is drawn of the tested metrics."""

SWEPT = ("credit.tau", "augmented.tau", "oracle.tau", "completion.tau")
"""Settings whose sweep gets a figure."""

INK, GREY, EDGE, GRID = "#30343b", "#7b828c", "#c8ccd2", "#e3e6ea"
VERDICT_COLOURS = {
    "holds": "#2b8a57",
    "holds for these runs": "#5f9e3c",
    "not decided": "#8a8f98",
    "does not hold": "#c2453d",
}
SYSTEMS = ("MLE", "MLE continued", "RAML", "VAML", "AC", "ERAC")
"""Systems whose colours are the first of the palette."""
PALETTE = ("#3566a8", "#b9791a", "#2b8a57", "#7a5195", "#c2453d", "#17808f", "#8a6d3b", "#d0679d", "#5b6b7b")
_CURVE_TITLES = {
    "dev_bleu": "BLEU on the validation set",
    "entropy": "entropy of the actor (nats a token)",
    "payoff": "payoff of the sequences it learns from",
    "rank_correlation": "critic's rank correlation",
}
_MANY_BARS = 12  # more differences than this get no numbers beside them


class Drawing(NamedTuple):
    """A figure with the name of its files and what it shows."""

    name: str
    caption: str
    figure: Any


def draw_section(section: Section) -> list[Drawing]:
    """The figures that a section has something for."""
    colours = colours_of(section.groups)
    found = [
        Drawing(
            "scores",
            "Left: test scores, a dot a run, the line is their mean. Right: differences, thick the 95 % interval over "
            "sentences for these runs, thin the one for new runs as well.",
            _draw_scores(section, colours),
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
                _draw_curves(start, final, colours),
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


def colours_of(groups: Sequence[Group]) -> dict[str, str]:
    """A colour for each system, the same in all figures of a section; those of the paper's table have it in every section."""
    names = [group.name for group in groups]
    found = {name: PALETTE[SYSTEMS.index(name)] for name in names if name in SYSTEMS}
    left = [colour for colour in PALETTE if colour not in found.values()]
    others = [name for name in names if name not in found]
    return found | {name: left[number % len(left)] for number, name in enumerate(others)}


def png(figure: Any) -> bytes:
    """The figure as PNG."""
    return saved(figure, "png")


def save(drawing: Drawing, folder: Path, prefix: str) -> None:
    """Write PREFIX-NAME.png and .pdf."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("png", "pdf"):
        (folder / f"{prefix}-{drawing.name}.{kind}").write_bytes(saved(drawing.figure, kind))


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


# Scores -----------------------------------------------------------------------------------------------------------------


def _draw_scores(section: Section, colours: Mapping[str, str]) -> Any:
    metrics = [name for name in MAIN_METRICS if name in section.tested] or ["bleu"]
    contrasts = contrasts_of(section)
    lines = max(len(section.groups), len(contrasts), 2)
    figure = new_figure(10.5, len(metrics) * (1.0 + 0.34 * lines))
    rows = figure.subplots(
        len(metrics), 2 if contrasts else 1, squeeze=False, width_ratios=[1, 1.25] if contrasts else [1]
    )
    for row, metric in zip(rows, metrics, strict=True):
        _draw_dots(row[0], section, metric, colours)
        if contrasts:
            _draw_forest(row[1], contrasts, metric)
    return figure


def contrasts_of(section: Section) -> list[Contrast]:
    """The steps of the orderings, then the comparisons with the baseline that are none of them."""
    found = {(contrast.system, contrast.baseline): contrast for contrast in section.steps.values()}
    for contrast in section.baselines.values():
        found.setdefault((contrast.system, contrast.baseline), contrast)
    return list(found.values())


def _draw_dots(axes: Any, section: Section, metric: str, colours: Mapping[str, str]) -> None:
    names = []
    for place, group in enumerate(section.groups):
        values = list(group.values(f"test_{metric}").values())
        names.append(group.name)
        if not values:
            continue
        colour, mean = colours[group.name], sum(values) / len(values)
        axes.plot(
            values, [place] * len(values), "o", color=colour, markersize=5, alpha=0.6, markeredgewidth=0
        )
        axes.plot([mean, mean], [place - 0.3, place + 0.3], color=colour, linewidth=2.2)
        axes.annotate(
            f"{mean:.2f}", (mean, place - 0.32), ha="center", va="bottom", fontsize=8, color=colour,
            fontweight="bold", textcoords="offset points", xytext=(0, 0),
        )  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.75)
    axes.margins(x=0.12)
    axes.locator_params(axis="x", nbins=6)  # more labels of two decimals would touch
    axes.set_xlabel(metric_title(f"test_{metric}"), color=INK, fontsize=9.5)
    dress(axes, grid="x")


def _draw_forest(axes: Any, contrasts: Sequence[Contrast], metric: str) -> None:
    axes.axvline(0.0, color=GREY, linewidth=1.0)
    names = []
    for place, contrast in enumerate(contrasts):
        names.append(f"{contrast.system} \u2212 {contrast.baseline}")
        test = contrast.tests.get(metric)
        if test is None:
            continue
        colour = VERDICT_COLOURS[judge(test, better=RESAMPLED[metric].better)]
        if test.new_runs is not None:
            axes.plot(list(test.new_runs), [place, place], color=colour, linewidth=1.0)
        pooled = test.pooled
        axes.plot(
            list(pooled.interval),
            [place, place],
            color=colour,
            linewidth=4.0,
            alpha=0.55,
            solid_capstyle="butt",
        )
        axes.plot([pooled.difference], [place], "o", color=colour, markersize=5.5)
        if len(contrasts) <= _MANY_BARS:
            axes.annotate(
                f"{pooled.difference:+.2f}", (pooled.difference, place), ha="center", va="bottom", fontsize=8,
                color=colour, fontweight="bold", textcoords="offset points", xytext=(0, 4),
            )  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.75)
    _clip_wide(axes, contrasts, metric)
    axes.set_xlabel(f"difference in {metric_title(f'test_{metric}')}", color=INK, fontsize=9.5)
    dress(axes, grid="x")


def _clip_wide(axes: Any, contrasts: Sequence[Contrast], metric: str) -> None:
    """Two starts leave an interval for new runs that is many times wider than all else: arrows say that it goes on."""
    placed = {
        place: contrast.tests[metric] for place, contrast in enumerate(contrasts) if metric in contrast.tests
    }
    tests = list(placed.values())
    if not tests:
        return
    inner = [bound for test in tests for bound in (*test.pooled.interval, 0.0)]
    outer = inner + [bound for test in tests for bound in test.new_runs or ()]
    room = 1.5 * (max(inner) - min(inner)) or 1.0
    left = max(min(outer) - 0.1 * room, min(inner) - room)
    right = min(max(outer) + 0.1 * room, max(inner) + room)
    axes.set_xlim(left, right)
    for place, test in placed.items():
        colour = VERDICT_COLOURS[judge(test, better=RESAMPLED[metric].better)]
        low, high = test.new_runs or test.pooled.interval
        for edge, marker, beyond in ((left, "<", low < left), (right, ">", high > right)):
            if beyond:
                axes.plot([edge], [place], marker, color=colour, markersize=6.0, clip_on=False)


# Curves -----------------------------------------------------------------------------------------------------------------


def _draw_curves(
    start: Mapping[str, Mapping[str, Band]],
    final: Mapping[str, Mapping[str, Band]],
    colours: Mapping[str, str],
) -> Any:
    panels = [("maximum likelihood", "dev_bleu", start["dev_bleu"])] if "dev_bleu" in start else []
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
            shown[system] = _draw_band(panel, band, colours[system])
        if stage == "final stage" and name == "dev_bleu":
            _zoom(panel, bands.values())
        panel.set_title(_CURVE_TITLES.get(name, name), fontsize=9.5, color=INK, loc="left")
        panel.set_xlabel(f"updates, {stage}", fontsize=9, color=GREY)
        dress(panel, grid="y")
    figure.legend(
        shown.values(),
        shown.keys(),
        loc="outside lower center",
        ncols=min(4, len(shown)),
        frameon=False,
        fontsize=9,
    )
    return figure


def _draw_band(axes: Any, band: Band, colour: str) -> Any:
    marker = "o" if len(band.updates) < 40 else ""
    (line,) = axes.plot(band.updates, band.mean, color=colour, linewidth=1.6, marker=marker, markersize=2.8)
    if max(band.runs) > 1:
        axes.fill_between(band.updates, band.low, band.high, color=colour, alpha=0.13, linewidth=0)
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
