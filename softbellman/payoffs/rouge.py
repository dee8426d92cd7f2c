"""ROUGE-L of every prefix, of sentences and of whole splits, from integer tokens.

With the longest common subsequence LCS of a hypothesis h and each reference r (Lin 2004; the conventions of the
COCO caption tools, where precision and recall may come from different references)

    P = max_r LCS(h, r) / |h|,    R = max_r LCS(h, r) / |r|,    F = (1 + beta^2) P R / (R + beta^2 P).

Each hypothesis is read once: a token advances one bit-parallel row for each reference, in O(L) comparisons and
O(L / 64) words. The recall compares a prefix with whole references, so the F of a copy grows to 1 without any
length penalty; a token outside the common subsequence lowers the precision and earns a negative reward. Nothing
here has a gradient.

Notation: B sources, K samples per source, R references per source, T and L padded lengths. A sequence is its
first `length` tokens, cut before the first `eos_id`; a reference of length 0 is absent. A token `unmatched_id`
counts in the lengths and matches nothing.
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
    """ROUGE-L in [0, 1] of every prefix of every hypothesis.

    Args:
        hypotheses: int64 tokens `[B, T]` or `[B, K, T]`.
        references: int64 tokens `[B, L]` or `[B, R, L]`, shared by the K hypotheses of a source.
        hypothesis_lengths: tokens that count, `[B]` or `[B, K]`; None: all T.
        reference_lengths: tokens that count, `[B]` or `[B, R]`, 0 where a reference is absent; None: all L. A
            source without any reference scores 0.
        beta: weight of recall against precision, above 0 and at most 1e6.
        unmatched_id: a token, such as UNK, that matches nothing.
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
        >>> prefix_rouge_l(torch.tensor([[5, 6, 7]]), torch.tensor([[5, 8, 7]]))
        tensor([[0.4586, 0.3861, 0.6667]])
    """
    _check_beta(beta)
    batch = check_batch(hypotheses, references, hypothesis_lengths, reference_lengths, eos_id, unmatched_id)
    scores: Tensor = rouge_scores(*batch, float(beta), PREFIX, False, check_float_type(dtype))
    return scores


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
    """ROUGE-L in [0, 1] of whole hypotheses.

    Takes what `prefix_rouge_l` takes and returns its score at the last token, `[B]` or `[B, K]`; 0 for an empty
    hypothesis.

    Example:
        >>> sentence_rouge_l(torch.tensor([[5, 6, 7]]), torch.tensor([[5, 8, 7]]))
        tensor([0.6667])
    """
    _check_beta(beta)
    batch = check_batch(hypotheses, references, hypothesis_lengths, reference_lengths, eos_id, unmatched_id)
    scores: Tensor = rouge_scores(*batch, float(beta), SENTENCE, False, check_float_type(dtype))
    return scores


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
    """Incremental payoffs `r_t = R(y_1..t) - R(y_1..t-1)`; Eq. (13).

    R is the ROUGE-L of the prefix, times the length of the references where `scale` says so; R of the empty
    prefix is 0, so the rewards of a hypothesis add up to its payoff. The token `eos_id` gets reward 0.

    Args:
        scale: "none" leaves R in [0, 1]; "reference_length" multiplies by the mean length, without eos, of the
            source's references that are present, so that one step's reward does not shrink with the length.
        hypotheses, references and the others: as in `prefix_rouge_l`.

    Returns:
        Rewards of the shape of `hypotheses`, 0 at eos and beyond the length. Each is a difference in float64,
        rounded once to `dtype`.

    Raises:
        TypeError, ValueError: as `prefix_rouge_l`.

    Example:
        >>> rouge_l_rewards(torch.tensor([[5, 6, 7, 3]]), torch.tensor([[5, 8, 7, 3]]), eos_id=3)
        tensor([[ 0.4586, -0.0726,  0.2806,  0.0000]])
    """
    scaled = check_scale(scale)
    _check_beta(beta)
    batch = check_batch(hypotheses, references, hypothesis_lengths, reference_lengths, eos_id, unmatched_id)
    rewards: Tensor = rouge_scores(*batch, float(beta), REWARD, scaled, check_float_type(dtype))
    return rewards


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
    """The mean ROUGE-L over all hypotheses, in [0, 1]; 0 where there are none.

    Takes what `prefix_rouge_l` takes. The sum is exact before it is rounded, so neither the order of the
    sentences nor the number of threads changes it. A split in several batches is the mean of its
    `sentence_rouge_l`. CUDA tensors are waited for.

    Example:
        >>> corpus_rouge_l(torch.tensor([[5, 6], [7, 8]]), torch.tensor([[5, 6], [5, 6]]))
        0.5
    """
    return mean_score(
        sentence_rouge_l(
            hypotheses,
            references,
            hypothesis_lengths=hypothesis_lengths,
            reference_lengths=reference_lengths,
            beta=beta,
            unmatched_id=unmatched_id,
            eos_id=eos_id,
            dtype=torch.float64,
        )
    )


def _check_beta(beta: float) -> None:
    check_positive("beta", beta)
    if beta > 1e6:
        raise ValueError(f"beta must be at most 1e6, got {beta}")


def _run_scores(*arguments: Any) -> Tensor:
    batch, (beta, output, scaled, float64) = TokenBatch(*arguments[:6]), arguments[6:]
    out = new_scores(batch.hypotheses, output, float64)
    request = {"beta": beta, "output": output, "scaled": scaled, "float64": float64}
    return run_batch("rouge_scores", "rouge_workspace", batch, out, **request)


rouge_scores = register(
    "rouge_scores",
    f"({BATCH_SCHEMA}, float beta, int output, bool scaled, bool float64) -> Tensor",
    kernel=_run_scores,
    fake=lambda *arguments: new_scores(arguments[0], arguments[7], arguments[9]),
)
