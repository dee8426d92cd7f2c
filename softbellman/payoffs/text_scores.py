"""Scores of single texts by sacrebleu, in the form of a payoff of your own: texts and their references to numbers about 1.

Python computes them, so that a run that pays each prefix spends most of its time here (docs/payoffs.md has the cost).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER


def chrf_scores(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """sacrebleu's sentence chrF2, 0 to 1; of several references the best. 0 without one.

    Example:
        >>> chrf_scores(["two dogs", "seven"], [["two dogs"], ["a cat"]])
        [1.0, 0.0]
    """
    return _scores(CHRF(), hypotheses, references, lambda score: score / 100)


def ter_scores(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """1 - TER by sacrebleu: 1 is a copy, 0 as many edits as words; below 0 where more. 0 without a reference.

    The edits are those to the nearest reference, the words those of a mean one.

    Example:
        >>> ter_scores(["two dogs run", "two dogs", "a b c d"], [["two dogs run"], ["two dogs run fast"], ["x y"]])
        [1.0, 0.5, -1.0]
    """
    return _scores(TER(), hypotheses, references, lambda score: 1 - score / 100)


def _scores(
    metric: Any,
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    unit: Callable[[float], float],
) -> list[float]:
    return [
        unit(metric.sentence_score(hypothesis, list(group)).score) if group else 0.0
        for hypothesis, group in zip(hypotheses, references, strict=True)
    ]
