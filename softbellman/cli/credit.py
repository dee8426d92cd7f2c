"""`softbellman credit RUN --sentences 3 17 --output credit.html`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softbellman.cli.common import Parser, UserError, finite, positive, typed_text

if TYPE_CHECKING:
    from softbellman.experiments.token_credit import CreditedRun, CreditedSentence

DESCRIPTION = """\
Shows the credit of every token: reward, the critic's Q and advantage, the policy's entropy, and
what the exact oracle of the edit distance wanted. A learnt oracle stands beside it where the run
has one. Hypotheses are the beam search, a sequence drawn from the actor, the reference, and those
of --hypothesis. The page needs no other file, nor colours to be read.

examples:
  softbellman credit runs/erac --sentences 3 17 --output credit.html
  softbellman credit runs/erac --split dev --sentences 5 --png pictures
  softbellman credit runs/erac --lines typed.tsv --hypothesis "two dogs run ."
"""

DEFAULT_SENTENCES = (1, 2, 3)


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(prog="softbellman credit", usage="%(prog)s RUN [OPTION ...]", description=DESCRIPTION)
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--sentences", metavar="N", nargs="+", type=positive,
        help="numbers of sentences or images, from 1 (default: 1 2 3)",
    )  # fmt: skip
    what.add_argument(
        "--lines", metavar="FILE", type=Path,
        help="typed sentences: source, tab, reference, further references behind tabs",
    )  # fmt: skip
    parser.add_argument(
        "--split",
        metavar="NAME",
        choices=["test", "dev"],
        help="test or dev: where the sentences are (default: test)",
    )
    parser.add_argument(
        "--hypothesis", metavar="TEXT", nargs="+", type=typed_text, default=[], help="judge these, too"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=1, help="of the drawn sequence")
    parser.add_argument("--tau", metavar="X", type=finite, help="temperature of the exact oracle, in tokens")
    parser.add_argument(
        "--checkpoint", metavar="NAME", default="best",
        help="best or last of the final stage, or a stage: actor, joint, actor-last, ...",
    )  # fmt: skip
    parser.add_argument("--images", metavar="DIR", type=Path, help="folder of the photographs")
    parser.add_argument("--output", metavar="FILE", type=Path, default=Path("credit.html"), help="the page")
    parser.add_argument("--png", metavar="DIR", type=Path, help="also a picture of each sentence, in DIR")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also everything shown, as JSON")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... or auto")
    return parser


def command(arguments: Sequence[str]) -> int:
    """Parses the arguments, judges the sentences, writes the files."""
    options = build_parser().parse_args(arguments)
    if options.lines is not None and options.split is not None:
        raise UserError("--split is for sentences of the run's data, not for --lines")
    if options.images is not None and not options.images.is_dir():
        raise UserError(f"--images: {options.images} is not a folder")
    if options.tau is not None and options.tau < 0:
        raise UserError(f"--tau expects a number of at least 0, given {options.tau:g}")

    from softbellman.experiments.credited import open_run
    from softbellman.report.credit_page import write_credit_page
    from softbellman.report.credit_picture import draw_credit
    from softbellman.report.credit_scale import limits_of

    run = open_run(options.run, options.checkpoint, oracle_tau=options.tau, device=options.device)
    sentences = judge(run, options)
    title = f"Token credit of {options.run.resolve().name}"
    write_credit_page(options.output, sentences, run.facts, title=title)
    print(f"{len(sentences)} sentences: {options.output}")
    if options.png is not None:
        limits = limits_of(sentences)
        for sentence in sentences:
            file = options.png / f"credit-{sentence.name.replace(' ', '-')}.png"
            print(draw_credit(sentence, file, limits=limits))
    if options.json is not None:
        record = {"facts": run.facts, "sentences": [sentence.as_record() for sentence in sentences]}
        options.json.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def judge(run: CreditedRun, options: Any) -> list[CreditedSentence]:
    """The sentences asked for."""
    from softbellman.experiments.credited import credit_sentences, typed_corpus

    common = {"typed": options.hypothesis, "seed": options.seed}
    if options.lines is not None:
        lines = read_typed(options.lines)
        every = range(1, len(lines) + 1)
        return credit_sentences(run, typed_corpus(run, lines), every, split="line", **common)
    split = options.split or "test"
    corpus = getattr(run.task, split)
    numbers = options.sentences or [number for number in DEFAULT_SENTENCES if number <= len(corpus)]
    return credit_sentences(run, corpus, numbers, split=split, images=options.images, **common)


def read_typed(path: Path) -> list[tuple[str, list[str]]]:
    """Sources and their references; raises UserError naming a line without both."""
    from softbellman.data import read_lines

    found = []
    for number, line in enumerate(read_lines(path), start=1):
        source, *references = (part.strip() for part in line.split("\t"))
        if not source or not references or not all(references):
            raise UserError(f"{path}:{number}: expects a source, a tab and a reference")
        found.append((source, references))
    if not found:
        raise UserError(f"{path} holds no line")
    return found
