"""`softbellman report DIR [DIR ...]`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from softbellman.cli.common import Parser, UserError, positive

DESCRIPTION = """\
Writes what many runs say together as one HTML page that loads nothing, with its figures as PNG and
PDF beside it. It has scores with their spread, paired tests with 95 % intervals, and a verdict for
every ordering. Learning curves, sweeps, time, memory, commands and machines follow. With an
--output that ends in .md it is Markdown.

A DIR is a run folder, or a folder with run folders below it, such as that of `softbellman
experiment`. Runs that were tested on different data are sections of their own. Runs that are not
finished are named and left out. --collect copies the small files of the runs, for a commit or to
put runs of several machines together. The report reads such copies as it reads the runs.

examples:
  softbellman report runs/table1 --output table1.html
  softbellman report runs/* --orderings "MLE < RAML < VAML" "MLE continued < ERAC"
  softbellman report runs/table1 --collect results && softbellman report results
"""


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(prog="softbellman report", description=DESCRIPTION)
    parser.add_argument(
        "folders", metavar="DIR", nargs="+", type=Path, help="run folders, or folders of runs"
    )
    parser.add_argument(
        "--output", metavar="FILE", type=Path, default=Path("report.html"), help="the page, .html or .md"
    )
    parser.add_argument(
        "--figures",
        metavar="DIR",
        type=Path,
        help="folder of the figures (default: STEM-figures beside the page)",
    )
    parser.add_argument("--title", default="", help="heading of the page (default: the experiment's)")
    parser.add_argument(
        "--baseline", metavar="NAME", default="",
        help="what every system is compared with (default: what its experiment says, else MLE)",
    )  # fmt: skip
    parser.add_argument(
        "--orderings", metavar="ORDERING", nargs="+", default=[],
        help='what gets a verdict, such as "MLE < AC < ERAC" (default: those of the experiment, else the paper\'s)',
    )  # fmt: skip
    parser.add_argument("--resamples", metavar="N", type=positive, default=2000, help="draws of every test")
    parser.add_argument(
        "--collect", metavar="DIR", type=Path,
        help="copy settings, records, metrics and hypotheses of the runs to this folder, and write no report",
    )  # fmt: skip
    parser.add_argument(
        "--no-texts", action="store_true",
        help="--collect: leave sentences out, and keep the counts that the tests need; for data not to be given away",
    )  # fmt: skip
    return parser


def command(arguments: Sequence[str]) -> int:
    """Parses the arguments and writes the report, or the copies; what is to be known about the runs goes to standard error."""
    options = build_parser().parse_args(arguments)

    from softbellman.experiments.gather import gather
    from softbellman.experiments.study import build_study
    from softbellman.report.study_markdown import write_markdown
    from softbellman.report.study_page import write_report

    if options.collect is not None:
        copies = gather(options.folders, options.collect, texts=not options.no_texts)
        print(f"{len(copies)} runs in {options.collect}")
        return 0
    if options.no_texts:
        raise UserError("--no-texts is of --collect")
    kind = options.output.suffix.lower()
    if kind not in (".html", ".htm", ".md"):
        raise UserError(f"--output must end in .html or .md, given {options.output}")
    study = build_study(
        options.folders, baseline=options.baseline, orderings=options.orderings, resamples=options.resamples
    )
    warnings = dict.fromkeys(
        [*study.left_out, *(warning for section in study.sections for warning in section.warnings)]
    )
    for warning in warnings:
        print(f"softbellman: {warning}", file=sys.stderr)
    write = write_markdown if kind == ".md" else write_report
    written = write(study, options.output, figures=options.figures or "", title=options.title)
    for path in written:
        print(path)
    return 0
