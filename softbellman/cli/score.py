"""`softbellman score --references FILE [FILE ...] < hypotheses.txt`, `softbellman score RUN`, the comparison of two systems."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from softbellman.cli.common import Parser, UserError
from softbellman.cli.score_sources import Groups, read_scorable

DESCRIPTION = """\
Scores the hypotheses on standard input against one or more reference files, line by line. RUN in
their place is what a run said on its test set, RUN:STAGE what it started from. It prints the corpus
score and the signature that says how it was computed. BLEU, chrF and TER are of
sacrebleu, with its defaults: TER alone ignores case. CIDEr-D and ROUGE-L are this package's, times
100, by the conventions of the COCO tools. CIDEr-D takes the document frequencies of the reference
files, one line of all of them a document.

An empty line in a reference file is no reference; every line needs one in some file. A file whose
name ends in .tsv is a table of captions: image, split and caption between tabs. Lines of standard
input may then be NAME, tab, CAPTION, as softbellman caption writes them.

--confidence adds the 95 % interval of each score, by bootstrap over the lines.

--paired compares two systems: files of hypotheses, or run folders, which have their references. It
prints the difference, its 95 % interval by paired bootstrap, and p by approximate randomization.

examples:
  softbellman score --references test.en < hypotheses.txt
  softbellman score --references test.0.en test.1.en --metrics bleu chrf --sentence < hypotheses.txt
  softbellman score --references captions.*.txt --metrics cider rouge_l < hypotheses.txt
  softbellman caption runs/erac scenes/*.png | softbellman score --references captions.tsv
  softbellman score runs/erac --metrics bleu ter --confidence
  softbellman score --paired erac.txt ac.txt --references test.en --tokenize none
  softbellman score --paired runs/erac-1 runs/ac-1        (RUN:actor is what a run started from)
"""

TITLES = {"bleu": "BLEU", "cider": "CIDEr-D", "rouge_l": "ROUGE-L", "chrf": "chrF", "ter": "TER"}
TESTED = ("bleu", "cider", "rouge_l", "ter")
"""Metrics with intervals and paired tests."""

TOKENIZERS = ("13a", "none", "intl", "char", "zh")


class Scored(NamedTuple):
    """A metric of all hypotheses: the corpus score in words, how it was computed, each line's own score where asked for."""

    summary: str
    signature: str
    sentences: list[float]
    sentence_signature: str
    """How the lines' own scores were computed."""


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(prog="softbellman score", usage="%(prog)s [RUN] [OPTION ...]", description=DESCRIPTION)
    parser.add_argument("run", metavar="RUN", nargs="?", help="run folder whose test outputs are scored")
    parser.add_argument(
        "--references",
        metavar="FILE",
        nargs="+",
        type=Path,
        default=[],
        help="reference files, plain or .gz, or one table captions.tsv; runs have their own",
    )
    parser.add_argument(
        "--split", metavar="NAME", default="test", help="of a table of captions (default: test)"
    )
    parser.add_argument(
        "--paired",
        metavar=("SYSTEM", "BASELINE"),
        nargs=2,
        help="compare two systems; nothing is read from standard input",
    )
    parser.add_argument(
        "--metrics", "--metric", dest="metrics", metavar="NAME", nargs="+", choices=tuple(TITLES),
        default=["bleu"], help=f"of {', '.join(TITLES)} (default: bleu)",
    )  # fmt: skip
    parser.add_argument(
        "--tokenize",
        choices=TOKENIZERS,
        help="tokeniser of BLEU, CIDEr-D and ROUGE-L; none for text that is tokenised (default: 13a; of runs their own)",
    )
    case = parser.add_mutually_exclusive_group()
    case.add_argument("--lowercase", action="store_true", help="compare without case; TER does so by itself")
    case.add_argument("--ter-case-sensitive", action="store_true", help="TER compares with case")
    parser.add_argument(
        "--sentence", action="store_true",
        help="a table of the scores of every line to standard output, the corpus scores to standard error",
    )  # fmt: skip
    parser.add_argument(
        "--confidence", action="store_true", help="the 95 %% interval of each score; of all metrics but chrF"
    )
    return parser


def command(arguments: Sequence[str]) -> int:
    """Parses the arguments and prints the scores."""
    options = build_parser().parse_args(arguments)
    if options.paired:
        for name in ("sentence", "confidence", "run"):
            if getattr(options, name):
                raise UserError(f"--paired and {'RUN' if name == 'run' else f'--{name}'} exclude each other")
        from softbellman.cli.score_paired import compare_two

        compare_two(options, TITLES)
        return 0
    if options.confidence:
        check_tested(options.metrics, "--confidence: {} has no interval")
    hypotheses, groups, tokenize = read_scorable(options, in_words(options.metrics))
    options.tokenize = options.tokenize or tokenize or "13a"
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
    for name, scored in found.items():
        text = f"{scored.summary}\n  signature: {scored.signature}"
        if options.confidence:
            text += f"\n  {interval_of(name, hypotheses, groups, options)}"
        if options.sentence and scored.sentence_signature != scored.signature:
            text += f"\n  signature of the lines: {scored.sentence_signature}"
        print(text, file=sys.stderr if options.sentence else sys.stdout)
    return 0


def in_words(metrics: Sequence[str]) -> str:
    """Titles of metrics."""
    return ", ".join(TITLES[name] for name in dict.fromkeys(metrics))


def check_tested(metrics: Sequence[str], sentence: str) -> None:
    """Raises UserError, by a sentence with `{}` for its title, of a metric that is not resampled."""
    for name in metrics:
        if name not in TESTED:
            raise UserError(f"{sentence.format(TITLES[name])}; these have: {', '.join(TESTED)}")


def interval_of(name: str, hypotheses: list[str], groups: Groups, options: argparse.Namespace) -> str:
    """The interval of a score, in words."""
    from softbellman.experiments.resampling import RESAMPLED, RESAMPLES, bootstrap_interval

    metric = RESAMPLED[name]
    lowercase = options.lowercase if name != "ter" else not options.ter_case_sensitive
    statistics = metric.statistics(hypotheses, groups, tokenize=options.tokenize, lowercase=lowercase)
    low, high = bootstrap_interval(metric, statistics)
    return (
        f"95 % interval: {low:.2f} to {high:.2f} (bootstrap over {len(hypotheses)} lines, {RESAMPLES} draws)"
    )


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
