"""CIDEr-D of prefixes, sentences and splits, straight from its definition.

Every prefix is counted from scratch into dictionaries of its n-grams. The functions of the same names in
`softbellman` are tested against these.

Notation: B sources, K samples per source, R references per source, T and L padded lengths. A sequence is its first
`length` tokens, cut before the first `eos_id`; a reference of length 0 is absent.
"""

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from softbellman.reference.frequencies import DocumentFrequencies
from softbellman.reference.payoff_rewards import prefix_scores, rewards_of, sentence_scores

_Vector = dict[tuple[int, ...], tuple[int, float]]  # n-gram: occurrences, weight


def _vector(
    tokens: Sequence[int], order: int, frequencies: DocumentFrequencies, unmatched_id: int | None
) -> tuple[_Vector, float]:
    """Term frequencies and weights of the n-grams that can match, and the norm of the vector with all others."""
    known: Counter[tuple[int, ...]] = Counter()
    unknown = 0  # each a dimension of its own
    for i in range(len(tokens) - order + 1):
        ngram = tuple(tokens[i : i + order])
        if unmatched_id in ngram:
            unknown += 1
        else:
            known[ngram] += 1
    log_documents = math.log(frequencies.documents)
    vector = {
        ngram: (count, log_documents - math.log(max(1, frequencies.count(ngram))))
        for ngram, count in known.items()
    }
    squares = sum((count * weight) ** 2 for count, weight in vector.values())
    return vector, math.sqrt(squares + unknown * log_documents**2)


def _score(
    tokens: Sequence[int],
    references: Sequence[Sequence[int]],
    frequencies: DocumentFrequencies,
    sigma: float,
    unmatched_id: int | None,
) -> float:
    """CIDEr-D in [0, 10] of one hypothesis."""
    present = [reference for reference in references if len(reference) > 0]
    if len(tokens) == 0 or not present:
        return 0.0
    total = 0.0
    for reference in present:
        cosines = 0.0
        for order in range(1, frequencies.max_order + 1):
            ours, our_norm = _vector(tokens, order, frequencies, unmatched_id)
            theirs, their_norm = _vector(reference, order, frequencies, unmatched_id)
            product = sum(
                min(count, theirs[ngram][0]) * theirs[ngram][0] * weight**2
                for ngram, (count, weight) in ours.items()
                if ngram in theirs
            )
            if our_norm > 0 and their_norm > 0:
                cosines += product / (our_norm * their_norm)
        gap = max(len(tokens) - 1, 0) - max(len(reference) - 1, 0)  # in bigrams, as published
        total += math.exp(-(gap**2) / (2 * sigma**2)) * cosines / frequencies.max_order
    return 10.0 * total / len(present)


def prefix_cider(
    hypotheses: Tensor,
    references: Tensor,
    *,
    frequencies: DocumentFrequencies,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    sigma: float = 6.0,
    unmatched_id: int | None = None,
    eos_id: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """CIDEr-D in [0, 10] of every prefix, `[B, T]` or `[B, K, T]`: entry t scores t + 1 tokens; 0 beyond."""
    return prefix_scores(
        lambda tokens, present: _score(tokens, present, frequencies, sigma, unmatched_id),
        hypotheses,
        references,
        hypothesis_lengths,
        reference_lengths,
        eos_id,
    ).to(dtype)


def sentence_cider(
    hypotheses: Tensor,
    references: Tensor,
    *,
    frequencies: DocumentFrequencies,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    sigma: float = 6.0,
    unmatched_id: int | None = None,
    eos_id: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """CIDEr-D in [0, 10] of whole sentences, `[B]` or `[B, K]`."""
    return sentence_scores(
        lambda tokens, present: _score(tokens, present, frequencies, sigma, unmatched_id),
        hypotheses,
        references,
        hypothesis_lengths,
        reference_lengths,
        eos_id,
    ).to(dtype)


def cider_rewards(
    hypotheses: Tensor,
    references: Tensor,
    *,
    frequencies: DocumentFrequencies,
    eos_id: int | None = None,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    sigma: float = 6.0,
    unmatched_id: int | None = None,
    scale: str = "none",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Incremental payoffs r_t = R(y_1..t) - R(y_1..t-1), Eq. (13), `[B, T]` or `[B, K, T]`; 0 at eos and beyond.

    R is the prefix CIDEr-D, times the mean length of the source's references when `scale` is "reference_length".
    """
    payoff = prefix_cider(
        hypotheses,
        references,
        frequencies=frequencies,
        hypothesis_lengths=hypothesis_lengths,
        reference_lengths=reference_lengths,
        sigma=sigma,
        unmatched_id=unmatched_id,
        eos_id=eos_id,
        dtype=torch.float64,
    )
    lengths = (hypothesis_lengths, reference_lengths)
    return rewards_of(payoff, hypotheses, references, *lengths, eos_id, scale).to(dtype)


def corpus_cider(
    hypotheses: Tensor,
    references: Tensor,
    *,
    frequencies: DocumentFrequencies,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    sigma: float = 6.0,
    unmatched_id: int | None = None,
    eos_id: int | None = None,
) -> float:
    """The mean CIDEr-D over all hypotheses, in [0, 10]; 0 where there are none."""
    scores = sentence_cider(
        hypotheses,
        references,
        frequencies=frequencies,
        hypothesis_lengths=hypothesis_lengths,
        reference_lengths=reference_lengths,
        sigma=sigma,
        unmatched_id=unmatched_id,
        eos_id=eos_id,
        dtype=torch.float64,
    )
    return float(scores.mean()) if scores.numel() else 0.0
