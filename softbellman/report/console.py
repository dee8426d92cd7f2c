"""What the command line shows of a run: lines, bars, the final table, and the learning curve in the run folder."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from softbellman.report.curve import draw_curve
from softbellman.report.next_steps import next_steps
from softbellman.report.progress import Bar, Progress
from softbellman.report.tables import format_table
from softbellman.report.titles import METRIC_TITLES, describe_numbers
from softbellman.training.diagnosis import Diagnosis
from softbellman.training.observer import Observer
from softbellman.training.result import RunResult
from softbellman.training.runfolder import RunFolder


class Console(Observer):
    """Tells a person at a terminal, or a log, what a run does; draws its curve after every stage.

    Args:
        progress: where lines and bars go; None: standard output and error.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self.progress = progress or Progress()
        self._started = time.monotonic()

    def started(self, facts: Sequence[str]) -> None:
        """One line for each fact."""
        for fact in facts:
            self.progress.line(fact)

    def updates(self, stage: str, epoch: int, epochs: int, count: int) -> AbstractContextManager[Bar]:
        """A bar of the updates of one epoch, or of the part of it before the next validation."""
        return self.progress.count(f"{stage} {epoch}/{epochs}", count, unit="update")

    def validated(self, stage: str, epoch: float, metrics: Mapping[str, float], *, best: bool) -> None:
        """One line; a star marks the best validation of its stage so far."""
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        star = "*" if best else " "
        numbers = "  ".join(describe_numbers(metrics))
        self.progress.line(f"[{minutes:3d}:{seconds:02d}] {stage:<10} epoch {epoch:5.2f} {star} {numbers}")

    def diagnosed(self, diagnosis: Diagnosis, *, final: bool) -> None:
        """One line."""
        self.progress.line(diagnosis.line(final=final))

    def warned(self, message: str) -> None:
        """One line on standard error, in quiet mode too."""
        self.progress.warn(f"softbellman: {message}")

    def stage_ended(self, stage: str, folder: RunFolder) -> None:
        """Draws the learning curve anew; where that is not possible the run goes on without it."""
        try:
            draw_curve(folder.metrics_path, folder.curve_path)
        except OSError as error:
            self.warned(f"{folder.curve_path} cannot be written: {error.strerror or error}")

    def finished(self, result: RunResult) -> None:
        """The comparison on the test set, the places, and what to type next; shown in quiet mode too."""
        self.progress.line("\n".join(["", *_comparison(result), "", *_next_steps(result)]), always=True)


def _comparison(result: RunResult) -> list[str]:
    rows = result.rows
    table = [
        {"system": row.system, "dev BLEU": row.dev_bleu,
         **{f"dev {METRIC_TITLES.get(name, name)}": value for name, value in row.dev_others.items()},
         "test BLEU": row.test.score,
         **{METRIC_TITLES.get(name, name): value for name, value in row.others.items()},
         "length ratio": row.test.length_ratio}
        for row in rows
    ]  # fmt: skip
    lines = [format_table(table)]
    if len(rows) > 1:
        first, last = rows[0], rows[-1]
        gain = last.test.score - first.test.score
        lines.append(f"{last.system} minus {first.system} on the test set: {gain:+.2f} BLEU")
    return lines + [
        f"sacrebleu: {signature}" for signature in dict.fromkeys(row.test.signature for row in rows)
    ]


def _next_steps(result: RunResult) -> list[str]:
    place = shlex.quote(str(result.folder))
    return [
        f"Run folder: {place} (curve.png, metrics.jsonl, config.yaml, hypotheses/, checkpoints/)",
        "Next:",
        *(f"  {line}" for line in next_steps(result)),
    ]
