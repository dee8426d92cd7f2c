"""The goals of the CPU kernels and training steps beside the recorded runs, as Markdown tables.

    python -m benchmarks.report [--results DIR] [--page docs/performance.md]

Reads the figures of kernels, linear, bleu, edits and training (float32, bfloat16) in `benchmarks/results/*-cpu.json`. A
ratio is a peer's time over ours. With `--page` the tables go between the page's two marks, else they are printed. Goals are
the project's own; medians are compared with them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks._harness import ROOT, format_table, replace_between

START, END = "<!-- tables: python -m benchmarks.report -->", "<!-- end of the tables -->"
RESULTS = ROOT / "benchmarks" / "results"


class Goal(NamedTuple):
    """A figure and what it should at least, or at most, be."""

    what: str
    at: str
    figure: str
    bound: float
    value: Mapping[str, float] | float  # one number, or median and quartiles
    at_most: bool = False
    unit: Callable[[float], str] = "{:.3g}".format

    @property
    def met(self) -> bool:
        median = self.value if isinstance(self.value, float) else self.value["median"]
        return median <= self.bound if self.at_most else median >= self.bound

    @property
    def cell(self) -> str:
        """What was measured, with quartiles, and the goal where it is missed."""
        if isinstance(self.value, float):
            measured = self.unit(self.value)
        else:
            ends = (self.unit(self.value[f"{side}_quartile"]) for side in ("lower", "upper"))
            measured = f"{self.unit(self.value['median'])} ({' to '.join(ends)})"
        sign = "at most" if self.at_most else "at least"
        return measured if self.met else f"{measured}: missed, {sign} {self.unit(self.bound)}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _kernels(rows: Sequence[Mapping[str, Any]], memory: str = "") -> Iterator[Goal]:
    for row in rows:
        if row["dtype"] != "float32":
            continue
        name, at = f"{row['operator']}, {row['pass']}", f"{row['rows']} x {row['vocabulary']}{memory}"
        ratios = row["ratios_to_ours"]
        if row["operator"] == "sample_tokens":
            yield Goal(name, at, "eager / ours", 5.0, ratios["eager"])
            continue
        erac = row["operator"] == "erac_critic_loss"
        yield Goal(
            name, at, "eager / ours", 5.0 if erac and row["pass"] != "backward" else 3.0, ratios["eager"]
        )
        if erac and row["pass"] == "forward":
            yield Goal(
                name, at, "bytes held a row", 64.0, row["peak_bytes"]["ours"] / row["rows"], at_most=True
            )
        if not erac:
            yield Goal(name, at, "compiled / ours", 1.5, ratios["compiled"])
            yield Goal(name, at, "share of the memory's limit", 0.7, row["share_of_limit"], unit=_percent)


def _linear(rows: Sequence[Mapping[str, Any]]) -> Iterator[Goal]:
    for row in rows:
        at = f"{row['rows']} x {row['hidden']} x {row['vocabulary']}"
        for form, words in (("sum", "reduced"), ("rows", "row by row")):
            if form not in row["times"]:
                continue
            name = f"{row['operator']}, {words}"
            yield Goal(name, at, "eager / ours", 1.0, row["ratios"][f"eager/{form}"])
            share = row["share_of_logits"][form]
            yield Goal(name, at, "memory, of the logits", 0.05, share, at_most=True, unit=_percent)


def _bleu(rows: Sequence[Mapping[str, Any]]) -> Iterator[Goal]:
    for row in rows:
        if (row["sources"], row["samples"]) == (50, 5):
            at = f"50 x 5 x {row['length']} tokens, {row['references']} references"
            yield Goal("prefix_bleu", at, "sacrebleu a prefix / ours", 1000.0, row["sacrebleu_over_ours"])
            yield Goal("prefix_bleu", at, "dense n-grams / ours", 20.0, row["dense_over_ours"])


def _edits(rows: Sequence[Mapping[str, Any]]) -> Iterator[Goal]:
    for row in rows:
        at = f"{row['sources']} x {row['samples']} x {row['length']} tokens"
        yield Goal(f"sample_edits, {row['proposal']}", at, "Python loop / ours", 100.0, row["loop over ours"])


def _training(rows: Sequence[Mapping[str, Any]], products: str = "") -> Iterator[Goal]:
    goals = {"mle": 1.0, "joint": 3.0, "oracle": 3.0}
    for row in rows:
        if row["stage"] in goals:
            at = f"{row['sources']} x {row['sequences_per_source']} sequences"
            ratio = row["published_over_ours"]
            yield Goal(
                f"update, {row['stage']}{products}", at, "published / ours", goals[row["stage"]], ratio
            )


# By the name of the file.
GOALS: dict[str, Callable[[Sequence[Mapping[str, Any]]], Iterator[Goal]]] = {
    "kernels": _kernels,
    "kernels-keep-memory": partial(_kernels, memory=", memory kept"),
    "linear": _linear,
    "bleu": _bleu,
    "edits": _edits,
    "training": _training,
    "training-bfloat16": partial(_training, products=", bfloat16 products"),
}


def table(goals: Sequence[Goal]) -> str:
    """A line for each operator and size, a column for each figure."""
    figures = list(dict.fromkeys(goal.figure for goal in goals))
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for goal in goals:
        lines.setdefault((goal.what, goal.at), {})[goal.figure] = goal.cell
    cells = [[*names, *(found.get(figure, "-") for figure in figures)] for names, found in lines.items()]
    return format_table(("what", "at", *figures), cells)


def report(results: Path) -> str:
    """A table for each file, each with the run behind it."""
    goals: list[Goal] = []
    parts = []
    for name, goals_of in GOALS.items():
        content = json.loads((results / f"{name}-cpu.json").read_text())
        found = list(goals_of(content["rows"]))
        run = content["environment"]
        parts += [
            table(found),
            f"`{run['command']}`: commit {run['commit'][:7]}, {run['date'][:10]}, {run['cpu']}, {run['cores']} cores, "
            f"torch {run['torch']}, load {run['load_average'][0]:.1f}.",
        ]
        goals += found
    met = sum(goal.met for goal in goals)
    return "\n\n".join([f"{met} of {len(goals)} goals are met.", *parts])


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the recorded runs")
    parser.add_argument("--page", type=Path, help="the page whose table this is")
    arguments = parser.parse_args(argv)
    for name in GOALS:
        file = arguments.results / f"{name}-cpu.json"
        if not file.is_file():
            parser.error(f"{file} is missing: record it, see benchmarks/README.md")
    text = report(arguments.results)
    if arguments.page is None:
        print(text)
    else:
        replace_between(arguments.page, START, END, text)


if __name__ == "__main__":
    main()
