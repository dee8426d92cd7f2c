"""`softbellman export RUN FOLDER`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from softbellman.cli.common import Parser, UserError

DESCRIPTION = """\
Writes the actor of a run whose model.kind is hf, and its tokenizer. The folder is one that
from_pretrained of Hugging Face transformers reads.

examples:
  softbellman export runs/mrt tuned
  softbellman export runs/mrt tuned --checkpoint actor-best
"""


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(
        prog="softbellman export", usage="%(prog)s RUN FOLDER [OPTION ...]", description=DESCRIPTION
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="a new folder, or an empty one")
    parser.add_argument(
        "--checkpoint", metavar="NAME", default="best",
        help="best (default) or last of the last stage of the actor, STAGE-best, STAGE-last, or a file",
    )  # fmt: skip
    return parser


def command(arguments: Sequence[str]) -> int:
    """Parses the arguments and writes the folder."""
    options = build_parser().parse_args(arguments)
    if options.folder.exists() and (not options.folder.is_dir() or any(options.folder.iterdir())):
        raise UserError(f"{options.folder} exists already and is no empty folder")

    from softbellman.training import export_pretrained, load_run

    export_pretrained(load_run(options.run, options.checkpoint), options.folder)
    print(f"{options.folder}: the model and its tokenizer, for from_pretrained of transformers")
    return 0
