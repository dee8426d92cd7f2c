"""`softbellman experiment NAME|FILE.yaml`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from softbellman.cli.common import Parser, UserError, positive
from softbellman.cli.fleet import add_worker_options, train_plan
from softbellman.cli.settings import config_folders, find_config, load_settings, split_overrides
from softbellman.config import nearest

if TYPE_CHECKING:
    from softbellman.experiments.plan import Override
    from softbellman.training.settings import Settings

DESCRIPTION = """\
Trains the runs that an experiment consists of and writes its report. NAME is one of those shipped
with the package, FILE.yaml one of your own in the same form (docs/experiments.md).

  table1       MLE, RAML, VAML, AC, ERAC, and maximum likelihood continued.
  table3       Speed of the target critic and smoothness.
  table4       ERAC with and without future entropy, and AC.
  figure1      The temperature.
  ablation     Switches beside the paper's, one at a time.
  comparators  Sequence-level training and optimal completion distillation beside MLE, AC and ERAC.
  scratch      RAML and VAML from new weights, as published.
  scenes       Captions of generated pictures: their BLEU, and whether they are true.
  presets      The paper against the published code, one row at a time.

Runs that need the same stage share it. The same command continues an experiment that was stopped
or killed; finished runs are not trained again. A run that fails is named at the end, with its log.
Where an experiment chooses settings, its trials are trained first, in OUTPUT-trials.

examples:
  softbellman experiment table1
  softbellman experiment table1 --size full --data multi30k=DIR flickr8k=DIR --workers 8
  softbellman experiment figure1 --runs 1 --dry-run
  softbellman experiment mine.yaml --output runs/mine --joint.schedule.epochs 5

Settings of a training, as --joint.schedule.epochs 5, go over those of every run that has them.
"""


def build_parser() -> Parser:
    """The options that are not keys of the settings."""
    parser = Parser(
        prog="softbellman experiment",
        usage="%(prog)s NAME|FILE.yaml [OPTION ...] [--KEY VALUE ...]",
        description=DESCRIPTION,
    )
    parser.add_argument("experiment", metavar="NAME|FILE.yaml", help="what is run")
    parser.add_argument(
        "--size", choices=["small", "full"], default="small",
        help="small: generated data, minutes; full: the published sizes on data that are given",
    )  # fmt: skip
    parser.add_argument(
        "--data", metavar="NAME=DIR", nargs="+", default=[],
        help="folders of data sets, such as multi30k=DIR; a part without its data is left out",
    )  # fmt: skip
    parser.add_argument(
        "--output", metavar="DIR", type=Path, help="folder of the experiment (default: runs/NAME-SIZE)"
    )
    add_worker_options(parser)
    how_many = parser.add_mutually_exclusive_group()
    how_many.add_argument(
        "--runs", metavar="N", type=positive, help="runs of every condition (default: as the experiment says)"
    )
    how_many.add_argument(
        "--seeds",
        metavar="SEEDS",
        nargs="+",
        default=[],
        help="their seeds in place of 1, 2, ..., as 1..9 or 1,4,7",
    )
    return parser


def command(arguments: Sequence[str]) -> int:
    """Parses the arguments, trains what is missing and writes the report."""
    from softbellman.training.settings import Settings

    parser = build_parser()
    rest, overrides = split_overrides(parser, arguments, Settings)
    options = parser.parse_args(rest)

    from softbellman.experiments.description import load_experiment
    from softbellman.experiments.plan import make_plan
    from softbellman.experiments.sweeps import parse_seeds
    from softbellman.experiments.tuning import check_seeds, choose, read_tuning, trials_of, write_tuning

    try:
        seeds = parse_seeds(options.seeds)
    except ValueError as error:
        raise UserError(f"--seeds: {error}") from None
    path = find_experiment(options.experiment)
    experiment = load_experiment(path)
    root = options.output or Path("runs") / f"{path.stem}-{options.size}"
    given = dict(overrides)
    if "threads" not in given:  # the same numbers on every machine, and no two runs in each other's way
        overrides = [*overrides, ("threads", "1")]
    plan_of = partial(
        make_plan,
        resolve=resolver_beside(path),
        size=options.size,
        data=dict(_named_folder(text) for text in options.data),
        overrides=overrides,
        cache=given.get("cache", ""),
    )
    device, trials, known = given.get("device", "auto"), trials_of(experiment), read_tuning(root)
    plan_with = partial(plan_of, experiment, root, runs=options.runs or 0, seeds=seeds)
    plan = plan_with(chosen=known.settings() if known else None)
    if trials is not None:
        check_seeds(experiment, plan.jobs)
        beside = root.with_name(f"{root.name}-trials")
        tried = plan_of(trials, beside, seeds=experiment.tuning_seeds, checked=False)
        code = train_plan(trials, tried, beside, options, device=device)
        if code:
            return code
        if not options.dry_run:
            tuning = choose(trials, tried.jobs)
            write_tuning(tuning, root)
            plan = plan_with(chosen=tuning.settings())
        elif known is None:
            print("then, with what these choose:")
    return train_plan(experiment, plan, root, options, device=device)


def find_experiment(name: str) -> Path:
    """The file of an experiment: a path, else one shipped with the package by its bare name."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = {
        file.stem: file
        for folder in config_folders()
        for file in sorted((folder / "experiments").glob("*.yaml"))
    }
    if path.stem in shipped and path.suffix in ("", ".yaml") and len(path.parts) == 1:
        return shipped[path.stem]
    guess = nearest(path.stem, shipped)
    raise UserError(f"{name}: there is no such experiment; shipped: {', '.join(shipped)}; nearest: {guess!r}")


def resolver_beside(experiment: Path) -> Callable[[Sequence[str], Sequence[Override]], Settings]:
    """Settings files stand beside the experiment's, or are those of the package."""

    def find(name: str) -> Path:
        for candidate in (experiment.parent / name, experiment.parent / f"{name}.yaml"):
            if candidate.is_file():
                return candidate
        return find_config(name)

    def resolve(names: Sequence[str], overrides: Sequence[Override]) -> Settings:
        return load_settings([find(name) for name in names], overrides)

    return resolve


def _named_folder(text: str) -> tuple[str, str]:
    name, equals, folder = text.partition("=")
    if not equals or not name or not folder:
        raise UserError(f"--data expects NAME=DIR, given {text!r}")
    return name, folder
