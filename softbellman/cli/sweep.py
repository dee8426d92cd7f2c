"""`softbellman sweep --seeds 1..9 --workers 2`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from softbellman.cli.common import Parser, UserError
from softbellman.cli.fleet import add_worker_options, train_plan
from softbellman.cli.settings import Override, find_config, load_settings, split_overrides

if TYPE_CHECKING:
    from softbellman.training.settings import Settings

DESCRIPTION = """\
Trains a settings file over seeds, and over values of settings where --vary names some, then writes
a report: means, spread, intervals, figures. Runs that need the same stage share it. The same
command continues a sweep that was stopped or killed; finished runs are not trained again.

examples:
  softbellman sweep --seeds 1..9 --workers 2
  softbellman sweep --seeds 1..3 --vary credit.tau=0,0.01,0.1 --output runs/tau
  softbellman sweep --config multi30k_erac --data.path m30k --seeds 1..3 --vary algorithm=ac,erac
  softbellman plot runs/tau --output tau.png

Every other setting of a training, as --joint.schedule.epochs 5, is that of all runs.
"""


def build_parser() -> Parser:
    """The options that are not keys of the settings."""
    parser = Parser(
        prog="softbellman sweep", usage="%(prog)s [OPTION ...] [--KEY VALUE ...]", description=DESCRIPTION
    )
    parser.add_argument("--config", metavar="FILE", default="builtin_erac", help="YAML settings")
    parser.add_argument("--seeds", metavar="SEEDS", nargs="+", default=["1..3"], help="such as 1..9 or 1,4,7")
    parser.add_argument(
        "--vary", metavar="KEY=V,V", nargs="+", action="extend", default=[],
        help="a setting with several values; several make every combination",
    )  # fmt: skip
    parser.add_argument(
        "--output", metavar="DIR", type=Path, help="folder of the sweep (default: runs/sweep-CONFIG)"
    )
    add_worker_options(parser)
    return parser


def command(arguments: Sequence[str]) -> int:
    """Parses the arguments, trains what is missing and writes the report."""
    from softbellman.training.settings import Settings

    parser = build_parser()
    rest, overrides = split_overrides(parser, arguments, Settings)
    options = parser.parse_args(rest)

    from softbellman.experiments.plan import make_plan
    from softbellman.experiments.sweeps import describe_sweep, parse_seeds

    try:
        seeds = parse_seeds(options.seeds)
    except ValueError as error:
        raise UserError(f"--seeds: {error}") from None
    given = dict(overrides)
    for key, option in (("seed", "--seeds"), ("label", "--vary, whose values name the runs")):
        if key in given:
            raise UserError(f"--{key}: the runs of a sweep have their own; see {option}")
    path = find_config(options.config)
    root = options.output or Path("runs") / f"sweep-{path.stem}"
    common = [("threads", given.pop("threads", "1"))]
    cache = given.pop("cache", "")
    experiment = describe_sweep(path, options.vary, list(given.items()), resolve=_resolve)
    plan = make_plan(experiment, root, resolve=_resolve, overrides=common, cache=cache, seeds=seeds)
    return train_plan(experiment, plan, root, options, device=given.get("device", "auto"))


def _resolve(names: Sequence[str], overrides: Sequence[Override]) -> Settings:
    return load_settings([find_config(name) for name in names], overrides)
