"""Exponents of growth, the record of a sweep, and the tables made of such records."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks._harness import (
    Comparison,
    Timing,
    as_record,
    format_ratio,
    format_seconds,
    format_table,
    summarize,
)
from benchmarks._scaling_sweeps import Sweep

LARGEST = 3  # sizes of the second exponent, which a call's fixed cost bends less
HEADER = (
    "operator",
    "contender",
    "fixed",
    "sizes",
    "of a",
    "time at the smallest",
    "at the largest",
    "exponent",
    f"of the largest {LARGEST}",
    "peak memory",
    "its exponent",
)
THREADS_HEADER = ("operator", "fixed", "threads", "wall time", "times faster", "fastest round", "same bits")
TITLES = {
    "V": "### Vocabulary V",
    "N": "### Rows N",
    "T": "### Length T",
    "K": "### Sequences for each source, K",
    "threads": "### Threads",
}
START, END = "<!-- tables: python -m benchmarks.scaling --table -->", "<!-- end of the tables -->"


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope b of the least squares line through (log size, log value): value ~ size^b.

    ValueError where fewer than two sizes differ or a number is not positive.
    """
    if min(*sizes, *values) <= 0 or len(set(sizes)) < 2:
        raise ValueError("a power law needs two sizes or more, and positive numbers")
    return statistics.linear_regression(list(map(math.log, sizes)), list(map(math.log, values))).slope


def exponents(sizes: Sequence[float], times: Sequence[Sequence[float]]) -> Timing:
    """Median and quartiles of the slopes of all rounds; `times` are by size, then by round."""
    return summarize([exponent(sizes, of_round) for of_round in zip(*times, strict=True)])


def key(contender: str, size: int) -> str:
    """The name under which `compare` times a contender at a size."""
    return f"{contender} {size}"


def record(sweep: Sweep, comparison: Comparison) -> dict[str, Any]:
    """What is stored of a sweep: seconds and bytes of one unit by size, and their exponents."""
    sizes = list(sweep.sizes)
    units = list(sweep.units) or [1] * len(sizes)
    contenders: dict[str, dict[str, Any]] = {}
    for name in sweep.contenders:
        times = [
            [seconds / unit for seconds in comparison.rounds[key(name, size)]]
            for size, unit in zip(sizes, units, strict=True)
        ]
        contenders[name] = {
            "times": [as_record(summarize(of_size)) for of_size in times],
            "exponent": as_record(exponents(sizes, times)),
            "exponent_of_largest": as_record(exponents(sizes[-LARGEST:], times[-LARGEST:])),
        }
        if name in sweep.peaks:
            peaks = [peak / unit for peak, unit in zip(sweep.peaks[name], units, strict=True)]
            contenders[name] |= {"peak_bytes": peaks, "peak_exponent": exponent(sizes, peaks)}
    first = next(iter(sweep.contenders))
    ratios = {
        name: [as_record(comparison.ratio(key(name, size), key(first, size))) for size in sizes]
        for name in sweep.contenders
        if name != first
    }
    content = {
        "operator": sweep.operator,
        "axis": sweep.axis,
        "fixed": sweep.fixed,
        "sizes": sizes,
        "unit": sweep.unit,
        "units_of_a_call": units,
        "contenders": contenders,
        "ratios_to_the_first": ratios,
        "streams": {name: as_record(comparison.timings[name]) for name in sweep.streams},
        **sweep.facts,
    }
    if sweep.axis == "threads":
        content["speed_up"] = [
            as_record(comparison.ratio(key(first, sizes[0]), key(first, size))) for size in sizes
        ]
        content["fastest"] = [min(comparison.rounds[key(first, size)]) for size in sizes]
    return content


def tables(content: Mapping[str, Any]) -> str:
    """The machine and a Markdown table for each axis, of a file that `benchmarks.scaling` wrote."""
    machine, rows = content["environment"], content["rows"]
    clocks = sorted({row["clock"] for row in rows if row["axis"] != "threads"})
    rounds = sorted(
        {t["repetitions"] for row in rows for c in row["contenders"].values() for t in c["times"]}
    )
    parts = [
        f"`{machine['command']}`, commit {machine['commit'][:7]}"
        f"{' with uncommitted changes' if machine['uncommitted_changes'] else ''}, {machine['date'][:10]}: "
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_average'][0]:.1f}, torch "
        f"{machine['torch']}, threads: {machine['threads']}; {' and '.join(clocks) or 'wall'} time; medians and "
        f"quartiles of {' or '.join(map(str, rounds))} rounds."
    ]
    for axis, title in TITLES.items():
        of_axis = [row for row in rows if row["axis"] == axis]
        if of_axis:
            lines = _thread_lines(of_axis) if axis == "threads" else _lines(of_axis)
            parts += [title, format_table(THREADS_HEADER if axis == "threads" else HEADER, lines)]
    return "\n\n".join(parts)


def _lines(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    lines = []
    for row in rows:
        for name, found in row["contenders"].items():
            peaks = found.get("peak_bytes")
            lines.append(
                [
                    row["operator"],
                    name,
                    row["fixed"],
                    f"{row['sizes'][0]:,} to {row['sizes'][-1]:,}",
                    row["unit"],
                    format_seconds(Timing(**found["times"][0])),
                    format_seconds(Timing(**found["times"][-1])),
                    _format_exponent(Timing(**found["exponent"])),
                    _format_exponent(Timing(**found["exponent_of_largest"])),
                    f"{_format_bytes(peaks[0])} to {_format_bytes(peaks[-1])}" if peaks else "-",
                    f"{found['peak_exponent']:.2f}" if peaks else "-",
                ]
            )
    return lines


def _thread_lines(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    lines = []
    for row in rows:
        for i, count in enumerate(row["sizes"]):
            found = row["contenders"]["ours"]["times"][i]
            lines.append(
                [
                    row["operator"],
                    row["fixed"],
                    str(count),
                    format_seconds(Timing(**found)),
                    format_ratio(Timing(**row["speed_up"][i])),
                    f"{row['fastest'][i] * 1e3:.3g} ms",
                    "yes" if row["same_bits"] else "no",
                ]
            )
    return lines


def _format_exponent(slope: Timing) -> str:
    return f"{slope.median:.2f} ({slope.lower_quartile:.2f} to {slope.upper_quartile:.2f})"


def _format_bytes(size: float) -> str:
    unit, scale = next(
        ((unit, scale) for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if size >= scale),
        ("B", 1.0),
    )
    return f"{size / scale:.3g} {unit}"
