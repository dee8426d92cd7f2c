"""What many runs say together: groups of seeds, their results side by side, their captions."""

from softbellman.experiments.collect import (
    Collection,
    FinishedRun,
    OtherDataError,
    SystemResult,
    UnfinishedRunError,
    collect_runs,
    read_run,
)
from softbellman.experiments.groups import Group, Grouping, group_runs
from softbellman.experiments.rescoring import compute_missing
from softbellman.experiments.summaries import (
    Comparison,
    PairedDifference,
    Summary,
    compare,
    paired_difference,
    summarise,
)
from softbellman.experiments.table import ResultTable, build_table

__all__ = [
    "Collection",
    "Comparison",
    "FinishedRun",
    "Group",
    "Grouping",
    "OtherDataError",
    "PairedDifference",
    "ResultTable",
    "Summary",
    "SystemResult",
    "UnfinishedRunError",
    "build_table",
    "collect_runs",
    "compare",
    "compute_missing",
    "group_runs",
    "paired_difference",
    "read_run",
    "summarise",
]
