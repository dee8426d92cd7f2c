"""What many runs say together: experiments, groups of seeds, their results side by side, paired tests, captions."""

from softbellman.experiments.collect import (
    Collection,
    FinishedRun,
    OtherDataError,
    SystemResult,
    UnfinishedRunError,
    collect_runs,
    read_run,
)
from softbellman.experiments.contrasts import Contrast
from softbellman.experiments.description import Condition, Experiment, Part, load_experiment
from softbellman.experiments.gather import find_runs, gather
from softbellman.experiments.groups import Group, Grouping, group_runs
from softbellman.experiments.loaded import Run
from softbellman.experiments.orderings import Step, judge, parse_orderings
from softbellman.experiments.outputs import Outputs, read_outputs
from softbellman.experiments.resampling import RESAMPLED, PairedTest, ResampledMetric, paired_test
from softbellman.experiments.rescoring import compute_missing
from softbellman.experiments.rows import Table
from softbellman.experiments.study import Section, Study, build_study
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
    "RESAMPLED",
    "Collection",
    "Comparison",
    "Condition",
    "Contrast",
    "Experiment",
    "FinishedRun",
    "Group",
    "Grouping",
    "OtherDataError",
    "Outputs",
    "PairedDifference",
    "PairedTest",
    "Part",
    "ResampledMetric",
    "ResultTable",
    "Run",
    "Section",
    "Step",
    "Study",
    "Summary",
    "SystemResult",
    "Table",
    "UnfinishedRunError",
    "build_study",
    "build_table",
    "collect_runs",
    "compare",
    "compute_missing",
    "find_runs",
    "gather",
    "group_runs",
    "judge",
    "load_experiment",
    "paired_difference",
    "paired_test",
    "parse_orderings",
    "read_outputs",
    "read_run",
    "summarise",
]
