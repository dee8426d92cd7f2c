"""ROUGE-L of prefixes, sentences and splits, straight from its definition.

Every prefix gets its own table of common subsequences. The functions of the same names in `softbellman` are
tested against these.

Notation: B sources, K samples per source, R references per source, T and L padded lengths. A sequence is its first
`length` tokens, cut before the first `eos_id`; a reference of length 0 is absent.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from softbellman.reference.payoff_rewards import prefix_scores, rewards_of, sentence_scores


def _common(one: Sequence[int], other: Sequence[int], unmatched_id: int | None) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for token in one:
        above = row
        row = [0]
        for j, candidate in enumerate(other):
            if token == candidate and token != unmatched_id:
                row.append(above[j] + 1)
            else:
                row.append(max(above[j + 1], row[j]))
    return row[-1]


def _score(
    tokens: Sequence[int], references: Sequence[Sequence[int]], beta: float, unmatched_id: int | None
) -> float:
    """ROUGE-L in [0, 1] of one hypothesis."""
    present = [reference for reference in references if len(reference) > 0]
    if len(tokens) == 0 or not present:
        return 0.0
    common = [_common(tokens, reference, unmatched_id) for reference in present]
    precision = max(common) / len(tokens)
    recall = max(length / len(reference) for length, reference in zip(common, present, strict=True))
    if precision == 0:
        return 0.0
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def prefix_rouge_l(
    hypotheses: Tensor,
    references: Tensor,
    *,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    beta: float = 1.2,
    unmatched_id: int | None = None,
    eos_id: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """ROUGE-L in [0, 1] of every prefix, `[B, T]` or `[B, K, T]`: entry t scores t + 1 tokens; 0 beyond."""
    return prefix_scores(
        lambda tokens, present: _score(tokens, present, beta, unmatched_id),
        hypotheses,
        references,
        hypothesis_lengths,
        reference_lengths,
        eos_id,
    ).to(dtype)


def sentence_rouge_l(
    hypotheses: Tensor,
    references: Tensor,
    *,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    beta: float = 1.2,
    unmatched_id: int | None = None,
    eos_id: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """ROUGE-L in [0, 1] of whole sentences, `[B]` or `[B, K]`."""
    return sentence_scores(
        lambda tokens, present: _score(tokens, present, beta, unmatched_id),
        hypotheses,
        references,
        hypothesis_lengths,
        reference_lengths,
        eos_id,
    ).to(dtype)


def rouge_l_rewards(
    hypotheses: Tensor,
    references: Tensor,
    *,
    eos_id: int | None = None,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    beta: float = 1.2,
    unmatched_id: int | None = None,
    scale: str = "none",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Incremental payoffs r_t = R(y_1..t) - R(y_1..t-1), Eq. (13), `[B, T]` or `[B, K, T]`; 0 at eos and beyond.

    R is the prefix ROUGE-L, times the mean length of the source's references when `scale` is "reference_length".
    """
    payoff = prefix_rouge_l(
        hypotheses,
        references,
        hypothesis_lengths=hypothesis_lengths,
        reference_lengths=reference_lengths,
        beta=beta,
        unmatched_id=unmatched_id,
        eos_id=eos_id,
        dtype=torch.float64,
    )
    lengths = (hypothesis_lengths, reference_lengths)
    return rewards_of(payoff, hypotheses, references, *lengths, eos_id, scale).to(dtype)


def corpus_rouge_l(
    hypotheses: Tensor,
    references: Tensor,
    *,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    beta: float = 1.2,
    unmatched_id: int | None = None,
    eos_id: int | None = None,
) -> float:
    """The mean ROUGE-L over all hypotheses, in [0, 1]; 0 where there are none."""
    scores = sentence_rouge_l(
        hypotheses,
        references,
        hypothesis_lengths=hypothesis_lengths,
        reference_lengths=reference_lengths,
        beta=beta,
        unmatched_id=unmatched_id,
        eos_id=eos_id,
        dtype=torch.float64,
    )
    return float(scores.mean()) if scores.numel() else 0.0
