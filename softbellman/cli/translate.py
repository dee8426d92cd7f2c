"""`softbellman translate RUN < source.txt > hypotheses.txt`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from softbellman.cli.common import Parser, UserError, standard_input
from softbellman.cli.decoding import Writer, add_decoding_options, chosen_decoding, open_actor

DESCRIPTION = """\
Translates standard input to standard output, one line for each line, with the actor of a run.
An empty line stays empty. The text must be tokenised as the training data of the run was.

With --nbest or --samples each hypothesis is a line: number of the source line, score and text
between tabs; an empty line has none. The score of a search is the log-probability over the length
penalty; of a draw it is the log-probability under the distribution drawn from.

examples:
  softbellman translate runs/erac-20260101-120000 < source.txt > hypotheses.txt
  softbellman translate runs/erac --beam 10 --nbest 5 --length-penalty 0.6 < source.txt
  softbellman translate runs/erac --samples 3 --temperature 0.8 --top-p 0.9 --seed 7 < source.txt
  softbellman translate runs/erac-1 --ensemble runs/erac-2 runs/erac-3 < source.txt
  echo "ein hund läuft" | softbellman translate runs/erac --attention attention.png
"""

CHUNK = 20
"""Batches that are read, sorted by length and written together; bounds the memory for any input."""


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(prog="softbellman translate", usage="%(prog)s RUN [OPTION ...]", description=DESCRIPTION)
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder")
    add_decoding_options(parser, unit="line", text=True)
    return parser


def command(arguments: Sequence[str]) -> int:
    """Parses the arguments and translates."""
    options = build_parser().parse_args(arguments)

    from softbellman.report import Progress
    from softbellman.training.translation import Hypothesis, translations

    actor = open_actor(options)
    if actor.source_codec is None:
        place = shlex.quote(str(options.run))
        raise UserError(f"{options.run} captions images; softbellman caption {place} does that")
    how = chosen_decoding(actor, options)
    writer = Writer(how, options.attention)
    progress = Progress(quiet=options.quiet, out=sys.stderr)
    lines = standard_input()
    # Someone typing wants an answer to each line.
    chunk_size = 1 if sys.stdin is not None and sys.stdin.isatty() else CHUNK * how.batch_size
    read = decoded = 0
    with progress.count("translate", None, unit="line") as bar:
        while chunk := list(islice(lines, chunk_size)):
            groups: list[list[Hypothesis]] = [[] for _ in chunk]
            for index, group in translations(actor, chunk, how, first=decoded):
                groups[index] = group
                bar.update(1)
            decoded += sum(map(bool, groups))
            text = [
                writer.lines(str(read + number), group, named=False) for number, group in enumerate(groups, 1)
            ]
            read += len(chunk)
            sys.stdout.buffer.write("".join(text).encode())
            sys.stdout.buffer.flush()
    return 0
