"""Batches for the BLEU tests and what sacrebleu says about them."""

from __future__ import annotations

import logging
from typing import NamedTuple

import torch
from sacrebleu.metrics import BLEU
from torch import Tensor

SACREBLEU_SMOOTHINGS = (
    ("none", None),
    ("floor", None),
    ("floor", 0.3),
    ("floor", 0.0),
    ("add-k", None),
    ("add-k", 0.5),
    ("exp", None),
)


class BleuBatch(NamedTuple):
    hypotheses: Tensor  # [B, K, T]
    references: Tensor  # [B, R, L]
    hypothesis_lengths: Tensor  # [B, K]
    reference_lengths: Tensor  # [B, R]

    def arguments(self) -> dict[str, Tensor]:
        return self._asdict()

    def hypothesis(self, b: int, k: int) -> list[int]:
        return self.hypotheses[b, k, : self.hypothesis_lengths[b, k]].tolist()

    def present_references(self, b: int) -> list[list[int]]:
        rows = zip(self.references[b].tolist(), self.reference_lengths[b].tolist(), strict=True)
        return [row[:length] for row, length in rows if length > 0]


def random_batch(
    seed: int,
    *,
    sources: int = 3,
    samples: int = 2,
    references: int = 2,
    length: int = 12,
    reference_length: int = 12,
    alphabet: int = 5,
    copied: float = 0.5,
) -> BleuBatch:
    """Random tokens 4, 5, ...; part of a hypothesis copies the first reference: long n-grams match."""
    generator = torch.Generator().manual_seed(seed)

    def draw(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=generator)

    tokens = draw(alphabet, sources, references, reference_length) + 4
    hypotheses = draw(alphabet, sources, samples, length) + 4
    shared = min(length, reference_length)
    copy = torch.rand((sources, samples, shared), generator=generator) < copied
    hypotheses[..., :shared] = torch.where(copy, tokens[:, :1, :shared], hypotheses[..., :shared])
    lengths = draw(length + 1, sources, samples)
    reference_lengths = draw(reference_length + 1, sources, references)
    return BleuBatch(hypotheses, tokens, lengths, reference_lengths)


def sacrebleu(smoothing: str, smooth_value: float | None, effective_order: bool, max_order: int = 4) -> BLEU:
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)
    return BLEU(
        smooth_method=smoothing,
        smooth_value=smooth_value,
        effective_order=effective_order,
        max_ngram_order=max_order,
        tokenize="none",
        force=True,
    )


def text(tokens: list[int]) -> str:
    return " ".join(map(str, tokens))


def sacrebleu_sentence(metric: BLEU, hypothesis: list[int], references: list[list[int]]) -> float:
    """In [0, 1]; 0 where there is no reference, which sacrebleu does not accept."""
    if not references:
        return 0.0
    return metric.sentence_score(text(hypothesis), [text(reference) for reference in references]).score / 100
