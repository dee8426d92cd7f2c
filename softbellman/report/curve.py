"""The learning curve: validation BLEU over the stages of a run, and below it how good the critic is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from softbellman.core.files import replacing
from softbellman.core.objects import UserCodeError
from softbellman.training.own_algorithm import find_algorithm
from softbellman.training.record import RunRecord
from softbellman.training.runfolder import Record, read_metrics
from softbellman.training.stages import SPECS
from softbellman.training.stages.spec import StageSpec

_OTHER = "#7a5195"
_INK = "#30343b"
_TD_ERROR, _RANK = "#8a4f7d", "#17808f"

Point = tuple[float, float]


class _Span(NamedTuple):
    """One stage on the horizontal axis."""

    stage: str
    start: float
    end: float
    spec: StageSpec | None = None

    @property
    def label(self) -> str:
        return self.spec.label or self.stage if self.spec else self.stage

    @property
    def colour(self) -> str:
        return self.spec.colour if self.spec else _OTHER


def draw_curve(
    metrics_path: str | Path,
    png_path: str | Path,
    *,
    axis: Literal["time", "updates"] = "time",
    title: str = "",
) -> Path | None:
    """Draws the curve of a run from its metrics.jsonl.

    Args:
        metrics_path: the stages are named by the algorithm of the record beside it.
        axis: wall time or updates. Both start anew with each stage in the records and are laid end to end.
        title: a line above the figure.

    Returns:
        `png_path`, or None when matplotlib is not installed, or where no validation is recorded.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    if not Path(metrics_path).is_file():
        return None
    records = read_metrics(metrics_path, skip=True)
    placed, spans, unit = _lay_out(records, axis)
    specs = _specs_of(Path(metrics_path).parent)
    spans = [span._replace(spec=specs.get(span.stage)) for span in spans]
    bleu = {span.stage: _points(placed, span.stage, ["dev_bleu"]) for span in spans}
    if not any(bleu.values()):
        return None
    errors = [_points(placed, span.stage, ["dev_td_error", "td_error"]) for span in spans]
    ranks = [_points(placed, span.stage, ["dev_rank_correlation", "rank_correlation"]) for span in spans]
    has_critic = any(errors) or any(ranks)

    figure = Figure(figsize=(9.0, 6.2 if has_critic else 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(
        2 if has_critic else 1, 1, sharex=True, squeeze=False, height_ratios=[2.3, 1] if has_critic else [1]
    )
    top = rows[0][0]
    _draw_bleu(top, spans, bleu)
    if has_critic:
        _draw_critic(rows[1][0], errors, ranks)
    for row in rows[:, 0]:
        _dress(row, spans)
    _name_stages(top, spans)
    rows[-1][0].set_xlabel(unit, color=_INK)
    if title:
        figure.suptitle(title, fontsize=11, color=_INK)
    with replacing(Path(png_path)) as temporary:
        figure.savefig(temporary, format="png")
    return Path(png_path)


def _specs_of(folder: Path) -> dict[str, StageSpec]:
    """The stages of the run in a folder by name; those of the package where its algorithm is not known."""
    try:
        algorithm = find_algorithm(str(RunRecord.read(folder).settings["algorithm"]))
    except (ValueError, KeyError, OSError, UserCodeError):
        return SPECS
    return {spec.name: spec for spec in algorithm.specs}


def _lay_out(records: Sequence[Record], axis: str) -> tuple[list[tuple[float, Record]], list[_Span], str]:
    """Records of train and dev on one axis as (position, record), the spans of the stages, the axis label."""
    key = "time" if axis == "time" else "step"
    placed: list[tuple[float, Record]] = []
    spans: list[_Span] = []
    for record in records:
        if record.get("kind") not in ("train", "dev") or record.get(key) is None:
            continue
        stage, value = str(record.get("stage")), float(record[key])
        if not spans or spans[-1].stage != stage:
            start = spans[-1].end if spans else 0.0
            spans.append(_Span(stage, start, start))
        position = spans[-1].start + value
        spans[-1] = spans[-1]._replace(end=max(spans[-1].end, position))
        placed.append((position, record))
    if axis != "time":
        return placed, spans, "updates"
    seconds = spans[-1].end if spans else 0.0
    scale, unit = (
        (3600.0, "hours") if seconds > 10800 else (60.0, "minutes") if seconds > 180 else (1.0, "seconds")
    )
    placed = [(position / scale, record) for position, record in placed]
    spans = [span._replace(start=span.start / scale, end=span.end / scale) for span in spans]
    return placed, spans, f"wall time ({unit})"


def _points(placed: Sequence[tuple[float, Record]], stage: str, names: Sequence[str]) -> list[Point]:
    """The values of the first name that the stage logged at all."""
    for name in names:
        points = [
            (position, float(record[name]))
            for position, record in placed
            if record.get("stage") == stage and record.get(name) is not None
        ]
        if points:
            return points
    return []


def _draw_bleu(axes: Any, spans: Sequence[_Span], bleu: dict[str, list[Point]]) -> None:
    for span in spans:
        points = bleu[span.stage]
        if points:
            axes.plot(
                *zip(*points, strict=True), color=span.colour, linewidth=1.6, marker="o", markersize=3.2
            )
    values = [value for points in bleu.values() for _, value in points]
    best_of = {stage: max(points, key=lambda point: point[1]) for stage, points in bleu.items() if points}
    for span in spans:
        if span.stage in best_of:
            x, y = best_of[span.stage]
            axes.plot(
                [x], [y], "o", markersize=9, markerfacecolor="none", color=span.colour, markeredgewidth=1.4
            )
    right = spans[-1].end
    seen = [(span.spec, span.stage) for span in spans if span.spec and span.stage in best_of]
    final = [(spec, stage) for spec, stage in seen if spec.has("actor")]
    first = next(((spec, stage) for spec, stage in seen if spec.likelihood), None)
    if first is not None:
        x, y = best_of[first[1]]
        axes.plot([x, right], [y, y], linestyle=(0, (5, 3)), color=first[0].colour, linewidth=1.1)
        _label(axes, f"MLE best {y:.2f}", (right, y), first[0].colour, below=bool(final))
    for spec, stage in final:
        x, y = best_of[stage]
        gain = f" ({y - best_of[first[1]][1]:+.2f})" if first is not None else ""
        _label(axes, f"best {y:.2f}{gain}", (x, y), spec.colour, below=False)
    # The first epochs start near zero; let them run in from below rather than flatten what follows.
    ordered = sorted(values)
    low = ordered[len(ordered) // 6 if final else 0]
    room = max(ordered[-1] - low, 0.5)
    axes.set_ylim(max(low - 0.12 * room, -0.02 * room), ordered[-1] + 0.16 * room)
    axes.set_ylabel("BLEU on the validation set", color=_INK)
    axes.tick_params(axis="y", labelcolor=_INK, color="#c8ccd2")


def _label(axes: Any, text: str, at: Point, colour: str, *, below: bool) -> None:
    low, high = axes.get_xlim()
    at_right = at[0] > low + 0.8 * (high - low)
    axes.annotate(
        text, at, textcoords="offset points", xytext=(0, -6 if below else 8), color=colour, fontsize=9,
        ha="right" if at_right else "center", va="top" if below else "bottom", fontweight="bold",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.0},
    )  # fmt: skip


def _draw_critic(axes: Any, errors: Sequence[list[Point]], ranks: Sequence[list[Point]]) -> None:
    for points in filter(None, errors):
        axes.plot(*zip(*points, strict=True), color=_TD_ERROR, linewidth=1.5, marker="o", markersize=2.6)
    if any(errors):
        axes.set_ylabel("mean |TD error|", color=_TD_ERROR)
        axes.tick_params(axis="y", colors=_TD_ERROR)
        axes.set_ylim(bottom=0.0)
    if any(ranks):
        other = axes.twinx() if any(errors) else axes
        for points in filter(None, ranks):
            other.plot(
                *zip(*points, strict=True),
                color=_RANK,
                linewidth=1.5,
                marker="s",
                markersize=2.6,
                linestyle="--",
            )
        other.set_ylabel("critic's rank correlation", color=_RANK)
        other.tick_params(axis="y", colors=_RANK)
        lowest = min(value for points in ranks for _, value in points)
        other.set_ylim(min(0.0, lowest - 0.05), 1.0)
        for side in ("top", "left", "bottom"):
            other.spines[side].set_visible(False)
        other.spines["right"].set_color("#c8ccd2")


def _dress(axes: Any, spans: Sequence[_Span]) -> None:
    right = (spans[-1].end or 1.0) * 1.012  # room for the last marker
    for span in spans:
        end = right if span is spans[-1] else span.end
        axes.axvspan(span.start, end, color=span.colour, alpha=0.07, linewidth=0)
    for span in spans[1:]:
        axes.axvline(span.start, color="#c8ccd2", linewidth=0.9)
    axes.set_xlim(spans[0].start, right)
    axes.grid(axis="y", color="#e3e6ea", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", labelcolor=_INK, color="#c8ccd2")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#c8ccd2")


def _name_stages(axes: Any, spans: Sequence[_Span]) -> None:
    """The name of each stage above its part; the first word alone, or nothing, where that is narrow."""
    whole = spans[-1].end - spans[0].start or 1.0
    for span in spans:
        share = (span.end - span.start) / whole
        text = span.label if share > 0.0115 * len(span.label) else span.label.split()[0]
        if share > 0.0115 * len(text):
            axes.text(
                (span.start + span.end) / 2, 1.015, text, transform=axes.get_xaxis_transform(),
                ha="center", va="bottom", color=span.colour, fontsize=9.5, fontweight="bold",
            )  # fmt: skip
