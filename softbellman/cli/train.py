"""`softbellman-train`, the same as `softbellman train`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from softbellman.cli.common import Parser, UserError, run_command
from softbellman.cli.explain import explain_section, summarise_settings
from softbellman.cli.settings import find_config, load_resumed, load_settings, split_overrides
from softbellman.config import dump
from softbellman.training.settings import Settings

DESCRIPTION = """\
Trains a translator, or a captioner of images: maximum likelihood, then a critic, then actor and
critic together. Without any argument: ERAC on the built-in corpus.

examples:
  softbellman-train --algorithm ac --seed 2 --output runs/ac-2
  softbellman-train --config configs/multi30k_erac.yaml --data.path multi30k
  softbellman-train --resume runs/ac-2

Every setting can stand in the YAML file and on the command line, as `--data.path DIR` or
`--data.path=DIR`; the command line wins. A file may start from another one: `base: other.yaml`.
"""

FIRST_SETTINGS = (
    "algorithm", "data.kind", "data.path", "seed", "device", "output", "cache", "credit.tau", "model.hidden",
)  # fmt: skip
"""What people change first; the short help explains these."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    return run_command(command, arguments)


def build_parser() -> Parser:
    """The options that are not keys of the settings."""
    parser = Parser(
        prog="softbellman-train",
        usage="%(prog)s [OPTION ...] [--KEY VALUE ...]",
        description=DESCRIPTION,
        add_help=False,
    )
    parser.add_argument(
        "-h", "--help", metavar="SECTION", nargs="?", help="this page, or one section's settings"
    )
    parser.add_argument("--config", metavar="FILE", help="YAML settings; without it: builtin_erac")
    parser.add_argument("--resume", metavar="RUN", type=Path, help="continue the interrupted run of a folder")
    parser.add_argument("--quiet", action="store_true", help="no progress, only the final comparison")
    parser.add_argument("--print-config", action="store_true", help="print the resolved settings and stop")
    return parser


def short_help(parser: Parser) -> str:
    """One page: what the command does, its options, the settings changed first, the names of the others' sections."""
    return f"{parser.format_help()}\n{summarise_settings(Settings, FIRST_SETTINGS)}"


def asked_section(words: Sequence[str]) -> str | None:
    """The section that `--help SECTION` or `--help=SECTION` asks for, empty without one; None where no help is asked for."""
    for position, word in enumerate(words):
        name, _, section = word.partition("=")
        if name in ("-h", "--help"):
            following = words[position + 1] if position + 1 < len(words) else ""
            return section or ("" if following.startswith("-") else following)
    return None


def command(arguments: Sequence[str]) -> int:
    """Parses the arguments and runs the training."""
    parser = build_parser()
    rest, overrides = split_overrides(parser, arguments, Settings)
    if (section := asked_section(rest)) is not None:
        print(explain_section(Settings, section) if section else short_help(parser))
        return 0
    options = parser.parse_args(rest)
    if options.resume is None:
        file, left_out = find_config(options.config or "builtin_erac"), dict[str, str]()
        settings = load_settings([file], overrides, left_out=left_out)
        if (
            left_out and not options.quiet and os.environ.get("RANK", "0") == "0"
        ):  # of a job of torchrun one says it
            kind = f"model.kind {settings.model.kind}"
            print(
                f"{', '.join(left_out)} of {file.name} left out: {kind} does not read them", file=sys.stderr
            )
    elif options.config is not None:
        raise UserError("--config and --resume exclude each other: a run is continued with its own settings")
    elif any(key == "output" for key, _ in overrides):
        raise UserError("--output and --resume exclude each other: a run is continued in its own folder")
    else:
        settings = load_resumed(options.resume, overrides)
    if options.print_config:
        print(dump(settings, comments=True), end="")
        return 0

    from softbellman.report import Console, Progress
    from softbellman.training import run
    from softbellman.training.runfolder import new_run_path
    from softbellman.training.stopping import Stopped

    if options.resume is None and not settings.output:
        settings = replace(settings, output=str(new_run_path(settings.algorithm)))
    try:
        run(settings, options.resume, observer=Console(Progress(quiet=options.quiet)))
    except Stopped as stopped:
        return 128 + stopped.signal  # 130 for Ctrl-C, 143 for SIGTERM
    return 0


if __name__ == "__main__":
    sys.exit(main())
