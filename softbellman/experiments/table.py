"""What a table of finished runs holds: one row a group of seeds, differences to a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from softbellman.experiments.collect import Collection, signatures
from softbellman.experiments.groups import Group, group_runs
from softbellman.experiments.summaries import Comparison, compare

_FIRST = ("dev_bleu", "test_bleu")


@dataclass(frozen=True)
class ResultTable:
    """What is printed.

    Attributes:
        groups: the rows.
        metrics: the columns, by the name they were logged under.
        comparisons: against the baseline; empty without one.
        signatures: of sacrebleu.
        warnings: sentences about runs left out and numbers that do not fit together.
    """

    groups: tuple[Group, ...]
    metrics: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    signatures: tuple[str, ...]
    warnings: tuple[str, ...]


def build_table(
    collection: Collection, *, metrics: Sequence[str] = (), baseline: str | None = None
) -> ResultTable:
    """Group, summarise and compare.

    Args:
        collection: see `collect_runs`.
        metrics: columns in this order, by the name in the log, where test_ may be left out; empty: all.
        baseline: see `compare`.

    Raises:
        ValueError: an unknown metric or baseline; names those there are.
    """
    grouping = group_runs(collection.runs)
    results = [result for group in grouping.groups for result in group.results.values()]
    everything = [result for group in grouping.groups for result in group.by_run.values()]
    logged = list(dict.fromkeys([*_FIRST, *(name for result in results for name in result.metrics)]))
    columns = tuple(_find_metric(name, logged) for name in metrics) or tuple(logged)
    compared = tuple(compare(grouping.groups, baseline, columns)) if baseline else ()
    signed = tuple(signatures(everything))
    warnings = [*collection.unfinished, *grouping.conflicts]
    if len(signed) > 1:
        warnings.append(f"BLEU was not computed alike in all runs: {'; '.join(signed)}")
    for comparison in compared:
        if comparison.unpaired:
            seeds = ", ".join(map(str, comparison.unpaired))
            warnings.append(
                f"{comparison.group.name} has no {comparison.baseline.name} beside it of seed {seeds}; not in the differences"
            )
    return ResultTable(grouping.groups, columns, compared, signed, tuple(warnings))


def _find_metric(name: str, logged: Sequence[str]) -> str:
    for candidate in (name, f"test_{name}"):
        if candidate in logged:
            return candidate
    raise ValueError(f"no run logged the metric {name!r}; logged: {', '.join(logged)}")
