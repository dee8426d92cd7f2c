"""The table of a study, and its figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from softbellman.experiments.resampling import Interval, ResampledMetric, paired_test
from softbellman.experiments.summaries import summarise
from sorting.study import START

BASELINE = "SFT continued"
HOW = ("likeliest", "drawn")
"""The two answers of a prompt, in the order of the results."""

RIGHT = ResampledMetric(
    statistics=lambda right, _: np.stack([np.array(right), np.ones(len(right))], -1),
    score=lambda sums: 100.0 * sums[..., 0] / sums[..., 1],
)
"""Right answers in percent, from 1 or 0 for each prompt."""


def difference(
    system: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]]
) -> tuple[float, Interval]:
    """Mean difference in points, paired by seed and prompt, and its 95 % interval over new prompts and new seeds."""
    pairs = [
        (RIGHT.statistics(one, None), RIGHT.statistics(other, None))
        for one, other in zip(system, baseline, strict=True)
    ]
    found = paired_test(RIGHT, pairs)
    assert found.new_runs is not None  # there are two seeds at least
    return found.pooled.difference, found.new_runs


def scores(runs: Sequence[dict[str, Any]], arm: str, how: int) -> list[float]:
    """Percent of right answers of each seed."""
    return [100.0 * float(np.mean(run[arm][how])) for run in runs]


def make_table(study: dict[str, Any]) -> str:
    """A Markdown table of each task."""
    parts = []
    for task, runs in study["test"].items():
        lines = [
            f"Sort, {task}:",
            "",
            f"| arm | learning rate | {' | '.join(f'{how}, %' for how in HOW)} | less {BASELINE}, {HOW[0]} | {HOW[1]} |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for arm in runs[0]:
            cells = [arm, _rate(study, task, arm)]
            cells += [_mean(scores(runs, arm, how)) for how in range(len(HOW))]
            for how in range(len(HOW)):
                cells.append("" if arm == BASELINE else _difference(runs, arm, how))
            lines.append("| " + " | ".join(cells) + " |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _rate(study: dict[str, Any], task: str, arm: str) -> str:
    return "" if arm == START else f"{study['rates'][task][arm]:g}"


def _mean(numbers: list[float]) -> str:
    found = summarise(numbers)
    assert found is not None and found.deviation is not None
    return f"{found.mean:.1f} ± {found.deviation:.1f}"


def _difference(runs: Sequence[dict[str, Any]], arm: str, how: int) -> str:
    mean, interval = difference([run[arm][how] for run in runs], [run[BASELINE][how] for run in runs])
    return f"{mean:+.1f} ({interval.low:+.1f} to {interval.high:+.1f})"


def draw_figure(study: dict[str, Any], path: Path) -> None:
    """A panel for each task: a dot a seed, a bar for their mean."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ink, colours = "#30343b", ("#3566a8", "#b9791a")
    figure = Figure(figsize=(10.0, 3.8), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(study["test"]), squeeze=False)[0]
    for panel, (task, runs) in zip(panels, study["test"].items(), strict=True):
        arms = list(runs[0])[::-1]  # the first one on top
        for how, colour in enumerate(colours):
            for row, arm in enumerate(arms):
                place = row + 0.17 - 0.34 * how
                found = scores(runs, arm, how)
                panel.plot(found, [place] * len(found), "o", color=colour, alpha=0.55, markersize=4, mew=0)
                panel.plot([np.mean(found)] * 2, [place - 0.15, place + 0.15], color=colour, linewidth=2.5)
            panel.plot([], [], "o", color=colour, label=f"{HOW[how]} answer")
        panel.set_yticks(range(len(arms)), arms)
        panel.set_xlim(-2, 102)
        panel.set_xlabel("right answers to unseen prompts, %", color=ink)
        panel.set_title(f"sort, {task}", color=ink, loc="left", fontsize=11)
        panel.grid(axis="x", color="#e3e6ea")
        panel.set_axisbelow(True)
        for side in ("top", "right", "left"):
            panel.spines[side].set_visible(False)
        panel.tick_params(length=0, colors=ink)
    panels[0].legend(frameon=False, loc="lower left", labelcolor=ink)
    figure.savefig(path, metadata={"Software": None})
