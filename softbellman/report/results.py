"""The table of finished runs as text, Markdown or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from softbellman.experiments.summaries import PairedDifference, Summary, summarise
from softbellman.experiments.table import ResultTable
from softbellman.report.tables import format_table
from softbellman.report.titles import METRIC_TITLES

Format = Literal["text", "markdown", "json"]

_SCORES = {"bleu": "BLEU", **METRIC_TITLES, "ter": "TER"}
_SMALL = 10.0
"""Numbers other than these scores, of 0 to 100, are shown with three decimals where all are below this."""


def render(table: ResultTable, *, format: Format = "text", per_seed: bool = False) -> str:
    """The table as text, Markdown or JSON. The warnings are in the JSON alone."""
    if format == "json":
        return json.dumps(as_record(table), indent=1, ensure_ascii=False)
    markdown = format == "markdown"
    parts = [_draw(_seed_rows(table) if per_seed else _group_rows(table), markdown)]
    if table.comparisons:
        parts.append(_draw(_difference_rows(table, per_seed), markdown))
    return "\n\n".join([*parts, _notes(table, per_seed, markdown)])


def as_record(table: ResultTable) -> dict[str, Any]:
    """Everything in the table, unrounded, for JSON."""
    return {
        "groups": [
            {
                "name": group.name,
                "system": group.system,
                "differing_settings": dict(group.settings),
                "runs": [
                    {"run": str(result.run), "seed": seed, "stage": result.stage,
                     "metrics": {name: result.metrics.get(name) for name in table.metrics}}
                    for seed, result in group.results.items()
                ],
                "summary": {
                    name: _summary_record(summarise(group.values(name).values())) for name in table.metrics
                },
            }
            for group in table.groups
        ],
        "differences": [
            {
                "group": comparison.group.name,
                "baseline": comparison.baseline.name,
                "metrics": {
                    name: {
                        "summary": _summary_record(difference.summary),
                        "agreeing_in_sign": difference.agreeing,
                        "by_seed": dict(difference.by_seed),
                    }
                    for name, difference in comparison.differences.items()
                },
            }
            for comparison in table.comparisons
        ],
        "signatures": list(table.signatures),
        "warnings": list(table.warnings),
    }  # fmt: skip


def _summary_record(summary: Summary | None) -> dict[str, Any] | None:
    if summary is None:
        return None
    return {"count": summary.size, "mean": summary.mean, "standard_deviation": summary.deviation}


def title(metric: str) -> str:
    """A column's title: test_bleu is `test BLEU`, length_ratio `length ratio`."""
    for prefix, words in (("dev_", "validation "), ("test_", "test ")):
        if metric.startswith(prefix):
            short = metric.removeprefix(prefix)
            return words + _SCORES.get(short, short.replace("_", " "))
    return metric.replace("_", " ")


def _group_rows(table: ResultTable) -> list[dict[str, Any]]:
    digits = _digits(table)
    rows = []
    for group in table.groups:
        row: dict[str, Any] = {"system": group.name, "runs": len(group.results)}
        for name in table.metrics:
            row[title(name)] = _mean(summarise(group.values(name).values()), digits[name], len(group.results))
        rows.append(row)
    return rows


def _seed_rows(table: ResultTable) -> list[dict[str, Any]]:
    digits = _digits(table)
    rows = []
    for group in table.groups:
        for seed, result in group.results.items():
            row: dict[str, Any] = {"system": group.name, "seed": str(seed)}
            for name in table.metrics:
                value = result.metrics.get(name)
                row[title(name)] = None if value is None else f"{value:.{digits[name]}f}"
            rows.append(row)
        if len(group.results) > 1:
            found = {name: summarise(group.values(name).values()) for name in table.metrics}
            rows += _foot(group.name, found, digits, len(group.results))
    return rows


def _difference_rows(table: ResultTable, per_seed: bool) -> list[dict[str, Any]]:
    digits = _digits(table)
    rows: list[dict[str, Any]] = []
    for comparison in table.comparisons:
        pair = f"{comparison.group.name} - {comparison.baseline.name}"
        differences = comparison.differences
        seeds = [seed for seed in comparison.group.seeds if seed not in comparison.unpaired]
        if not per_seed:
            row: dict[str, Any] = {"difference": pair, "pairs": len(seeds)}
            for name in table.metrics:
                row[title(name)] = _agreement(differences.get(name), digits[name], len(seeds))
            rows.append(row)
            continue
        for seed in seeds:
            row = {"difference": pair, "seed": str(seed)}
            for name in table.metrics:
                value = differences[name].by_seed.get(seed) if name in differences else None
                row[title(name)] = None if value is None else f"{value:+.{digits[name]}f}"
            rows.append(row)
        if len(seeds) > 1:
            found = {name: difference.summary for name, difference in differences.items()}
            rows += _foot(pair, found, digits, len(seeds), sign="+")
            row = {"difference": pair, "seed": "agreeing in sign"}
            for name in table.metrics:
                if name in differences:
                    row[title(name)] = f"{differences[name].agreeing} of {differences[name].summary.size}"
            rows.append(row)
    return rows


def _foot(
    name: str, found: Mapping[str, Summary | None], digits: Mapping[str, int], count: int, *, sign: str = ""
) -> list[dict[str, Any]]:
    """The rows of mean and standard deviation below a group's seeds."""
    first = "difference" if sign else "system"
    mean: dict[str, Any] = {first: name, "seed": f"mean of {count}"}
    deviation: dict[str, Any] = {first: name, "seed": "standard deviation"}
    for metric, summary in found.items():
        if summary is not None:
            partial = f" ({summary.size})" if summary.size < count else ""
            mean[title(metric)] = f"{summary.mean:{sign}.{digits[metric]}f}{partial}"
            if summary.deviation is not None:
                deviation[title(metric)] = f"{summary.deviation:.{digits[metric]}f}"
    return [mean, deviation]


def _mean(summary: Summary | None, digits: int, runs: int, *, sign: str = "") -> str | None:
    """Mean ± sample standard deviation; how many numbers where not all of the group's runs logged one."""
    if summary is None:
        return None
    spread = "" if summary.deviation is None else f" ± {summary.deviation:.{digits}f}"
    partial = f" ({summary.size})" if summary.size < runs else ""
    return f"{summary.mean:{sign}.{digits}f}{spread}{partial}"


def _agreement(difference: PairedDifference | None, digits: int, pairs: int) -> str | None:
    if difference is None:
        return None
    mean = _mean(difference.summary, digits, pairs, sign="+")
    return f"{mean}, {difference.agreeing}/{difference.summary.size}"


def _digits(table: ResultTable) -> dict[str, int]:
    """Decimals of each metric: two of a score, of others by the largest number."""
    largest = {
        name: max(
            (abs(value) for group in table.groups for value in group.values(name).values()), default=0.0
        )
        for name in table.metrics
    }
    scores = {prefix + short for short in _SCORES for prefix in ("dev_", "test_")}
    return {name: 3 if value < _SMALL and name not in scores else 2 for name, value in largest.items()}


def _draw(rows: Sequence[Mapping[str, Any]], markdown: bool) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return format_table(rows, markdown=markdown, right=columns[2:])


def _notes(table: ResultTable, per_seed: bool, markdown: bool) -> str:
    """How the numbers are to be read."""
    notes = []
    if not per_seed:
        notes.append("mean ± sample standard deviation over the runs of a row")
    if table.comparisons:
        tail = "" if per_seed else "; then how many of them have the sign of their mean"
        notes.append(f"differences are paired by seed{tail}")
    unnamed: dict[str, tuple[str, ...]] = {
        group.system: group.unnamed for group in table.groups if group.unnamed
    }
    for system, keys in unnamed.items():
        notes.append(f"the groups of {system} differ in {', '.join(keys)} as well")
    quote = "`" if markdown else ""
    notes += [f"sacrebleu: {quote}{signature}{quote}" for signature in table.signatures]
    return ("\n\n" if markdown else "\n").join(notes)
