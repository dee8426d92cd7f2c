"""Two records of the same benchmarks, such as of two commits: how many times faster the second is.

    python -m benchmarks.compare BEFORE AFTER [--below RATIO]

BEFORE and AFTER are folders with `*-cpu.json` of one machine. A ratio is our time before over our time after. Where both
records hold an eager contender, its ratio stands beside: how much the machine itself changed between the runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks._harness import print_table

CASE = (
    "operator",
    "stage",
    "pass",
    "proposal",
    "rows",
    "hidden",
    "vocabulary",
    "sources",
    "samples",
    "references",
    "length",
)
CASE = (*CASE, "dtype", "bfloat16_products")
OURS = ("ours", "sum", "rows", "whole", "ours batch")
YARDSTICKS = ("eager", "published", "dense", "loop")


def cases(path: Path) -> Iterator[tuple[tuple[object, ...], Mapping[str, Any]]]:
    """What was measured and the timings of each contender."""
    for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
        case = tuple(str(row[name]).removeprefix("linear_") for name in CASE if name in row)
        yield case, row.get("times", row)


def median(times: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    """The median of the first contender that was timed."""
    for name in names:
        if isinstance(times.get(name), dict) and "median" in times[name]:
            return float(times[name]["median"])
    return None


def main() -> None:
    """Compare the records named on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--below", type=float, default=float("inf"), help="print ratios below this alone")
    options = parser.parse_args()
    table = []
    for path in sorted(options.after.glob("*-cpu.json")):
        if not (options.before / path.name).exists():
            continue
        before = dict(cases(options.before / path.name))
        for case, times in cases(path):
            if case not in before:
                continue
            then, yardsticks = median(before[case], YARDSTICKS), median(times, YARDSTICKS)
            machine = "" if then is None or yardsticks is None else f"{then / yardsticks:.2f}"
            for ours in OURS:
                old, new = median(before[case], (ours,)), median(times, (ours,))
                if old is None or new is None or old / new >= options.below:
                    continue
                name = path.name.removesuffix("-cpu.json")
                table.append([name, " ".join(map(str, case)), ours, f"{old / new:.2f}", machine])
    print_table(["benchmark", "case", "contender", "before / after", "yardstick before / after"], table)


if __name__ == "__main__":
    main()
