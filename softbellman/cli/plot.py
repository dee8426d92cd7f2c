"""`softbellman plot RUNS --output FILE`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from softbellman.cli.common import Parser, UserError

DESCRIPTION = """\
Draws the learning curves of runs: the mean of each system over its seeds, and the band from the
least to the most. Runs need not be finished. The stages of a run are laid end to end.

examples:
  softbellman plot runs/erac-1 runs/erac-2 runs/ac-1 --output curves.png
  softbellman plot runs/tau --output tau.pdf --x time
  softbellman plot runs/tau --output entropy.png --metric entropy
"""


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(
        prog="softbellman plot",
        usage="%(prog)s RUN [RUN ...] --output FILE [OPTION ...]",
        description=DESCRIPTION,
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folders, or folders of runs")
    parser.add_argument("--output", metavar="FILE", type=Path, required=True, help=".png or .pdf")
    parser.add_argument(
        "--x", choices=["updates", "time"], default="updates", help="updates, or time of training"
    )
    parser.add_argument(
        "--metric",
        metavar="NAME",
        default="dev_bleu",
        help="number in metrics.jsonl, such as dev_cider or entropy",
    )
    parser.add_argument("--title", metavar="TEXT", default="", help="a line above the figure")
    return parser


def command(arguments: Sequence[str]) -> int:
    """Parses the arguments and draws."""
    options = build_parser().parse_args(arguments)

    from softbellman.experiments.curves import read_curves
    from softbellman.report.curves_figure import FORMATS, write_curves
    from softbellman.report.progress import Progress

    if options.output.suffix not in FORMATS:
        raise UserError(f"--output: {options.output} must end in {' or '.join(FORMATS)}")
    curves = read_curves(options.runs, metric=options.metric, axis=options.x)
    progress = Progress()
    for sentence in curves.left_out:
        progress.warn(f"softbellman: left out: {sentence}")
    path = write_curves(curves, options.output, metric=options.metric, axis=options.x, title=options.title)
    shown = ", ".join(f"{name} ({len(lines)})" for name, lines in curves.lines.items())
    print(f"{path}: {shown}")
    return 0
