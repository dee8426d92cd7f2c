"""Orderings and what a test says about their steps."""

from __future__ import annotations

import pytest

from softbellman.experiments.orderings import Step, judge, parse_orderings, sentence
from softbellman.experiments.resampling import Difference, Interval, PairedTest


def found(low: float, high: float, new_runs: tuple[float, float] | None = None) -> PairedTest:
    pooled = Difference((low + high) / 2, Interval(low, high), 0.02)
    return PairedTest(pooled, Interval(*new_runs) if new_runs else None, 3 if new_runs else 1, (pooled,))


def test_orderings_are_steps_each_once_and_either_way_round() -> None:
    steps = parse_orderings(["MLE < RAML < VAML", "VAML > RAML", "ERAC > ERAC without future entropy"])
    assert steps == (
        Step("MLE", "RAML"),
        Step("RAML", "VAML"),
        Step("ERAC without future entropy", "ERAC"),
    )


@pytest.mark.parametrize("text", ["MLE", "MLE <", "< MLE", "A < B > C", ""])
def test_what_is_no_ordering_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="an ordering is names with < "):
        parse_orderings([text])


@pytest.mark.parametrize(
    ("test", "verdict"),
    [
        (found(0.1, 0.9, (0.05, 1.2)), "holds"),
        (found(0.1, 0.9, (-0.3, 1.2)), "holds for these runs"),
        (found(0.1, 0.9), "holds for these runs"),
        (found(-0.1, 0.9, (-0.2, 1.0)), "not decided"),
        (found(0.0, 0.0), "not decided"),
        (found(-0.9, -0.1), "does not hold"),
    ],
)
def test_the_verdict_follows_from_the_intervals(test: PairedTest, verdict: str) -> None:
    assert judge(test) == verdict


def test_less_is_better_turns_the_intervals() -> None:
    assert judge(found(-0.9, -0.1, (-1.0, -0.05)), better=-1) == "holds"
    assert judge(found(0.1, 0.9), better=-1) == "does not hold"


def test_the_sentence_has_the_interval_and_what_new_runs_may_give() -> None:
    text = sentence(Step("AC", "ERAC"), found(0.1, 0.9, (-0.3, 1.2)), metric="BLEU", runs=3)
    assert text == (
        "AC < ERAC holds for these runs. ERAC minus AC is +0.50 BLEU (95 % interval +0.10 to +0.90, p = 0.020, 3 runs). "
        "For new runs, judged by 3 starts, it is -0.30 to +1.20."
    )
    assert "is not decided" in sentence(Step("AC", "ERAC"), found(-0.1, 0.9), metric="BLEU", runs=1)
    assert "one run)." in sentence(Step("AC", "ERAC"), found(-0.1, 0.9), metric="BLEU", runs=1)
