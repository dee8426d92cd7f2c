"""Payoffs of token sequences, given the score of one sequence: of prefixes, of sentences, and as rewards."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from softbellman.reference.bleu import _sequences

Score = Callable[[Sequence[int], Sequence[Sequence[int]]], float]  # (hypothesis, its references)


def prefix_scores(
    score: Score,
    hypotheses: Tensor,
    references: Tensor,
    hypothesis_lengths: Tensor | None,
    reference_lengths: Tensor | None,
    eos_id: int | None,
) -> Tensor:
    """float64 of the shape of `hypotheses`: entry t is the score of the first t + 1 tokens; 0 beyond."""
    scores = torch.zeros(hypotheses.shape, dtype=torch.float64)
    rows = scores if scores.dim() == 3 else scores[:, None]
    source_references = _sequences(references, reference_lengths, eos_id)
    for b, source_hypotheses in enumerate(_sequences(hypotheses, hypothesis_lengths, eos_id)):
        for k, tokens in enumerate(source_hypotheses):
            for t in range(len(tokens)):
                rows[b, k, t] = score(tokens[: t + 1], source_references[b])
    return scores.to(hypotheses.device)


def sentence_scores(
    score: Score,
    hypotheses: Tensor,
    references: Tensor,
    hypothesis_lengths: Tensor | None,
    reference_lengths: Tensor | None,
    eos_id: int | None,
) -> Tensor:
    """float64 `[B]` or `[B, K]`: the score of whole hypotheses."""
    source_references = _sequences(references, reference_lengths, eos_id)
    scores = [
        score(tokens, source_references[b])
        for b, source_hypotheses in enumerate(_sequences(hypotheses, hypothesis_lengths, eos_id))
        for tokens in source_hypotheses
    ]
    return torch.tensor(scores, dtype=torch.float64).reshape(hypotheses.shape[:-1]).to(hypotheses.device)


def rewards_of(
    payoff: Tensor,
    hypotheses: Tensor,
    references: Tensor,
    hypothesis_lengths: Tensor | None,
    reference_lengths: Tensor | None,
    eos_id: int | None,
    scale: str,
) -> Tensor:
    """Differences of the prefixes' payoffs, 0 at eos and beyond the length."""
    if scale not in ("reference_length", "none"):
        raise ValueError(f"scale must be 'reference_length' or 'none', not {scale!r}")
    if scale == "reference_length":
        for b, source_references in enumerate(_sequences(references, reference_lengths, eos_id)):
            present = [len(reference) for reference in source_references if len(reference) > 0]
            payoff[b] *= sum(present) / len(present) if present else 0.0
    rewards = torch.diff(payoff, dim=-1, prepend=torch.zeros_like(payoff[..., :1]))
    source_hypotheses = _sequences(hypotheses, hypothesis_lengths, eos_id)
    lengths = torch.tensor([[len(tokens) for tokens in rows] for rows in source_hypotheses])
    lengths = lengths.to(torch.int64).reshape(hypotheses.shape[:-1]).to(hypotheses.device)
    beyond = torch.arange(hypotheses.shape[-1], device=hypotheses.device) >= lengths[..., None]
    return rewards.masked_fill(beyond, 0.0)
