"""`softbellman table RUN [RUN ...]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from softbellman.cli.common import Parser

DESCRIPTION = """\
Puts finished runs side by side: one row for each algorithm, with the number of runs. Its numbers
are the mean and sample standard deviation of validation BLEU, test BLEU and all else that the runs
logged about the test set. Runs that differ in their seed alone form one row. Where an algorithm has
several rows, their names say which settings tell them apart. Every run also counts for the maximum
likelihood it started from.

Runs that are not finished are named and left out; a run of another data set is an error.

examples:
  softbellman table runs/erac-1 runs/erac-2 runs/erac-3 --baseline mle
  softbellman table runs/* --baseline mle --per-seed --format markdown > results.md
  softbellman table runs/* --compute bleu_orders --metrics dev_bleu bleu bleu1
"""


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(prog="softbellman table", description=DESCRIPTION)
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folders")
    parser.add_argument(
        "--format", choices=["text", "markdown", "json"], default="text",
        help="json has every number unrounded, by seed too",
    )  # fmt: skip
    parser.add_argument(
        "--per-seed", action="store_true", help="a line for each seed, and below them mean and deviation"
    )
    parser.add_argument(
        "--baseline", metavar="NAME",
        help="also the differences to this algorithm or row, paired by seed: mean, deviation, and how many "
             "have the sign of their mean",
    )  # fmt: skip
    parser.add_argument(
        "--metrics", metavar="NAME", nargs="+", default=[],
        help="columns by their name in metrics.jsonl, with or without test_ (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--compute", metavar="NAME", nargs="+", default=[],
        help="metrics of the setting evaluation.metrics, from the hypotheses where a run did not log them; "
             "reads the data set (default: none)",
    )  # fmt: skip
    return parser


def command(arguments: Sequence[str]) -> int:
    """Parses the arguments and prints the table; what is to be known about the runs goes to standard error."""
    options = build_parser().parse_args(arguments)

    from softbellman.experiments import build_table, collect_runs, compute_missing
    from softbellman.report import render

    collection = collect_runs(options.runs)
    if options.compute:
        collection = compute_missing(collection, options.compute)
    table = build_table(collection, metrics=options.metrics, baseline=options.baseline)
    for warning in table.warnings:
        print(f"softbellman: {warning}", file=sys.stderr)
    print(render(table, format=options.format, per_seed=options.per_seed))
    return 0
