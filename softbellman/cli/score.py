"""`softbellman score --references FILE [FILE ...] < hypotheses.txt`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from softbellman.cli.common import Parser, UserError, standard_input

DESCRIPTION = """\
Scores the hypotheses on standard input against one or more reference files, line by line. It prints
the corpus score and the signature that says how it was computed. BLEU, chrF and TER are of
sacrebleu, with its defaults: TER alone ignores case. CIDEr-D and ROUGE-L are this package's, times
100, by the conventions of the COCO tools. CIDEr-D takes the document frequencies of the reference
files, one line of all of them a document.

An empty line in a reference file is no reference; every line needs one in some file.

examples:
  softbellman score --references test.en < hypotheses.txt
  softbellman score --references test.0.en test.1.en --metrics bleu chrf --sentence < hypotheses.txt
  softbellman score --references captions.*.txt --metrics cider rouge_l < hypotheses.txt
"""

TITLES = {"bleu": "BLEU", "cider": "CIDEr-D", "rouge_l": "ROUGE-L", "chrf": "chrF", "ter": "TER"}
TOKENIZERS = ("13a", "none", "intl", "char", "zh")

Groups = list[list[str]]
"""The references of each line, without the empty ones."""


class Scored(NamedTuple):
    """A metric of all hypotheses: the corpus score in words, how it was computed, each line's own score where asked for."""

    summary: str
    signature: str
    sentences: list[float]
    sentence_signature: str
    """How the lines' own scores were computed."""


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
        "--metrics", "--metric", dest="metrics", metavar="NAME", nargs="+", choices=tuple(TITLES),
        default=["bleu"], help=f"of {', '.join(TITLES)} (default: bleu)",
    )  # fmt: skip
    parser.add_argument(
        "--tokenize",
        choices=TOKENIZERS,
        default="13a",
        help="tokeniser of BLEU, CIDEr-D and ROUGE-L; none for text that is tokenised",
    )
    case = parser.add_mutually_exclusive_group()
    case.add_argument("--lowercase", action="store_true", help="compare without case; TER does so by itself")
    case.add_argument("--ter-case-sensitive", action="store_true", help="TER compares with case")
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
    groups = group_references(references, options)
    found = {
        name: (of_words if name in ("cider", "rouge_l") else of_sacrebleu)(name, hypotheses, groups, options)
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
        if options.sentence and scored.sentence_signature != scored.signature:
            text += f"\n  signature of the lines: {scored.sentence_signature}"
        print(text, file=sys.stderr if options.sentence else sys.stdout)
    return 0


def group_references(references: list[list[str]], options: argparse.Namespace) -> Groups:
    """The references of each line; raises UserError where all files have an empty line."""
    from softbellman.payoffs.text_metrics import present

    groups = [present(group) for group in zip(*references, strict=True)]
    for number, group in enumerate(groups, start=1):
        if not group:
            files = ", ".join(map(str, options.references))
            metrics = ", ".join(TITLES[name] for name in dict.fromkeys(options.metrics))
            raise UserError(f"{files}: line {number} is empty, which leaves {metrics} no reference there")
    return groups


def of_words(name: str, hypotheses: list[str], groups: Groups, options: argparse.Namespace) -> Scored:
    """CIDEr-D and ROUGE-L, on ids of the words."""
    import softbellman
    from softbellman.payoffs.text_metrics import cider_scores, mean, rouge_l_scores

    facts, score = {
        "cider": ("df:references|order:4|sigma:6", cider_scores),
        "rouge_l": ("beta:1.2", rouge_l_scores),
    }[name]
    sentences = score(hypotheses, groups, tokenize=options.tokenize, lowercase=options.lowercase)
    sizes = set(map(len, groups))
    count = sizes.pop() if len(sizes) == 1 else "var"
    case = "lc" if options.lowercase else "mixed"
    signature = f"nrefs:{count}|case:{case}|{facts}|tok:{options.tokenize}|version:{softbellman.__version__}"
    return Scored(f"{TITLES[name]} = {mean(sentences):.2f}", signature, sentences, signature)


def of_sacrebleu(name: str, hypotheses: list[str], groups: Groups, options: argparse.Namespace) -> Scored:
    """BLEU, chrF and TER; single lines only where they are asked for."""
    from softbellman.payoffs.text_metrics import streams

    whole = build_metric(name, options, sentence=False)
    sacrebleu = logging.getLogger("sacrebleu")
    sacrebleu.addFilter(say_option)
    try:
        summary = whole.corpus_score(hypotheses, streams(groups)).format()
    finally:
        sacrebleu.removeFilter(say_option)
    signature = str(whole.get_signature())
    if not options.sentence:
        return Scored(summary, signature, [], signature)
    single = build_metric(name, options, sentence=True)
    sentences = [
        single.sentence_score(hypothesis, group).score
        for hypothesis, group in zip(hypotheses, groups, strict=True)
    ]
    single.num_refs = whole.num_refs  # it has seen the last line alone
    return Scored(summary, signature, sentences, str(single.get_signature()))


def say_option(record: logging.LogRecord) -> bool:
    """Puts this command's option in the place of the Python argument that sacrebleu's warning about tokenised text names."""
    if "`force`" in record.getMessage():
        record.msg, record.args = "For text that is tokenised say --tokenize none.", ()
    return True


def build_metric(name: str, options: argparse.Namespace, *, sentence: bool) -> Any:
    """sacrebleu's metric of that name; sentence BLEU counts only the orders a short line has."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    if name == "bleu":
        return BLEU(
            lowercase=options.lowercase,
            tokenize=options.tokenize,
            effective_order=sentence,
            force=options.tokenize == "none",
        )
    if name == "chrf":
        return CHRF(lowercase=options.lowercase)
    return TER(case_sensitive=options.ter_case_sensitive)
