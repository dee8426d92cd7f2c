"""`softbellman score --references FILE [FILE ...] < hypotheses.txt`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from softbellman.cli.common import Parser, UserError, standard_input

DESCRIPTION = """\
Scores the hypotheses on standard input against one or more reference files, line by line, by
sacrebleu: the corpus score and the signature that says how it was computed.

examples:
  softbellman score --references test.en < hypotheses.txt
  softbellman score --references test.0.en test.1.en --metric bleu chrf --sentence < hypotheses.txt
"""

METRICS = ("bleu", "chrf", "ter")
TOKENIZERS = ("13a", "none", "intl", "char", "zh")


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(prog="softbellman score", description=DESCRIPTION)
    parser.add_argument(
        "--references",
        metavar="FILE",
        nargs="+",
        type=Path,
        required=True,
        help="reference files, plain or .gz",
    )
    parser.add_argument("--metric", nargs="+", choices=METRICS, default=["bleu"], help="(default: bleu)")
    parser.add_argument(
        "--tokenize",
        choices=TOKENIZERS,
        default="13a",
        help="tokeniser of BLEU; none for text that is tokenised",
    )
    parser.add_argument("--lowercase", action="store_true", help="compare without case")
    parser.add_argument(
        "--sentence", action="store_true",
        help="a table of the scores of every line to standard output, the corpus scores to standard error",
    )  # fmt: skip
    return parser


def command(arguments: Sequence[str]) -> int:
    """Parses the arguments and prints the scores."""
    import sys

    options = build_parser().parse_args(arguments)
    from softbellman.data import read_lines

    references = [read_lines(path) for path in options.references]
    hypotheses = list(standard_input())
    if not hypotheses:
        raise UserError("no hypotheses on standard input")
    for path, lines in zip(options.references, references, strict=True):
        if len(lines) != len(hypotheses):
            raise UserError(f"{path} has {len(lines)} lines, standard input has {len(hypotheses)}")
    names = list(dict.fromkeys(options.metric))
    if options.sentence:
        metrics = [build_metric(name, options.tokenize, options.lowercase, sentence=True) for name in names]
        print("\t".join(["line", *names]))
        for number, (hypothesis, *targets) in enumerate(zip(hypotheses, *references, strict=True), start=1):
            scores = [metric.sentence_score(hypothesis, targets).score for metric in metrics]
            print("\t".join([str(number), *(f"{score:.2f}" for score in scores)]))
    for name in names:
        metric = build_metric(name, options.tokenize, options.lowercase, sentence=False)
        result = metric.corpus_score(hypotheses, references)
        text = f"{result.format()}\n  signature: {metric.get_signature()}"
        print(text, file=sys.stderr if options.sentence else sys.stdout)
    return 0


def build_metric(name: str, tokenize: str, lowercase: bool, *, sentence: bool) -> Any:
    """sacrebleu's metric of that name; sentence BLEU counts only the orders a short line has."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    if name == "bleu":
        return BLEU(lowercase=lowercase, tokenize=tokenize, effective_order=sentence, force=True)
    if name == "chrf":
        return CHRF(lowercase=lowercase)
    return TER(case_sensitive=not lowercase)
