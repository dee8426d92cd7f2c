"""`softbellman average RUN --output FILE`: the mean of a run's last checkpoints."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from softbellman.cli.common import Parser, UserError, positive

DESCRIPTION = """\
Writes the mean of the weights of several checkpoints of a run, as one file. It is used in the place
of a checkpoint: --checkpoint FILE of translate and caption, load_run(RUN, FILE) in Python.

A run keeps its newest two checkpoints and the selected one; checkpoint.keep says how many.

examples:
  softbellman average runs/erac --output averaged.safetensors
  softbellman average runs/erac --last 5 --output averaged.safetensors
  softbellman average runs/erac --stage actor --checkpoints 3 7 9 --output averaged.safetensors
  softbellman translate runs/erac --checkpoint averaged.safetensors < source.txt
"""


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(
        prog="softbellman average", usage="%(prog)s RUN --output FILE [OPTION ...]", description=DESCRIPTION
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--last", metavar="N", type=positive, help="the newest N (default: all that are kept)")
    which.add_argument(
        "--checkpoints", metavar="NUMBER", nargs="+", type=positive, default=[],
        help="these, by the numbers in their files' names",
    )  # fmt: skip
    parser.add_argument(
        "--stage", metavar="NAME", default="", help="whose (default: the last one that trained the actor)"
    )
    parser.add_argument("--output", metavar="FILE", type=Path, required=True, help="a new .safetensors file")
    return parser


def command(arguments: Sequence[str]) -> int:
    """Parses the arguments and writes the file."""
    options = build_parser().parse_args(arguments)
    if options.output.suffix != ".safetensors":
        raise UserError(f"--output: {options.output} must end in .safetensors")
    if options.output.exists():
        raise UserError(f"--output: {options.output} exists already")

    from softbellman.training.averaging import average_weights, checkpoints_of
    from softbellman.training.runfolder import RunFolder

    folder = RunFolder.open(options.run)
    stage = _stage(folder.path, options)
    paths = checkpoints_of(folder, stage, last=options.last or 0, numbers=options.checkpoints)
    count = average_weights(folder, stage, paths, options.output)
    numbers = ", ".join(path.stem.rpartition("-")[2].lstrip("0") for path in paths)
    print(f"{options.output}: {count} tensors, the mean of checkpoints {numbers} of stage {stage}")
    return 0


def _stage(path: Path, options: argparse.Namespace) -> str:
    """The stage whose checkpoints are averaged."""
    from softbellman import config
    from softbellman.experiments.collect import actor_stages
    from softbellman.training.runfolder import RunFolder
    from softbellman.training.settings import Settings

    settings: Settings = config.load(Settings, RunFolder.open(path).config_path)
    stages = actor_stages(settings)
    if options.stage and options.stage not in stages:
        raise UserError(f"--stage: the stages of {path} that train the actor are {', '.join(stages)}")
    return options.stage or stages[-1]
