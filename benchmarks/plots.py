"""Figures of the recorded runs in benchmarks/results/.

    python -m benchmarks.plots [--figures bandwidth memory training scaling] [--results DIR] [--images DIR]

| figure | from | what it shows |
|---|---|---|
| scaling_bandwidth.png | scaling-cpu.json | necessary bytes over time, beside a read and copies in the same rounds |
| scaling_memory.png | scaling-cpu.json | peak memory of a loss and its gradients with whole logits and without |
| training_parts.png | training-cpu.json, with `--profile` | where an update of each stage spends its time |
| scaling.png | scaling-cpu.json | time against size with fitted exponents |"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from benchmarks._harness import ROOT

INK, PALE = "#30343b", "#d5d8dc"
# The palette of Okabe and Ito, which the colour-blind can tell apart.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
STYLES: dict[str, dict[str, Any]] = {
    "ours": {"color": BLUE, "marker": "o"},
    "eager": {"color": VERMILION, "marker": "s"},
    "compiled": {"color": GREEN, "marker": "^"},
    "dense": {"color": VERMILION, "marker": "s"},
    "sum": {"color": BLUE, "marker": "o"},
    "rows": {"color": SKY, "marker": "D"},
    "whole": {"color": PURPLE, "marker": "v"},
}
HEAD_NAMES = {
    "sum": "head, sum",
    "rows": "head, rows",
    "whole": "whole logits, ours",
    "eager": "whole logits, eager",
}
STREAMS = {
    "read": ("reading", 1, "solid"),
    "copy": ("copying", 2, "dashed"),
    "copy_to_new": ("copying to new memory", 2, "dotted"),
}
# Panels of the scaling figure: title, axis, operators that begin with one of these.
PANELS = (
    ("operators on logits", "V", ("soft_value", "policy_value", "sample_tokens")),
    ("hidden states to loss and gradients", "V", ("head: ", "linear_")),  # "linear_": records of before
    ("rows", "N", ("policy_value",)),
    ("length: residual and edit distance", "T", ("soft_bellman_residual", "prefix_edit_distance")),
    ("length: prefix BLEU and edits", "T", ("prefix_bleu", "sample_edits")),
    ("sequences for each source", "K", ("prefix_bleu", "weighted_batch")),
)
AXES = {
    "V": "vocabulary V",
    "N": "rows N",
    "T": "length T (tokens)",
    "K": "sequences for each source K",
}
Content = Mapping[str, Any]


def bandwidth(scaling: Content) -> Figure:
    """Bytes a second over V, a panel an operator."""
    rows = [row for row in scaling["rows"] if row["axis"] == "V" and row["streams"]]
    if not rows:
        raise ValueError("no sweep of an operator over V: run benchmarks.scaling with --axes V")
    figure = _figure(3.0 * len(rows) + 0.3, 4.4)
    panels = figure.subplots(1, len(rows), sharey=True, squeeze=False)[0]
    names: dict[str, Any] = {}
    for panel, row in zip(panels, rows, strict=True):
        for stream, (name, moved, style) in STREAMS.items():
            speed = moved * row["stream_bytes"] / row["streams"][stream]["median"] / 1e9
            names[name] = panel.axhline(speed, color=INK, linewidth=1.0, linestyle=style)
        matrices = row["matrices_read"] + row["matrices_written"]
        moved_bytes = [
            matrices * size / units
            for size, units in zip(row["matrix_bytes"], row["units_of_a_call"], strict=True)
        ]
        for name, found in row["contenders"].items():
            speeds = {
                quantile: [b / t[quantile] / 1e9 for b, t in zip(moved_bytes, found["times"], strict=True)]
                for quantile in ("median", "lower_quartile", "upper_quartile")
            }
            (names[name],) = panel.plot(
                row["sizes"], speeds["median"], clip_on=False, zorder=3, **_line(STYLES[name])
            )
            panel.fill_between(
                row["sizes"], speeds["upper_quartile"], speeds["lower_quartile"],
                color=STYLES[name]["color"], alpha=0.2, linewidth=0,
            )  # fmt: skip
        operator, _, which = row["operator"].partition(", ")
        panel.set_title(f"{operator}\n{which}", fontsize=11, color=INK)
        _grow(panel, row["sizes"])
        panel.set_xlabel(AXES["V"])
        _dress(panel)
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("necessary bytes / time (GB/s)")
    figure.legend(names.values(), names.keys(), loc="outside upper center", ncols=6, frameon=False)
    _note(figure, scaling, f"float32, {rows[0]['fixed']}; bands: quartiles")
    return figure


def memory(scaling: Content) -> Figure:
    """Peak bytes over V of a loss and its gradients."""
    row = next((row for row in scaling["rows"] if "logits_bytes" in row), None)
    if row is None:
        raise ValueError("no sweep of a linear operator over V: run benchmarks.scaling with --axes V")
    figure = _figure(8.0, 5.2)
    panel = figure.subplots()
    logits = [size / 1e6 for size in row["logits_bytes"]]
    panel.plot(row["sizes"], logits, color=INK, linewidth=1.0, linestyle="dashed")
    labels: list[tuple[float, str, Mapping[str, Any]]] = [
        (logits[-1], "one matrix of logits", {"color": INK, "linestyle": "dashed"})
    ]
    for name, found in row["contenders"].items():
        peaks = [size / 1e6 for size in found["peak_bytes"]]
        panel.plot(row["sizes"], peaks, **_line(STYLES[name]))
        labels.append((peaks[-1], f"{HEAD_NAMES[name]}: {_megabytes(peaks[-1])}", STYLES[name]))
    panel.set_yscale("log")
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _megabytes(value)))
    _grow(panel, row["sizes"])
    panel.set_xlabel(AXES["V"])
    panel.set_ylabel("peak memory of a call, results included")
    panel.set_title(f"{row['operator']}, {row['fixed']}, float32", loc="left", fontsize=11, color=INK)
    _dress(panel)
    _label_ends(panel, labels)
    _note(figure, scaling, "torch's own record of its allocations", timed=False)
    return figure


def training(content: Content) -> Figure:
    """Milliseconds of every part of an update, a panel a stage."""
    rows = [row for row in content["rows"] if row.get("parts")]
    if not rows:
        raise ValueError("no stage has its parts: run benchmarks.training with --profile")
    counts = [len(row["parts"]) for row in rows]
    figure = _figure(8.0, 1.0 + 0.55 * len(rows) + 0.27 * sum(counts))
    panels = figure.subplots(len(rows), 1, sharex=True, squeeze=False, height_ratios=[1 + n for n in counts])
    for panel, row in zip(panels[:, 0], rows, strict=True):
        parts = sorted(row["parts"].items(), key=lambda item: item[1])
        total = sum(row["parts"].values())
        values = [seconds * 1e3 for _, seconds in parts]
        bars = panel.barh([name for name, _ in parts], values, color=BLUE, height=0.72)
        panel.bar_label(
            bars,
            [f"{value:.1f} ms, {_percent(value / 1e3 / total)}" for value in values],
            padding=4,
            color=INK,
        )
        title = f"{row['stage']}, {row['sources']} x {row['sequences_per_source']}: {total * 1e3:.0f} ms an update"
        panel.set_title(title, loc="left", fontsize=11, color=INK)
        _dress(panel)
        panel.grid(visible=False)  # every bar carries its number
        panel.tick_params(axis="y", length=0)
    panels[0, 0].set_xlim(right=1.22e3 * max(max(row["parts"].values()) for row in rows))
    panels[-1, 0].set_xlabel("time of an update (ms)")
    _note(figure, content, "")
    return figure


def scaling(content: Content) -> Figure:
    """Time over size, log-log, with the exponent of every line in the legends."""
    figure = _figure(8.8, 12.8)
    figure.set_layout_engine("constrained", hspace=0.05)
    panels = figure.subplots(3, 2).flat
    for panel, (title, axis, starts) in zip(panels, PANELS, strict=True):
        rows = [row for row in content["rows"] if row["axis"] == axis and row["operator"].startswith(starts)]
        if not rows:
            raise ValueError(f"no sweep over {axis}: run benchmarks.scaling without --axes")
        colours = dict(zip((row["operator"] for row in rows), (BLUE, GREEN, PURPLE, ORANGE), strict=False))
        for row in rows:
            single = len(rows) == 1
            operator = row["operator"].removesuffix(", with gradient").removesuffix(", forward")
            for name, found in row["contenders"].items():
                if name == "compiled":  # grows as eager does: the tables have it
                    continue
                style = dict(STYLES[name])
                if not single:
                    style["color"] = colours[row["operator"]]
                slope = f"${axis}^{{{found['exponent_of_largest']['median']:.2f}}}$"
                shown = (
                    HEAD_NAMES[name] if operator.startswith(("head: ", "linear_")) else f"{operator}, {name}"
                )
                line = _line(style)
                if name in ("eager", "dense") and not single:
                    line |= {
                        "linestyle": "dashed",
                        "markerfacecolor": "white",
                    }
                medians = [timing["median"] for timing in found["times"]]
                panel.plot(row["sizes"], medians, label=f"{shown}: {slope}", **line)
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _seconds(value)))
        _grow(panel, sorted({size for row in rows for size in row["sizes"]}))
        panel.set_xlabel(AXES[axis])
        panel.set_ylabel(f"time of a {rows[0]['unit']}")
        panel.set_title(title, fontsize=11, color=INK)
        _dress(panel)
        panel.legend(
            loc="upper left", bbox_to_anchor=(-0.03, -0.2), frameon=False,
            fontsize=9.5, labelcolor=INK, handlelength=2.4,
        )  # fmt: skip
    _note(figure, content, "exponents: least squares over the three largest sizes")
    return figure


FIGURES: dict[str, tuple[Callable[[Content], Figure], str, str]] = {
    "bandwidth": (bandwidth, "scaling-cpu.json", "scaling_bandwidth.png"),
    "memory": (memory, "scaling-cpu.json", "scaling_memory.png"),
    "training": (training, "training-cpu.json", "training_parts.png"),
    "scaling": (scaling, "scaling-cpu.json", "scaling.png"),
}


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _line(style: Mapping[str, Any]) -> dict[str, Any]:
    return {"linewidth": 1.8, "markersize": 5.5, **style}


def _grow(panel: Any, sizes: Sequence[int]) -> None:
    """A log axis whose ticks are the sizes."""
    panel.set_xscale("log")
    axis = panel.xaxis
    axis.set_ticks(sizes, [f"{size // 1024}k" if size % 1024 == 0 else str(size) for size in sizes])
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _dress(panel: Any) -> None:
    panel.grid(color=PALE, linewidth=0.7)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        panel.spines[side].set_color(PALE)
    panel.tick_params(which="both", color=PALE, labelcolor=INK, labelsize=10)
    for label in (panel.xaxis.label, panel.yaxis.label):
        label.set(color=INK, fontsize=10.5)


def _label_ends(
    panel: Any, labels: Sequence[tuple[float, str, Mapping[str, Any]]], gap: float = 0.055
) -> None:
    """Names the lines right of their last points, moved apart where they would cover each other."""
    panel.figure.canvas.draw()  # the limits are known from here on
    frame = panel.transAxes
    place = -gap
    for value, text, style in sorted(labels, key=lambda label: label[0]):
        place = max(place + gap, frame.inverted().transform(panel.transData.transform((1, value)))[1])
        line = dict(style) | {"transform": frame, "clip_on": False, "scalex": False, "scaley": False}
        panel.plot([1.01, 1.03, 1.05], [place] * 3, markevery=[1], **line)
        panel.text(1.07, place, text, transform=frame, va="center", color=INK, fontsize=10.5)


def _megabytes(size: float) -> str:
    return f"{size / 1e3:.3g} GB" if size >= 1e3 else f"{size:.3g} MB"


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %") if share >= 0.005 else "< 1 %"


def _seconds(seconds: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 0.999 or unit == "us":
            break
    return f"{seconds * scale:.3g} {unit}"


def _note(figure: Figure, content: Content, text: str, *, timed: bool = True) -> None:
    """The machine below the figure."""
    machine = content["environment"]
    clocks = sorted({row["clock"] for row in content["rows"] if row.get("axis") != "threads"})
    facts = [
        text,
        machine["cpu"],
        f"threads: {machine['threads']}; {' and '.join(clocks)} time" if timed else "",
        f"torch {machine['torch']}",
        f"commit {machine['commit'][:7]}, {machine['date'][:10]}",
    ]
    lines = textwrap.wrap("; ".join(filter(None, facts)), int(12 * figure.get_figwidth()))
    figure.supxlabel("\n".join(lines), fontsize=9, color="#666b73")


def draw(name: str, results: Path, images: Path) -> Path:
    """Draws one figure; FileNotFoundError names the benchmark that writes its file."""
    make, source, target = FIGURES[name]
    if not (results / source).is_file():
        benchmark = source.partition("-")[0]
        raise FileNotFoundError(
            f"{results / source} is missing: python -m benchmarks.{benchmark} --json {results / source}"
        )
    figure = make(json.loads((results / source).read_text()))
    images.mkdir(parents=True, exist_ok=True)
    temporary = images / f".{target}.part"
    figure.savefig(temporary, format="png", metadata={"Software": None})
    return temporary.replace(images / target)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--figures", nargs="+", choices=list(FIGURES), default=list(FIGURES))
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="recorded runs")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images", help="where the PNGs go")
    arguments = parser.parse_args(argv)
    for name in arguments.figures:
        try:
            print(draw(name, arguments.results, arguments.images))
        except (FileNotFoundError, ValueError) as error:
            parser.exit(1, f"{name}: {error}\n")


if __name__ == "__main__":
    main()
