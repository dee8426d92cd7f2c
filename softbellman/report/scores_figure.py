"""Test scores of systems and their differences with intervals, one beside the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median, quantiles
from typing import Any

from softbellman.experiments.contrasts import Contrast
from softbellman.experiments.orderings import judge
from softbellman.experiments.resampling import MAIN_METRICS, RESAMPLED
from softbellman.experiments.study import Section
from softbellman.report.drawing import GREY, INK, Style, dress, new_figure
from softbellman.report.results import title as metric_title

VERDICT_COLOURS = {
    "holds": "#2b8a57",
    "holds for these runs": "#5f9e3c",
    "not decided": "#8a8f98",
    "does not hold": "#c2453d",
}
_MANY_BARS = 12  # more differences than this get no numbers beside them
_MANY_SYSTEMS = 8  # of more than this one that is far from all others leaves the panel


def draw_scores(section: Section, styles: Mapping[str, Style]) -> Any:
    metrics = [name for name in MAIN_METRICS if name in section.tested] or ["bleu"]
    contrasts = contrasts_of(section)
    lines = max(len(section.groups), len(contrasts), 2)
    figure = new_figure(10.5, len(metrics) * (1.0 + 0.34 * lines))
    rows = figure.subplots(
        len(metrics), 2 if contrasts else 1, squeeze=False, width_ratios=[1, 1.25] if contrasts else [1]
    )
    for row, metric in zip(rows, metrics, strict=True):
        _draw_dots(row[0], section, metric, styles)
        if contrasts:
            _draw_forest(row[1], contrasts, metric)
    return figure


def contrasts_of(section: Section) -> list[Contrast]:
    """The steps of the orderings, then the comparisons with the baseline that are none of them."""
    found = {(contrast.system, contrast.baseline): contrast for contrast in section.steps.values()}
    for contrast in section.baselines.values():
        found.setdefault((contrast.system, contrast.baseline), contrast)
    return list(found.values())


def _draw_dots(axes: Any, section: Section, metric: str, styles: Mapping[str, Style]) -> None:
    scores = [list(group.values(f"test_{metric}").values()) for group in section.groups]
    means = [sum(values) / len(values) if values else None for values in scores]
    near = _near([mean for mean in means if mean is not None], _MANY_SYSTEMS)
    for place, (group, values, mean) in enumerate(zip(section.groups, scores, means, strict=True)):
        if mean is None or mean not in near:
            continue
        colour = styles[group.name].colour
        axes.plot(
            values, [place] * len(values), "o", color=colour, markersize=5, alpha=0.6, markeredgewidth=0
        )
        axes.plot([mean, mean], [place - 0.3, place + 0.3], color=colour, linewidth=2.2)
        axes.annotate(
            f"{mean:.2f}", (mean, place - 0.32), ha="center", va="bottom", fontsize=8, color=colour,
            fontweight="bold", textcoords="offset points", xytext=(0, 0),
        )  # fmt: skip
    names = [group.name for group in section.groups]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.75)
    axes.margins(x=0.12)
    axes.locator_params(axis="x", nbins=6)  # more labels of two decimals would touch
    axes.set_xlabel(metric_title(f"test_{metric}"), color=INK, fontsize=9.5)
    dress(axes, grid="x")
    axes.set_xlim(axes.get_xlim())
    for place, mean in enumerate(means):
        if mean is not None and mean not in near:
            _point_beyond(axes, mean, place, styles[names[place]].colour, f"{mean:.2f}")


def _near(values: Sequence[float], many: int) -> list[float]:
    """The values without those that lie, of many, so far from all others that these could not be told apart."""
    if len(values) <= many:
        return list(values)
    middle = median(values)
    distances = [abs(value - middle) for value in values]
    most = 3.0 * quantiles(distances, n=4)[2]
    return [value for value, distance in zip(values, distances, strict=True) if distance <= most]


def _point_beyond(axes: Any, value: float, place: int, colour: str, text: str) -> None:
    """An arrow at the edge of the panel that a value lies beyond, and the value."""
    left, right = axes.get_xlim()
    edge, marker, side, room = (left, "<", "left", 7) if value < left else (right, ">", "right", -7)
    axes.plot([edge], [place], marker, color=colour, markersize=6.0, clip_on=False)
    axes.annotate(
        text, (edge, place), ha=side, va="bottom", fontsize=8, color=colour, fontweight="bold",
        textcoords="offset points", xytext=(room, 3),
    )  # fmt: skip


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
    near = _near([test.pooled.difference for test in placed.values()], _MANY_BARS)
    tests = [test for test in placed.values() if test.pooled.difference in near]
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
        difference = test.pooled.difference
        if difference not in near:
            _point_beyond(axes, difference, place, colour, f"{difference:+.2f}")
            continue
        low, high = test.new_runs or test.pooled.interval
        for edge, marker, beyond in ((left, "<", low < left), (right, ">", high > right)):
            if beyond:
                axes.plot([edge], [place], marker, color=colour, markersize=6.0, clip_on=False)
