"""`softbellman score --paired SYSTEM BASELINE`: the difference of two systems, its interval and p."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softbellman.cli.common import UserError
from softbellman.cli.score_sources import (
    captions_by_image,
    group_references,
    outputs_of_run,
    read_table,
    references_in,
    refuse_scored,
)

if TYPE_CHECKING:
    from softbellman.experiments.outputs import Outputs


def compare_two(options: argparse.Namespace, titles: dict[str, str]) -> None:
    """Prints a table: a row a metric, with both scores, the difference, its 95 % interval, p."""
    from softbellman.cli.score import check_tested
    from softbellman.experiments.orderings import show_interval, show_p
    from softbellman.experiments.resampling import RESAMPLED, RESAMPLES, paired_test
    from softbellman.report.tables import format_table

    check_tested(options.metrics, "--paired: {} has no paired test")
    systems, references, tokenize = _read(options)
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys(options.metrics):
        metric = RESAMPLED[name]
        lowercase = options.lowercase if name != "ter" else not options.ter_case_sensitive
        pair = [
            metric.statistics(lines, references, tokenize=tokenize, lowercase=lowercase) for lines in systems
        ]
        found = paired_test(metric, [(pair[0], pair[1])], resamples=RESAMPLES).pooled
        rows.append({
            "metric": titles[name],
            "system": float(metric.score(pair[0].sum(0))),
            "baseline": float(metric.score(pair[1].sum(0))),
            "difference": f"{found.difference:+.2f}",
            "95 % interval": show_interval(found.interval),
            "p": show_p(found.p),
        })  # fmt: skip
    print(format_table(rows, right=("difference", "95 % interval", "p")))
    case = "lc" if options.lowercase else "mixed"
    print(
        f"{len(references)} lines, case:{case}, tok:{tokenize}; interval: paired bootstrap, p: two-sided approximate "
        f"randomization, {RESAMPLES} draws each"
    )


def _read(options: argparse.Namespace) -> tuple[list[Sequence[str]], list[list[str]], str]:
    """Hypotheses of system and baseline, references of each line, sacrebleu's tokeniser."""
    from softbellman.cli.score import in_words
    from softbellman.data import read_lines

    texts: list[Sequence[str]] = []
    outputs: list[Outputs] = []
    tokenize = options.tokenize
    for word in options.paired:
        path = Path(word)
        if path.is_file():
            texts.append(read_lines(path))
            refuse_scored(texts[-1], word)
            continue
        found, own = outputs_of_run(word)
        texts.append(found.hypotheses)
        outputs.append(found)
        tokenize = tokenize or own
    tokenize = tokenize or "13a"
    table = read_table(options)
    if table is not None:
        references = references_in(table, in_words(options.metrics))
        for place, word in enumerate(options.paired):
            captions = captions_by_image(texts[place], table, word)
            texts[place] = [captions[name] for name in table.images]
    elif options.references:
        files = [read_lines(path) for path in options.references]
        for path, lines in zip(options.references, files, strict=True):
            if len(lines) != len(texts[0]):
                raise UserError(f"{path} has {len(lines)} lines, {options.paired[0]} has {len(texts[0])}")
        references = group_references(files, options.references, in_words(options.metrics))
    elif outputs:
        references = [list(group) for group in outputs[0].test_set.references]
        if any(found.test_set.digest != outputs[0].test_set.digest for found in outputs):
            raise UserError("the two runs were tested on different data")
    else:
        raise UserError("--paired of two files needs --references")
    for word, text in zip(options.paired, texts, strict=True):
        if len(text) != len(references):
            raise UserError(f"{word} has {len(text)} lines, the references {len(references)}")
    if not references:
        raise UserError("there are no lines to compare")
    return texts, references, tokenize
