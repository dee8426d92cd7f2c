"""`softbellman score --references FILE [FILE ...] < hypotheses.txt`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from softbellman.cli.common import Parser, UserError, standard_input

DESCRIPTION = """\
Scores the hypotheses on standard input against one or more reference files, line by line. It prints
the corpus score and the signature that says how it was computed. BLEU, chrF and TER are of
sacrebleu. CIDEr-D and ROUGE-L are this package's, times 100, by the conventions of the COCO tools.
CIDEr-D takes the document frequencies of the reference files, one line of all of them a document.
There an empty line in a reference file is no reference; sacrebleu takes it for an empty one.

examples:
  softbellman score --references test.en < hypotheses.txt
  softbellman score --references test.0.en test.1.en --metrics bleu chrf --sentence < hypotheses.txt
  softbellman score --references captions.*.txt --metrics cider rouge_l < hypotheses.txt
"""

METRICS = ("bleu", "cider", "rouge_l", "chrf", "ter")
TOKENIZERS = ("13a", "none", "intl", "char", "zh")


class Scored(NamedTuple):
    """A metric of all hypotheses: the corpus score in words, how it was computed, each line's own score where asked for."""

    summary: str
    signature: str
    sentences: list[float]


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
    parser.add_argument(
        "--metrics", "--metric", dest="metrics", metavar="NAME", nargs="+", choices=METRICS, default=["bleu"],
        help=f"of {', '.join(METRICS)} (default: bleu)",
    )  # fmt: skip
    parser.add_argument(
        "--tokenize",
        choices=TOKENIZERS,
        default="13a",
        help="tokeniser of BLEU, CIDEr-D and ROUGE-L; none for text that is tokenised",
    )
    parser.add_argument("--lowercase", action="store_true", help="compare without case")
    parser.add_argument(
        "--sentence", action="store_true",
        help="a table of the scores of every line to standard output, the corpus scores to standard error",
    )  # fmt: skip
    return parser


def command(arguments: Sequence[str]) -> int:
    """Parses the arguments and prints the scores."""
    options = build_parser().parse_args(arguments)
    from softbellman.data import read_lines

    references = [read_lines(path) for path in options.references]
    hypotheses = list(standard_input())
    if not hypotheses:
        raise UserError("no hypotheses on standard input")
    for path, lines in zip(options.references, references, strict=True):
        if len(lines) != len(hypotheses):
            raise UserError(f"{path} has {len(lines)} lines, standard input has {len(hypotheses)}")
    found = {
        name: (of_words if name in ("cider", "rouge_l") else of_sacrebleu)(
            name, hypotheses, references, options
        )
        for name in dict.fromkeys(options.metrics)
    }
    if options.sentence:
        print("\t".join(["line", *found]))
        for number, scores in enumerate(
            zip(*(scored.sentences for scored in found.values()), strict=True), 1
        ):
            print("\t".join([str(number), *(f"{score:.2f}" for score in scores)]))
    for scored in found.values():
        text = f"{scored.summary}\n  signature: {scored.signature}"
        print(text, file=sys.stderr if options.sentence else sys.stdout)
    return 0


def of_words(
    name: str, hypotheses: list[str], references: list[list[str]], options: argparse.Namespace
) -> Scored:
    """CIDEr-D and ROUGE-L, on ids of the words."""
    import softbellman
    from softbellman.payoffs.text_metrics import cider_scores, mean, rouge_l_scores

    title, facts, score = {
        "cider": ("CIDEr-D", "df:references|order:4|sigma:6", cider_scores),
        "rouge_l": ("ROUGE-L", "beta:1.2", rouge_l_scores),
    }[name]
    groups = list(zip(*references, strict=True))
    for number, group in enumerate(groups, start=1):
        if not any(map(str.strip, group)):
            files = ", ".join(map(str, options.references))
            raise UserError(f"{files}: line {number} is empty, which leaves {title} no reference there")
    sentences = score(hypotheses, groups, tokenize=options.tokenize, lowercase=options.lowercase)
    case = "lc" if options.lowercase else "mixed"
    signature = f"nrefs:{len(references)}|case:{case}|{facts}|tok:{options.tokenize}|version:{softbellman.__version__}"
    return Scored(f"{title} = {mean(sentences):.2f}", signature, sentences)


def of_sacrebleu(
    name: str, hypotheses: list[str], references: list[list[str]], options: argparse.Namespace
) -> Scored:
    """BLEU, chrF and TER; single lines only where they are asked for."""
    sentences: list[float] = []
    if options.sentence:
        metric = build_metric(name, options.tokenize, options.lowercase, sentence=True)
        sentences = [
            metric.sentence_score(hypothesis, targets).score
            for hypothesis, *targets in zip(hypotheses, *references, strict=True)
        ]
    metric = build_metric(name, options.tokenize, options.lowercase, sentence=False)
    summary = metric.corpus_score(hypotheses, references).format()
    return Scored(summary, str(metric.get_signature()), sentences)


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
