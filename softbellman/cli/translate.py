"""`softbellman translate RUN < source.txt > hypotheses.txt`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from softbellman.cli.common import Parser, UserError, finite, positive, standard_input

if TYPE_CHECKING:
    from softbellman.training import TrainedActor

DESCRIPTION = """\
Translates standard input to standard output, one line for each line, with the actor of a run.
An empty line stays empty. The text must be tokenised as the training data of the run was.

example:
  softbellman translate runs/erac-20260101-120000 < source.txt > hypotheses.txt
"""

CHUNK = 20
"""Batches that are read, sorted by length and written together; bounds the memory for any input."""


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(prog="softbellman translate", description=DESCRIPTION)
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder")
    parser.add_argument(
        "--checkpoint", metavar="NAME", default="best",
        help="best or last of the final stage, or a stage: actor, joint, actor-last, ...",
    )  # fmt: skip
    parser.add_argument(
        "--beam", metavar="N", type=positive, help="beam size (default: the run's); 1 is greedy"
    )
    parser.add_argument(
        "--batch-size", metavar="N", type=positive, help="lines decoded together (default: the run's)"
    )
    parser.add_argument(
        "--max-length", metavar="N", type=positive, help="longest translation in tokens (default: the run's)"
    )
    parser.add_argument(
        "--length-penalty",
        metavar="X",
        type=finite,
        help="exponent of length normalisation (default: the run's)",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... or auto")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    return parser


def command(arguments: Sequence[str]) -> int:
    """Parses the arguments and translates."""
    options = build_parser().parse_args(arguments)

    from softbellman.report import Progress
    from softbellman.training import load_run

    actor = load_run(options.run, checkpoint=options.checkpoint, device=options.device)
    if actor.source_codec is None:
        raise UserError(f"{options.run} captions images; softbellman caption {options.run} does that")
    evaluation = actor.settings.evaluation
    beam = options.beam or evaluation.beam
    batch_size = options.batch_size or evaluation.batch_size
    max_length = options.max_length or evaluation.max_length
    penalty = evaluation.length_penalty if options.length_penalty is None else options.length_penalty
    progress = Progress(quiet=options.quiet, out=sys.stderr)
    # Someone typing wants an answer to each line.
    chunk_size = 1 if sys.stdin.isatty() else CHUNK * batch_size
    lines = standard_input()
    with progress.count("translate", None, unit="line") as bar:
        while chunk := list(islice(lines, chunk_size)):
            translated = translate_lines(
                actor, chunk, beam=beam, batch_size=batch_size, max_length=max_length, length_penalty=penalty
            )
            hypotheses = [""] * len(chunk)
            for index, text in translated:
                hypotheses[index] = text
                bar.update(1)
            sys.stdout.buffer.write("".join(f"{line}\n" for line in hypotheses).encode())
            sys.stdout.buffer.flush()
    return 0


def translate_lines(
    actor: TrainedActor,
    lines: Iterable[str],
    *,
    beam: int,
    batch_size: int,
    max_length: int,
    length_penalty: float = 0.0,
) -> Iterator[tuple[int, str]]:
    """Yields (index of the line, translation) for every line that holds a token, similar lengths together."""
    import torch

    from softbellman.data import EOS, PAD
    from softbellman.decoding import beam_search

    device = next(actor.model.parameters()).device
    assert actor.source_codec is not None
    encoded = [(actor.source_codec.encode(line), index) for index, line in enumerate(lines)]
    encoded = sorted((item for item in encoded if item[0]), key=lambda item: len(item[0]), reverse=True)
    for start in range(0, len(encoded), batch_size):
        part = encoded[start : start + batch_size]
        width = len(part[0][0]) + 1
        rows = [[*ids, EOS] + [PAD] * (width - 1 - len(ids)) for ids, _ in part]
        source = torch.tensor(rows, dtype=torch.long, device=device)  # (B, S)
        with torch.inference_mode():
            found = beam_search(
                actor.model, source, beam=beam, max_length=max_length, length_penalty=length_penalty
            )
        for (_, index), tokens in zip(part, found.tokens.tolist(), strict=True):
            yield index, actor.target_codec.decode(tokens)
