"""BLEU of prefixes, sentences and corpora, counted the obvious way.

Every prefix is counted from scratch with a `Counter` of its n-grams: quadratic in the length, and short
enough to be checked by eye. The functions of the same names in `softbellman` give the same integers and
are tested against these.

Notation: B sources, K samples per source, R references per source, T and L padded lengths. A sequence is its
first `length` tokens, cut before the first `eos_id`; a reference of length 0 is absent.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

SMOOTH_DEFAULTS = {
    "none": 0.0,
    "floor": 0.1,
    "add-k": 1.0,
    "exp": 0.0,
    "add-one-all": 1.0,
    "add-k-length": 1.0,
}


class _Statistics(NamedTuple):
    matches: list[int]  # clipped n-gram matches, orders 1..n
    totals: list[int]  # n-grams of the hypothesis, orders 1..n
    length: int  # of the hypothesis
    reference_length: int  # the closest one, 0 when every reference is absent

    def flat(self) -> list[int]:
        return [*self.matches, *self.totals, self.length, self.reference_length]


def _ngrams(tokens: Sequence[int], order: int) -> Counter[tuple[int, ...]]:
    return Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))


def _statistics(
    tokens: Sequence[int], references: Sequence[Sequence[int]], max_order: int, unmatched_id: int | None
) -> _Statistics:
    present = [reference for reference in references if len(reference) > 0]
    matches, totals = [], []
    for order in range(1, max_order + 1):
        hypothesis_counts = _ngrams(tokens, order)
        clip: Counter[tuple[int, ...]] = Counter()
        for reference in present:
            clip |= _ngrams(reference, order)  # the maximum over references
        totals.append(sum(hypothesis_counts.values()))
        matches.append(
            sum(
                min(count, clip[ngram])
                for ngram, count in hypothesis_counts.items()
                if unmatched_id not in ngram
            )
        )
    closest = min(((abs(len(r) - len(tokens)), len(r)) for r in present), default=(0, 0))[1]
    return _Statistics(matches, totals, len(tokens), closest)


def _score(
    statistics: _Statistics, smoothing: str, smooth_value: float | None, effective_order: bool
) -> float:
    """BLEU in [0, 1] of one set of counts."""
    if smoothing not in SMOOTH_DEFAULTS:
        raise ValueError(f"smoothing must be one of {sorted(SMOOTH_DEFAULTS)}, not {smoothing!r}")
    value = SMOOTH_DEFAULTS[smoothing] if smooth_value is None else smooth_value
    if statistics.length == 0 or statistics.reference_length == 0:
        return 0.0
    if smoothing != "add-one-all" and not any(statistics.matches):
        return 0.0
    log_precisions = []
    halving = 1.0
    for order, (matches, total) in enumerate(
        zip(statistics.matches, statistics.totals, strict=True), start=1
    ):
        numerator, denominator = float(matches), float(total)
        if smoothing == "add-one-all" or (smoothing in ("add-k", "add-k-length") and order > 1):
            numerator += value
            denominator += value
        if denominator == 0.0:  # the hypothesis is shorter than this order
            if not effective_order:
                return 0.0
            break
        if numerator == 0.0 and smoothing == "exp":
            halving *= 2.0
            numerator = 1.0 / halving
        elif numerator == 0.0 and smoothing == "floor":
            numerator = value
        if numerator == 0.0:
            return 0.0
        log_precisions.append(math.log(numerator / denominator))
    wanted = statistics.reference_length + (value if smoothing == "add-k-length" else 0.0)
    brevity = min(0.0, 1.0 - wanted / statistics.length)
    return math.exp(brevity + sum(log_precisions) / len(log_precisions))


def _cut(tokens: list[int], length: int, eos_id: int | None) -> list[int]:
    tokens = tokens[:length]
    return tokens[: tokens.index(eos_id)] if eos_id is not None and eos_id in tokens else tokens


def _sequences(tokens: Tensor, lengths: Tensor | None, eos_id: int | None) -> list[list[list[int]]]:
    """`[B, T]` or `[B, K, T]` -> for every source, the list of its sequences without padding."""
    tokens = tokens if tokens.dim() == 3 else tokens[:, None]
    if lengths is None:
        lengths = tokens.new_full(tokens.shape[:2], tokens.shape[2])
    lengths = lengths.reshape(tokens.shape[:2])
    return [
        [_cut(row, length, eos_id) for row, length in zip(rows, row_lengths, strict=True)]
        for rows, row_lengths in zip(tokens.tolist(), lengths.tolist(), strict=True)
    ]


def prefix_bleu(
    hypotheses: Tensor,
    references: Tensor,
    *,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    max_order: int = 4,
    smoothing: str = "add-k",
    smooth_value: float | None = None,
    effective_order: bool = False,
    unmatched_id: int | None = None,
    eos_id: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """BLEU in [0, 1] of every prefix, `[B, T]` or `[B, K, T]`: entry t scores t + 1 tokens; 0 beyond."""
    scores = torch.zeros(hypotheses.shape, dtype=dtype)
    rows = scores if scores.dim() == 3 else scores[:, None]
    source_references = _sequences(references, reference_lengths, eos_id)
    for b, source_hypotheses in enumerate(_sequences(hypotheses, hypothesis_lengths, eos_id)):
        for k, tokens in enumerate(source_hypotheses):
            for t in range(len(tokens)):
                statistics = _statistics(tokens[: t + 1], source_references[b], max_order, unmatched_id)
                rows[b, k, t] = _score(statistics, smoothing, smooth_value, effective_order)
    return scores.to(hypotheses.device)


def sentence_bleu(
    hypotheses: Tensor,
    references: Tensor,
    *,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    max_order: int = 4,
    smoothing: str = "add-k",
    smooth_value: float | None = None,
    effective_order: bool = False,
    unmatched_id: int | None = None,
    eos_id: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """BLEU in [0, 1] of whole sentences, `[B]` or `[B, K]`."""
    source_references = _sequences(references, reference_lengths, eos_id)
    scores = [
        _score(
            _statistics(tokens, source_references[b], max_order, unmatched_id),
            smoothing,
            smooth_value,
            effective_order,
        )
        for b, source_hypotheses in enumerate(_sequences(hypotheses, hypothesis_lengths, eos_id))
        for tokens in source_hypotheses
    ]
    return torch.tensor(scores, dtype=dtype).reshape(hypotheses.shape[:-1]).to(hypotheses.device)


def bleu_rewards(
    hypotheses: Tensor,
    references: Tensor,
    *,
    eos_id: int | None = None,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    max_order: int = 4,
    smoothing: str = "add-k",
    smooth_value: float | None = None,
    effective_order: bool = False,
    unmatched_id: int | None = None,
    scale: str = "reference_length",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Incremental payoffs r_t = R(y_1..t) - R(y_1..t-1), Eq. (13), `[B, T]` or `[B, K, T]`.

    R is the prefix BLEU, times the mean length of the source's references when `scale` is "reference_length";
    R of the empty prefix is 0. The token `eos_id` and everything after it get 0, Eq. (4).
    """
    if scale not in ("reference_length", "none"):
        raise ValueError(f"scale must be 'reference_length' or 'none', not {scale!r}")
    payoff = prefix_bleu(
        hypotheses,
        references,
        hypothesis_lengths=hypothesis_lengths,
        reference_lengths=reference_lengths,
        max_order=max_order,
        smoothing=smoothing,
        smooth_value=smooth_value,
        effective_order=effective_order,
        unmatched_id=unmatched_id,
        eos_id=eos_id,
        dtype=torch.float64,
    )
    if scale == "reference_length":
        for b, source_references in enumerate(_sequences(references, reference_lengths, eos_id)):
            present = [len(reference) for reference in source_references if len(reference) > 0]
            payoff[b] *= sum(present) / len(present) if present else 0.0
    rewards = torch.diff(payoff, dim=-1, prepend=torch.zeros_like(payoff[..., :1]))
    source_hypotheses = _sequences(hypotheses, hypothesis_lengths, eos_id)
    lengths = torch.tensor(
        [[len(tokens) for tokens in rows] for rows in source_hypotheses], dtype=torch.int64
    )
    lengths = lengths.reshape(hypotheses.shape[:-1]).to(hypotheses.device)
    beyond = torch.arange(hypotheses.shape[-1], device=hypotheses.device) >= lengths[..., None]
    return rewards.masked_fill(beyond, 0.0).to(dtype)


def corpus_bleu_statistics(
    hypotheses: Tensor,
    references: Tensor,
    *,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    max_order: int = 4,
    unmatched_id: int | None = None,
    eos_id: int | None = None,
) -> Tensor:
    """Summed counts, int64 `[2 * max_order + 2]`: matches, totals, length, reference length."""
    source_references = _sequences(references, reference_lengths, eos_id)
    total = [0] * (2 * max_order + 2)
    for b, source_hypotheses in enumerate(_sequences(hypotheses, hypothesis_lengths, eos_id)):
        for tokens in source_hypotheses:
            counts = _statistics(tokens, source_references[b], max_order, unmatched_id).flat()
            total = [a + c for a, c in zip(total, counts, strict=True)]
    return torch.tensor(total, dtype=torch.int64, device=hypotheses.device)


def corpus_bleu(
    statistics: Tensor,
    *,
    smoothing: str = "exp",
    smooth_value: float | None = None,
    effective_order: bool = False,
) -> float:
    """Corpus BLEU, 0 to 100, of the (summed) output of `corpus_bleu_statistics`."""
    counts = statistics.tolist()
    order = (len(counts) - 2) // 2
    split = _Statistics(counts[:order], counts[order : 2 * order], counts[-2], counts[-1])
    return 100.0 * _score(split, smoothing, smooth_value, effective_order)
