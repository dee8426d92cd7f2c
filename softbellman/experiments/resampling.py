"""Paired tests of two systems on the same sentences: what the difference of their scores is, and how far chance may move it.

A corpus score is a function of sums over sentences (`ResampledMetric`), so a resampled test set is a weighted sum. The
interval is of the paired bootstrap [1], p of two-sided approximate randomization [2]; sacrebleu has both for one pair of
systems. Here several pairs, one a run, are tested together: each resample draws the same sentences for all of them, as
the runs share what is hard about a sentence.

[1] Koehn, "Statistical significance tests for machine translation evaluation", EMNLP 2004.
[2] Riezler and Maxwell, "On some pitfalls in automatic evaluation and significance testing for MT", 2005.

Notation: N sentences, S statistics, K runs, B resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.ter import TER

from softbellman.data.scenes import Scene, judge_caption
from softbellman.payoffs.text_metrics import (
    TextGroups,
    Texts,
    cider_scores,
    present,
    rouge_l_scores,
)

Array = NDArray[np.float64]

ORDERS = 4
"""N-gram orders whose counts the statistics of BLEU hold."""

RESAMPLES = 2000
LEVEL = 0.95
_CHUNK = 250  # resamples drawn together: [250, N] at a time


class ResampledMetric(NamedTuple):
    """A metric that can be computed from sums over sentences.

    Attributes:
        statistics: (hypotheses, references of each, tokenize=, lowercase=) to `[N, S]`; of `truth` scenes in their place.
        score: sums `[..., S]` to scores `[...]`, 0 to 100.
        better: 1 where more is better, -1 where less is.
    """

    statistics: Callable[..., Array]
    score: Callable[[Array], Array]
    better: int = 1


def bleu_statistics(
    hypotheses: Texts, references: TextGroups, *, tokenize: str = "none", lowercase: bool = False
) -> Array:
    """Of each sentence: its length, the closest reference's, matched n-grams of orders 1 to 4, all n-grams. `[N, 10]`."""
    metric = BLEU(tokenize=tokenize, lowercase=lowercase, force=True, max_ngram_order=ORDERS)
    rows = []
    for hypothesis, group in zip(hypotheses, references, strict=True):
        found = metric.corpus_score([hypothesis], [[reference] for reference in present(group)])
        rows.append([found.sys_len, found.ref_len, *found.counts, *found.totals])
    return np.array(rows, dtype=np.float64).reshape(len(rows), 2 + 2 * ORDERS)


def bleu_of(sums: Array, *, order: int = ORDERS) -> Array:
    """Corpus BLEU of 0 to 100 with sacrebleu's exponential smoothing, from sums of `bleu_statistics`.

    Args:
        sums: `[..., 10]`.
        order: longest n-gram.

    Returns:
        `[...]`.
    """
    length, reference_length = sums[..., 0], sums[..., 1]
    matched, all_ngrams = sums[..., 2 : 2 + order], sums[..., 2 + ORDERS : 2 + ORDERS + order]
    missing = (matched == 0) & (all_ngrams > 0)
    smoothed = np.where(missing, 0.5 ** np.cumsum(missing, axis=-1), matched)
    some = (all_ngrams > 0).all(-1) & (matched > 0).any(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.exp(np.log(smoothed / all_ngrams).mean(-1))
        brevity = np.exp(np.minimum(0.0, 1.0 - reference_length / length))
    return np.where(some, 100.0 * brevity * precision, 0.0)


def ter_statistics(
    hypotheses: Texts, references: TextGroups, *, tokenize: str = "none", lowercase: bool = False
) -> Array:
    """Edits and mean reference length of each sentence, `[N, 2]`; TER has a tokeniser of its own."""
    metric = TER(case_sensitive=not lowercase)
    found = [
        metric.corpus_score([hypothesis], [[reference] for reference in present(group)])
        for hypothesis, group in zip(hypotheses, references, strict=True)
    ]
    return np.array([[score.num_edits, score.ref_length] for score in found], dtype=np.float64).reshape(-1, 2)


def truth_statistics(
    captions: Texts, scenes: Sequence[Scene], *, tokenize: str = "none", lowercase: bool = False
) -> Array:
    """Of each caption: 1 where it is true of its scene, and a one, `[N, 2]`. Its grammar decides what a word is."""
    true = [
        float(judge_caption(caption, scene) == "true")
        for caption, scene in zip(captions, scenes, strict=True)
    ]
    return np.stack([np.array(true, dtype=np.float64), np.ones(len(true))], axis=-1)


def _scores_as_statistics(score: Callable[..., list[float]], *texts: Any, **options: Any) -> Array:
    found = score(*texts, **options)
    return np.stack([np.array(found, dtype=np.float64), np.ones(len(found))], axis=-1)


def _mean_of(sums: Array) -> Array:
    """Of sums of a number and of ones."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums[..., 1] > 0, sums[..., 0] / sums[..., 1], 0.0)


def _percent_of(sums: Array) -> Array:
    return 100.0 * _mean_of(sums)


RESAMPLED: dict[str, ResampledMetric] = {
    "bleu": ResampledMetric(bleu_statistics, bleu_of),
    **{
        f"bleu{order}": ResampledMetric(bleu_statistics, partial(bleu_of, order=order)) for order in (1, 2, 3)
    },
    "cider": ResampledMetric(partial(_scores_as_statistics, cider_scores), _mean_of),
    "rouge_l": ResampledMetric(partial(_scores_as_statistics, rouge_l_scores), _mean_of),
    "ter": ResampledMetric(ter_statistics, _percent_of, better=-1),
    "truth": ResampledMetric(truth_statistics, _percent_of),
}
"""Metrics by the name that runs log them under. CIDEr-D keeps the document frequencies of the whole test set, a property of
its references, in every resample. Where all sentences are drawn once the score is that of the test set."""


MAIN_METRICS = ("bleu", "cider", "rouge_l", "truth")
"""Those that verdicts and figures are made of."""


def kind_of(metric: str) -> str:
    """The metric whose statistics those of `metric` are: all orders of BLEU have the same."""
    return "bleu" if RESAMPLED[metric].statistics is bleu_statistics else metric


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A difference of scores, system minus baseline, with its test.

    Attributes:
        difference: on the test set as it is; of several runs their mean.
        interval: paired bootstrap over the sentences, for these runs.
        p: two-sided approximate randomization: how often exchanging the systems' outputs at random gives a difference as
            large.
    """

    difference: float
    interval: Interval
    p: float


@dataclass(frozen=True)
class PairedTest:
    """K pairs of runs tested together.

    Attributes:
        pooled: of the mean difference.
        new_runs: interval of the mean difference over new sentences and new starts; None of a single start. The spread over
            the starts enters with Student's t.
        starts: different starts among the runs.
        by_run: each pair alone, in order.
    """

    pooled: Difference
    new_runs: Interval | None
    starts: int
    by_run: tuple[Difference, ...]


def paired_test(
    metric: ResampledMetric,
    pairs: Sequence[tuple[Array, Array]],
    *,
    starts: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 1,
) -> PairedTest:
    """Test K systems against their K baselines on the same N sentences.

    Args:
        metric: one of `RESAMPLED`.
        pairs: statistics `[N, S]` of system and baseline, one pair a run.
        starts: what each run started from; runs of one start are no independent draws, so their mean counts once. None:
            all differ.
        resamples: B, of the bootstrap and of the randomization.
        seed: of the draws; the same for every call, so that equal pairs have equal tests.

    Raises:
        ValueError: no pair, no sentence, or statistics of different test sets.

    Example:
        >>> better = np.array([[60.0, 1.0], [40.0, 1.0]] * 20)
        >>> found = paired_test(RESAMPLED["rouge_l"], [(better, better - [10.0, 0.0])])
        >>> found.pooled.difference, found.pooled.interval
        (10.0, Interval(low=10.0, high=10.0))
    """
    if not pairs or not len(pairs[0][0]):
        raise ValueError("a paired test needs a pair of systems and at least one sentence")
    systems, baselines = (np.stack([pair[side] for pair in pairs]) for side in (0, 1))  # [K, N, S]
    if systems.shape != baselines.shape:
        raise ValueError(f"systems have statistics {systems.shape}, their baselines {baselines.shape}")
    observed = metric.score(systems.sum(1)) - metric.score(baselines.sum(1))  # [K]
    generator = np.random.default_rng(seed)
    drawn = np.concatenate([  # [B, K]
        metric.score(weights @ systems) - metric.score(weights @ baselines)
        for weights in _bootstrap_weights(generator, systems.shape[1], resamples)
    ], axis=1).T  # fmt: skip
    total = (systems + baselines).sum(1)[:, None]  # [K, 1, S]
    exchanged = []
    for kept in _random_signs(generator, systems.shape[1], resamples):
        first = kept @ systems + (1.0 - kept) @ baselines  # [K, b, S]
        exchanged.append(metric.score(first) - metric.score(total - first))
    shuffled = np.concatenate(exchanged, axis=1).T  # [B, K]
    by_run = tuple(_tested(observed[k], drawn[:, k], shuffled[:, k]) for k in range(len(pairs)))
    labels = list(range(len(pairs))) if starts is None else list(starts)
    means = [
        float(np.mean([observed[k] for k, label in enumerate(labels) if label == start]))
        for start in dict.fromkeys(labels)
    ]
    pooled = _tested(observed.mean(), drawn.mean(1), shuffled.mean(1))
    return PairedTest(pooled, _over_starts(drawn.mean(1), means, generator), len(means), by_run)


def bootstrap_interval(
    metric: ResampledMetric, statistics: Array, *, resamples: int = RESAMPLES, seed: int = 1
) -> Interval:
    """The 95 % interval of a system's score over test sets like this one, by the percentile bootstrap over sentences.

    Args:
        metric: one of `RESAMPLED`.
        statistics: `[N, S]` of the system.
        resamples: B.
        seed: of the draws.

    Raises:
        ValueError: no sentence.

    Example:
        >>> same = np.array([[60.0, 1.0]] * 20)
        >>> bootstrap_interval(RESAMPLED["rouge_l"], same)
        Interval(low=60.0, high=60.0)
    """
    if not len(statistics):
        raise ValueError("a bootstrap needs at least one sentence")
    generator = np.random.default_rng(seed)
    drawn = [
        metric.score(weights @ statistics)
        for weights in _bootstrap_weights(generator, len(statistics), resamples)
    ]
    return _interval(np.concatenate(drawn))


def _tested(difference: float, drawn: Array, shuffled: Array) -> Difference:
    # rounding must not make an exchange of equal outputs look smaller than no exchange
    as_large = np.abs(shuffled) >= abs(difference) - 1e-9
    return Difference(float(difference), _interval(drawn), float((1 + as_large.sum()) / (1 + len(shuffled))))


def _interval(drawn: Array) -> Interval:
    tail = (1.0 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    return Interval(float(low), float(high))


def _over_starts(drawn: Array, means: Sequence[float], generator: np.random.Generator) -> Interval | None:
    """The bootstrap over sentences, each draw moved by what a mean over so few starts may be off."""
    if len(means) < 2:
        return None
    error = np.std(means, ddof=1) / np.sqrt(len(means))
    return _interval(drawn + error * generator.standard_t(len(means) - 1, size=len(drawn)))


def _bootstrap_weights(generator: np.random.Generator, sentences: int, resamples: int) -> Iterator[Array]:
    """How often each resample draws each sentence, `[b, N]` at a time."""
    for size in _chunks(resamples):
        drawn = generator.integers(sentences, size=(size, sentences))
        rows = np.arange(size)[:, None] * sentences
        counts = np.bincount((drawn + rows).ravel(), minlength=size * sentences)
        yield counts.reshape(size, sentences).astype(np.float64)


def _random_signs(generator: np.random.Generator, sentences: int, resamples: int) -> Iterator[Array]:
    """1 where a sentence's outputs stay with their systems, 0 where they are exchanged, `[b, N]` at a time."""
    for size in _chunks(resamples):
        yield generator.integers(2, size=(size, sentences)).astype(np.float64)


def _chunks(resamples: int) -> Iterator[int]:
    for start in range(0, resamples, _CHUNK):
        yield min(_CHUNK, resamples - start)
