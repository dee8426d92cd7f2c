"""CIDEr-D of every prefix, of sentences and of whole splits, from integer tokens.

With document frequencies of a reference corpus of D documents an n-gram g weighs `w(g) = log D - log max(1, df(g))`,
a sequence x is for each order n the vector of `tf_x(g) w(g)`, and with references r_1..r_R (Vedantam et al. 2015,
"CIDEr-D"; the published scorer's conventions)

    CIDEr-D(h) = 10 / (N R) sum_r exp(-(l_h - l_r)^2 / (2 sigma^2))
                            sum_n sum_g min(tf_h(g), tf_r(g)) tf_r(g) w(g)^2 / (|h|_n |r|_n),

N the longest n-gram of the frequencies; an order in which h or r has no weight adds 0; l counts bigrams, as the
scorer does: the length less one, at least 0. A copy of the only reference scores 10 where all its orders weigh.

Each hypothesis is read once: a token adds at most one n-gram for each order, which changes the norm and each
product by one term, so a prefix costs O(N R) operations and O(t + R L) token comparisons. The length factor
compares a prefix with the whole references: it holds the payoff of the first tokens down (exp(-(10 - 1)^2 / 72) =
0.32 for 2 tokens of 11), grows until the prefix is as long as they are, and falls beyond. Nothing here has a
gradient.

Notation: B sources, K samples per source, R references per source, T and L padded lengths. A sequence is its
first `length` tokens, cut before the first `eos_id`; a reference of length 0 is absent and not averaged over. An
n-gram that holds `unmatched_id` weighs log D, matches nothing and is equal to no other: unknown words differ.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from softbellman.core.checks import check_positive
from softbellman.core.operator import register
from softbellman.payoffs.batches import (
    BATCH_SCHEMA,
    PREFIX,
    REWARD,
    SENTENCE,
    TokenBatch,
    check_batch,
    check_float_type,
    check_scale,
    mean_score,
    new_scores,
    run_batch,
)
from softbellman.payoffs.frequencies import DocumentFrequencies


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
    """CIDEr-D in [0, 10] of every prefix of every hypothesis.

    Args:
        hypotheses: int64 tokens `[B, T]` or `[B, K, T]`.
        references: int64 tokens `[B, L]` or `[B, R, L]`, shared by the K hypotheses of a source.
        frequencies: document frequencies on the device of `hypotheses`; their longest n-gram is N.
        hypothesis_lengths: tokens that count, `[B]` or `[B, K]`; None: all T.
        reference_lengths: tokens that count, `[B]` or `[B, R]`, 0 where a reference is absent; None: all L. A
            source without any reference scores 0.
        sigma: width of the length penalty, in tokens; above 0.
        unmatched_id: a token, such as UNK, that matches nothing and that no document holds.
        eos_id: the token that ends a sequence, in hypotheses and references; neither it nor what follows is
            read.
        dtype: of the result, float32 or float64; scores are computed in float64.

    Returns:
        Scores of the shape of `hypotheses`: entry t is that of the first t + 1 tokens, 0 at and beyond the
        length.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or range. Lengths outside their
            range raise for CPU tensors; for CUDA tensors, where reading them would wait for the device, they
            are clamped.

    Example:
        >>> corpus = torch.tensor([[5, 6, 7, 8], [5, 9, 7, 9], [4, 4, 4, 4]])
        >>> frequencies = DocumentFrequencies.from_references(corpus)
        >>> prefix_cider(corpus[:1], corpus[:1], frequencies=frequencies)
        tensor([[ 0.5402,  3.0376,  5.6014, 10.0000]])
    """
    tables = _check_frequencies(frequencies, hypotheses)
    check_positive("sigma", sigma)
    batch = check_batch(hypotheses, references, hypothesis_lengths, reference_lengths, eos_id, unmatched_id)
    scores: Tensor = cider_scores(*batch, *tables, float(sigma), PREFIX, False, check_float_type(dtype))
    return scores


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
    """CIDEr-D in [0, 10] of whole hypotheses.

    Takes what `prefix_cider` takes and returns its score at the last token, `[B]` or `[B, K]`; 0 for an empty
    hypothesis.

    Example:
        >>> corpus = torch.tensor([[5, 6, 7, 8], [5, 9, 7, 9], [4, 4, 4, 4]])
        >>> frequencies = DocumentFrequencies.from_references(corpus)
        >>> sentence_cider(corpus[:2], corpus[:1].expand(2, 4), frequencies=frequencies)
        tensor([10.0000,  0.2186])
    """
    tables = _check_frequencies(frequencies, hypotheses)
    check_positive("sigma", sigma)
    batch = check_batch(hypotheses, references, hypothesis_lengths, reference_lengths, eos_id, unmatched_id)
    scores: Tensor = cider_scores(*batch, *tables, float(sigma), SENTENCE, False, check_float_type(dtype))
    return scores


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
    """Incremental payoffs `r_t = R(y_1..t) - R(y_1..t-1)`; Eq. (13).

    R is the CIDEr-D of the prefix, times the length of the references where `scale` says so; R of the empty
    prefix is 0, so the rewards of a hypothesis add up to its payoff. The token `eos_id` gets reward 0.

    Args:
        scale: "none" leaves R in [0, 10]; "reference_length" multiplies by the mean length, without eos, of the
            source's references that are present, so that one step's reward does not shrink with the length.
        hypotheses, references and the others: as in `prefix_cider`.

    Returns:
        Rewards of the shape of `hypotheses`, 0 at eos and beyond the length. Each is a difference in float64,
        rounded once to `dtype`.

    Raises:
        TypeError, ValueError: as `prefix_cider`.

    Example:
        >>> corpus = torch.tensor([[5, 6, 7, 8], [5, 9, 7, 9], [4, 4, 4, 4]])
        >>> frequencies = DocumentFrequencies.from_references(corpus)
        >>> cider_rewards(corpus[:1], corpus[:1], frequencies=frequencies)
        tensor([[0.5402, 2.4975, 2.5638, 4.3986]])
    """
    scaled = check_scale(scale)
    tables = _check_frequencies(frequencies, hypotheses)
    check_positive("sigma", sigma)
    batch = check_batch(hypotheses, references, hypothesis_lengths, reference_lengths, eos_id, unmatched_id)
    rewards: Tensor = cider_scores(*batch, *tables, float(sigma), REWARD, scaled, check_float_type(dtype))
    return rewards


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
    """The mean CIDEr-D over all hypotheses, in [0, 10]; 0 where there are none.

    Takes what `prefix_cider` takes. The published figure of a split uses the frequencies of the split's own
    references and one hypothesis per source; tables print it times 100. The sum is exact before it is rounded, so
    neither the order of the sentences nor the number of threads changes it. A split in several batches is the
    mean of its `sentence_cider`. CUDA tensors are waited for.

    Example:
        >>> corpus = torch.tensor([[5, 6, 7, 8], [5, 9, 7, 9], [4, 4, 4, 4]])
        >>> round(corpus_cider(corpus, corpus, frequencies=DocumentFrequencies.from_references(corpus)), 9)
        10.0
    """
    return mean_score(
        sentence_cider(
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
    )


def _check_frequencies(frequencies: DocumentFrequencies, hypotheses: Tensor) -> tuple[Any, ...]:
    """Longest n-gram, tables and the weight of an unseen n-gram, checked to be where the hypotheses are."""
    if not isinstance(frequencies, DocumentFrequencies):
        raise TypeError(f"frequencies must be DocumentFrequencies, got {type(frequencies).__name__}")
    if isinstance(hypotheses, Tensor) and frequencies.device != hypotheses.device:
        raise ValueError(
            f"frequencies must be on the device of hypotheses, {hypotheses.device}, got {frequencies.device}; "
            "use frequencies.to(device)"
        )
    return (frequencies.max_order, *frequencies.table(), frequencies.log_documents)


def _run_scores(*arguments: Any) -> Tensor:
    batch, (max_order, token_slots, ngram_slots, unseen, sigma, output, scaled, float64) = (
        TokenBatch(*arguments[:6]),
        arguments[6:],
    )
    return run_batch(
        "cider_scores",
        "cider_workspace",
        batch,
        new_scores(batch.hypotheses, output, float64),
        max_order=max_order,
        token_slots=token_slots,
        ngram_slots=ngram_slots,
        unseen=unseen,
        sigma=sigma,
        output=output,
        scaled=scaled,
        float64=float64,
    )


cider_scores = register(
    "cider_scores",
    f"({BATCH_SCHEMA}, int max_order, Tensor token_slots, Tensor ngram_slots, float unseen, float sigma, "
    "int output, bool scaled, bool float64) -> Tensor",
    kernel=_run_scores,
    fake=lambda *arguments: new_scores(arguments[0], arguments[11], arguments[13]),
)
