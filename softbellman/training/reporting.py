"""What a run tells its user: progress on a terminal or in a log, the final table, and the learning curve."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol, TextIO

from tqdm import tqdm

from softbellman.training.curve import draw_curve
from softbellman.training.runfolder import RunFolder

__all__ = ["Bar", "Progress", "draw_curve", "format_table"]

METRIC_TITLES = {
    "bleu1": "BLEU-1",
    "bleu2": "BLEU-2",
    "bleu3": "BLEU-3",
    "cider": "CIDEr-D",
    "rouge_l": "ROUGE-L",
    "chrf": "chrF2",
}
"""The metrics that `evaluation.metrics` adds, as tables name them."""

# What is shown of a validation, in this order, under these names and formats. The rest is in metrics.jsonl.
_SHOWN = {
    "dev_bleu": ("dev BLEU", ".2f"),
    "dev_cider": ("dev CIDEr-D", ".2f"),
    "dev_rouge_l": ("dev ROUGE-L", ".2f"),
    "dev_chrf": ("dev chrF2", ".2f"),
    "oracle_bleu": ("oracle BLEU", ".2f"),
    "dev_td_error": ("dev TD error", ".4f"),
    "rank_correlation": ("rank correlation", ".3f"),
    "choice_gain": ("choice gain", "+.3f"),
    "dev_nll": ("dev NLL", ".3f"),
    "perplexity": ("perplexity", ".2f"),
    "cross_entropy": ("cross entropy", ".3f"),
    "effective_samples": ("effective samples", ".2f"),
    "td_error": ("TD error", ".4f"),
    "entropy": ("entropy", ".3f"),
    "payoff": ("payoff", ".3f"),
}

# What to type next with a run folder, by what the run reads.
_NEXT = {
    "text": ["softbellman translate {} < source.txt > hypotheses.txt"],
    "features": ["softbellman caption {} --features FILE.npy"],
    "pixels": ["softbellman captions scenes --output scenes", "softbellman caption {} scenes/*.png"],
}


class Score(Protocol):
    """A corpus score: BLEU of 0 to 100, sacrebleu's signature, hypothesis over reference length."""

    @property
    def score(self) -> float: ...
    @property
    def signature(self) -> str: ...
    @property
    def length_ratio(self) -> float: ...


class Comparison(Protocol):
    """One row of the final comparison: a system, its best validation BLEU, its score and other metrics on the test set."""

    @property
    def system(self) -> str: ...
    @property
    def dev_bleu(self) -> float: ...
    @property
    def test(self) -> Score: ...
    @property
    def others(self) -> Mapping[str, float]: ...


class Bar:
    """Counts work done: a tqdm bar on a terminal, now and then a line in a log, nothing when quiet.

    Args:
        label: what is being done, such as `joint 3/30`.
        total: how much there is to do; None where that is not known.
        unit: what is counted.
        progress: where to show it.
    """

    def __init__(self, label: str, total: int | None, unit: str, progress: Progress) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, 0
        self._progress = progress
        self._started = self._spoke = time.monotonic()
        self._bar: Any = None
        if progress.on_terminal and not progress.quiet:
            self._bar = tqdm(
                total=total, desc=label, unit=unit, file=progress.bars, leave=False, dynamic_ncols=True
            )

    def update(self, count: int = 1, numbers: Mapping[str, float] | None = None) -> None:
        """Moves on by `count`; `numbers` are shown beside it."""
        self.done += count
        shown = describe_numbers(numbers or {})
        if self._bar is not None:
            if shown:
                self._bar.set_postfix_str(", ".join(shown), refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._spoke >= self._progress.log_interval:
            self._spoke = time.monotonic()
            seconds = self._spoke - self._started
            done = f"{self.done}" if self.total is None else f"{self.done}/{self.total}"
            parts = [f"{done} {self.unit}s in {seconds:.0f} s", *shown]
            self._progress.line(f"{self.label}: " + ", ".join(parts))

    def close(self) -> None:
        """Removes the bar from the terminal."""
        if self._bar is not None:
            self._bar.close()


class Progress:
    """The voice of a run.

    Args:
        quiet: show nothing but what `line` is told to show in any case.
        out: where lines go; standard output by default.
        bars: where bars go; standard error by default. Bars are drawn only when it is a terminal.
        log_interval: seconds between two lines about one long piece of work in a log.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        out: TextIO | None = None,
        bars: TextIO | None = None,
        log_interval: float = 30.0,
    ) -> None:
        self.quiet, self.log_interval = quiet, log_interval
        self.out, self.bars = out or sys.stdout, bars or sys.stderr
        self.on_terminal = self.bars.isatty()
        self._started = time.monotonic()

    def line(self, text: str, *, always: bool = False) -> None:
        """One or more lines, above any bar; `always` shows them in quiet mode too."""
        if self.quiet and not always:
            return
        if self.on_terminal:
            tqdm.write(text, file=self.out)
        else:
            print(text, file=self.out)
        self.out.flush()

    def note(self, stage: str, epoch: float, metrics: Mapping[str, float], *, best: bool = False) -> None:
        """One line about a validation; `best` marks it as the best of its stage so far."""
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        star = "*" if best else " "
        numbers = "  ".join(describe_numbers(metrics))
        self.line(f"[{minutes:3d}:{seconds:02d}] {stage:<10} epoch {epoch:5.2f} {star} {numbers}")

    def finish(
        self,
        folder: RunFolder,
        rows: Sequence[Comparison],
        *,
        reads: Literal["text", "features", "pixels"] = "text",
    ) -> None:
        """The end of a run, quiet or not: the comparison on the test set, the places, what to type next."""
        table = [
            {"system": row.system, "dev BLEU": row.dev_bleu, "test BLEU": row.test.score,
             **{METRIC_TITLES.get(name, name): value for name, value in row.others.items()},
             "length ratio": row.test.length_ratio}
            for row in rows
        ]  # fmt: skip
        lines = ["", format_table(table)]
        if len(rows) > 1:
            first, last = rows[0], rows[-1]
            gain = last.test.score - first.test.score
            lines.append(f"{last.system} minus {first.system} on the test set: {gain:+.2f} BLEU")
        lines += [
            f"sacrebleu: {signature}" for signature in dict.fromkeys(row.test.signature for row in rows)
        ]
        tokenizers = re.findall(r"tok:([\w-]+)", " ".join(row.test.signature for row in rows))
        tokenize = f" --tokenize {tokenizers[0]}" if tokenizers else ""
        place = shlex.quote(str(folder.path))
        lines += [
            "",
            f"Run folder: {place} (curve.png, metrics.jsonl, config.yaml, hypotheses/, checkpoints/)",
            "Next:",
            *(f"  {line.format(place)}" for line in _NEXT[reads]),
            f"  softbellman score --references references.txt{tokenize} < hypotheses.txt",
            "  softbellman-train --help",
        ]
        self.line("\n".join(lines), always=True)

    @contextmanager
    def bar(self, stage: str, epoch: int, epochs: int, updates: int) -> Iterator[Bar]:
        """The updates of one epoch, or of the part of it before the next validation."""
        with self.count(f"{stage} {epoch}/{epochs}", updates, unit="update") as bar:
            yield bar

    @contextmanager
    def count(self, label: str, total: int | None, *, unit: str) -> Iterator[Bar]:
        """Any work that can be counted; `unit` is the singular of what is counted."""
        bar = Bar(label, total, unit, self)
        try:
            yield bar
        finally:
            bar.close()


def describe_numbers(metrics: Mapping[str, float]) -> list[str]:
    """The metrics worth a line, as `name value`."""
    return [
        f"{label} {metrics[name]:{form}}"
        for name, (label, form) in _SHOWN.items()
        if metrics.get(name) is not None
    ]


def format_table(
    rows: Sequence[Mapping[str, Any]],
    *,
    digits: int = 2,
    markdown: bool = False,
    right: Sequence[str] = (),
) -> str:
    """A table with a column for every key, in the order they first appear.

    Args:
        rows: one mapping a row; a missing key or None is shown as `-`.
        digits: decimals of floats.
        markdown: pipes around the columns, as in a README.
        right: columns of text that are aligned to the right, as those of numbers are.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [[_cell(row.get(column), digits) for column in columns] for row in rows]
    numeric = [
        column in right
        or (
            any(isinstance(row.get(column), (int, float)) for row in rows)
            and not any(isinstance(row.get(column), str) for row in rows)
        )
        for column in columns
    ]
    widths = [max(len(line[i]) for line in [columns, *cells]) for i in range(len(columns))]

    def draw(line: Sequence[str]) -> str:
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ]
        return f"| {' | '.join(padded)} |" if markdown else "  ".join(padded).rstrip()

    if markdown:
        marks = [
            "-" * (width + 1) + (":" if right else "-") for width, right in zip(widths, numeric, strict=True)
        ]
        rule = f"|{'|'.join(marks)}|"
    else:
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([draw(columns), rule, *map(draw, cells)])


def _cell(value: Any, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)
