"""Paired tests: statistics that give sacrebleu's scores, intervals and p that mean what they say."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import PairedTest as SacrebleuTest

from softbellman.experiments.resampling import (
    RESAMPLED,
    Interval,
    bleu_of,
    bleu_statistics,
    paired_test,
    ter_statistics,
)
from softbellman.payoffs.text_metrics import cider_scores, rouge_l_scores, streams

WORDS = ["a", "b", "c", "d", "e", "f", "g", "h"]
MEAN = RESAMPLED["rouge_l"]  # its statistics are a score and a one


def texts(count: int, *, level: float, seed: int) -> tuple[list[str], list[list[str]]]:
    """Hypotheses whose words are wrong with a probability, and one or two references of each."""
    draw = random.Random(seed)
    references = [
        [" ".join(draw.choices(WORDS, k=draw.randint(2, 12))) for _ in range(draw.randint(1, 2))]
        for _ in range(count)
    ]
    draw = random.Random(f"{seed}/{level}")
    lines = [
        " ".join(draw.choice(WORDS) if draw.random() < level else w for w in group[0].split())
        for group in references
    ]
    return lines, references


def column(scores: np.ndarray) -> np.ndarray:
    return np.stack([scores, np.ones_like(scores)], axis=-1)


@pytest.mark.parametrize("level", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_sums_of_statistics_give_sacrebleus_bleu(level: float, order: int) -> None:
    for seed, count in enumerate((1, 2, 3, 60)):
        lines, references = texts(count, level=level, seed=seed)
        metric = BLEU(tokenize="none", force=True, max_ngram_order=order)
        wanted = metric.corpus_score(lines, streams(references)).score  # type: ignore[arg-type]
        found = bleu_of(bleu_statistics(lines, references).sum(0), order=order)
        assert found == pytest.approx(wanted, abs=1e-9)


def test_nothing_said_is_zero_and_no_warning() -> None:
    found = bleu_statistics(["", ""], [["a b"], ["c"]])
    assert bleu_of(found.sum(0)) == 0.0 and bleu_of(np.zeros((3, 10))).tolist() == [0.0] * 3


def test_the_other_metrics_come_back_from_their_sums() -> None:
    lines, references = texts(40, level=0.4, seed=5)
    for name, scores in (("cider", cider_scores), ("rouge_l", rouge_l_scores)):
        metric = RESAMPLED[name]
        assert metric.score(metric.statistics(lines, references).sum(0)) == pytest.approx(
            np.mean(scores(lines, references))
        )
    wanted = TER(case_sensitive=True).corpus_score(lines, streams(references)).score  # type: ignore[arg-type]
    assert RESAMPLED["ter"].score(ter_statistics(lines, references).sum(0)) == pytest.approx(wanted)
    assert RESAMPLED["ter"].better == -1


def test_p_and_difference_agree_with_sacrebleus_approximate_randomization() -> None:
    close, references = texts(200, level=0.30, seed=1)
    far, _ = texts(200, level=0.34, seed=1)
    metric = BLEU(tokenize="none", force=True)
    named = [("baseline", far), ("system", close)]
    _, sacrebleu = SacrebleuTest(
        named,
        {"bleu": metric},
        streams(references),  # type: ignore[arg-type]
        test_type="ar",
        n_samples=4000,
    )()
    wanted = sacrebleu["BLEU"][1]
    found = paired_test(
        RESAMPLED["bleu"],
        [(bleu_statistics(close, references), bleu_statistics(far, references))],
        resamples=4000,
    ).pooled
    assert found.difference == pytest.approx(wanted.score - sacrebleu["BLEU"][0].score)
    assert 0.02 < wanted.p_value < 0.98  # else the comparison says nothing
    assert found.p == pytest.approx(wanted.p_value, abs=4 * np.sqrt(0.5 / 4000))


def test_the_interval_is_that_of_a_mean_where_the_score_is_one() -> None:
    generator = np.random.default_rng(3)
    differences = generator.normal(1.0, 4.0, size=400)
    base = generator.normal(50.0, 10.0, size=400)
    found = paired_test(MEAN, [(column(base + differences), column(base))], resamples=8000).pooled
    error = differences.std() / 20
    assert found.difference == pytest.approx(differences.mean())
    assert found.interval.low == pytest.approx(differences.mean() - 1.96 * error, abs=0.1 * error)
    assert found.interval.high == pytest.approx(differences.mean() + 1.96 * error, abs=0.1 * error)


def test_an_interval_covers_the_truth_as_often_as_it_says_and_p_is_uniform_under_the_null() -> None:
    generator = np.random.default_rng(11)
    covered, p_values = 0, []
    for trial in range(300):
        base = generator.normal(50.0, 10.0, size=60)
        system = base + generator.normal(0.0, 4.0, size=60)
        found = paired_test(MEAN, [(column(system), column(base))], resamples=400, seed=trial).pooled
        covered += found.interval.low <= 0.0 <= found.interval.high
        p_values.append(found.p)
    assert 0.90 <= covered / 300 <= 0.98
    assert np.quantile(p_values, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.1)


def test_equal_systems_differ_by_nothing_with_p_one() -> None:
    lines, references = texts(30, level=0.3, seed=2)
    same = bleu_statistics(lines, references)
    found = paired_test(RESAMPLED["bleu"], [(same, same)])
    assert found.pooled.difference == 0.0 and found.pooled.interval == Interval(0.0, 0.0)
    assert found.pooled.p == 1.0 and found.new_runs is None and found.starts == 1


def test_runs_are_pooled_sentence_by_sentence() -> None:
    """What is hard about a sentence is shared, so runs on the same sentences tell less than as many new sentences."""
    generator = np.random.default_rng(7)
    per_sentence = generator.normal(1.0, 6.0, size=100)
    pair = column(50 + per_sentence), column(np.full(100, 50.0))
    one = paired_test(MEAN, [pair], resamples=4000).pooled.interval
    three = paired_test(MEAN, [pair] * 3, resamples=4000)
    assert three.pooled.interval == pytest.approx(one, abs=1e-9)
    assert three.by_run[0] == three.by_run[2] and three.starts == 3
    assert three.new_runs == pytest.approx(one, abs=1e-9)  # all runs agree: nothing is added


def test_the_spread_over_starts_enters_with_students_t() -> None:
    from scipy import stats

    base = column(np.full(50, 50.0))
    means = [0.5, 2.0, 2.6]
    pairs = [(column(np.full(50, 50.0 + mean)), base) for mean in means]  # no sentence differs from another
    found = paired_test(MEAN, pairs, resamples=60000)
    assert found.pooled.interval == pytest.approx((1.7, 1.7))
    low, high = stats.t.interval(0.95, df=2, loc=1.7, scale=stats.sem(means))
    assert found.new_runs == pytest.approx((low, high), rel=0.1)


def test_runs_of_one_start_count_once() -> None:
    base = column(np.full(20, 50.0))
    pairs = [(column(np.full(20, 50.0 + mean)), base) for mean in (1.0, 1.0, 3.0, 3.0)]
    found = paired_test(MEAN, pairs, starts=[1, 1, 2, 2])
    assert found.starts == 2 and found.pooled.difference == 2.0
    apart = paired_test(MEAN, pairs)
    assert found.new_runs is not None and apart.new_runs is not None
    assert found.new_runs.high > apart.new_runs.high  # two starts say less than four
    assert paired_test(MEAN, pairs, starts=[1, 1, 1, 1]).new_runs is None


def test_what_cannot_be_compared_is_refused() -> None:
    some = column(np.ones(4))
    with pytest.raises(ValueError, match="needs a pair of systems and at least one sentence"):
        paired_test(MEAN, [])
    with pytest.raises(ValueError, match=r"statistics \(1, 4, 2\), their baselines \(1, 3, 2\)"):
        paired_test(MEAN, [(some, some[:3])])
