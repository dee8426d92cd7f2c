"""Orderings such as `MLE < RAML < VAML`, and what paired tests say about each of their steps."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Literal, NamedTuple

from softbellman.experiments.resampling import Interval, PairedTest

DEFAULT_ORDERINGS = (
    "MLE < RAML < VAML",
    "MLE < AC < ERAC",
    "ERAC without future entropy < ERAC",
    "MLE continued < ERAC",
    "MLE continued < VAML",
)
"""The paper's, and those against maximum likelihood for as many updates more."""

Verdict = Literal["holds", "holds for these runs", "not decided", "does not hold"]


class Step(NamedTuple):
    """One step of an ordering: `worse < better`."""

    worse: str
    better: str

    def __str__(self) -> str:
        return f"{self.worse} < {self.better}"


def parse_orderings(texts: Iterable[str]) -> tuple[Step, ...]:
    """The steps of orderings, each once.

    Args:
        texts: names with `<` or `>` between them; one ordering has one of the two signs.

    Raises:
        ValueError: no sign, both, or a name that is missing.

    Example:
        >>> [str(step) for step in parse_orderings(["MLE < AC < ERAC", "ERAC > MLE"])]
        ['MLE < AC', 'AC < ERAC', 'MLE < ERAC']
    """
    steps: dict[Step, None] = {}
    for text in texts:
        sign = "<" if "<" in text else ">"
        names = [name.strip() for name in text.split(sign)]
        if len(names) < 2 or not all(names) or ("<" in text and ">" in text):
            raise ValueError(f"an ordering is names with < (or >) between them, given {text!r}")
        ascending = names if sign == "<" else names[::-1]
        steps |= dict.fromkeys(Step(*pair) for pair in itertools.pairwise(ascending))
    return tuple(steps)


def judge(test: PairedTest, *, better: int = 1) -> Verdict:
    """What a test of `better` against `worse` says about their step.

    Args:
        test: of the system that should be better against the one that should be worse.
        better: -1 where less is better.

    Returns:
        `holds`: the interval over sentences and starts lies above 0. `holds for these runs`: only the one over sentences does,
        or there is one start. `does not hold`: the interval over sentences lies below 0. `not decided`: it contains 0.
    """
    pooled = _turned(test.pooled.interval, better)
    if pooled.high < 0:
        return "does not hold"
    if pooled.low <= 0:
        return "not decided"
    if test.new_runs is not None and _turned(test.new_runs, better).low > 0:
        return "holds"
    return "holds for these runs"


def sentence(step: Step, test: PairedTest, *, metric: str, runs: int, better: int = 1) -> str:
    """The verdict in words, with its intervals.

    Args:
        metric: its title, such as BLEU.
        runs: pairs of runs that were compared.
    """
    pooled = test.pooled
    verdict = judge(test, better=better)
    words = f"is {verdict}" if verdict == "not decided" else verdict
    many = f"{runs} runs" if runs != 1 else "one run"
    text = (
        f"{step} {words}. {step.better} minus {step.worse} is {pooled.difference:+.2f} {metric} "
        f"(95 % interval {show_interval(pooled.interval)}, p = {show_p(pooled.p)}, {many})."
    )
    if test.new_runs is not None:
        text += f" For new runs, judged by {test.starts} starts, it is {show_interval(test.new_runs)}."
    return text


def show_interval(interval: Interval) -> str:
    """`+0.10 to +0.93`."""
    return f"{interval.low:+.2f} to {interval.high:+.2f}"


def show_p(p: float) -> str:
    """Three decimals, two digits where it is small."""
    return f"{p:.3f}" if p >= 0.01 else f"{p:.2g}"


def _turned(interval: Interval, better: int) -> Interval:
    return interval if better > 0 else Interval(-interval.high, -interval.low)
