"""What a run leaves: its folder and the comparison of its systems on the test set."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from softbellman.training.evaluation import BleuScore


@dataclass(frozen=True)
class FinalRow:
    """One system on the test set.

    Attributes:
        system: name in the table, such as ERAC.
        stage: the stage whose selected actor was decoded.
        dev_bleu: BLEU on the validation set.
        test: BLEU on the test set.
        others: what `evaluation.metrics` asked for, of the test set, by name.
        dev_others: what selected on the validation set, by name; empty where that was BLEU.
    """

    system: str
    stage: str
    dev_bleu: float
    test: BleuScore
    others: dict[str, float]
    dev_others: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RunResult:
    """What a run leaves.

    Attributes:
        folder: the run folder.
        rows: the comparison, one row for each system.
        reads: what a source of its data is.
    """

    folder: Path
    rows: tuple[FinalRow, ...]
    reads: Literal["text", "features", "pixels"]
