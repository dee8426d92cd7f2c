"""Batches for the edit distance tests, and what is known of one pair of sequences without the code under test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

Tokens = tuple[int, ...]


class EditBatch(NamedTuple):
    hypotheses: Tensor  # [B, K, T]
    references: Tensor  # [B, L]
    hypothesis_lengths: Tensor  # [B, K]
    reference_lengths: Tensor  # [B]

    def arguments(self) -> dict[str, Tensor]:
        return self._asdict()


def random_batch(
    seed: int,
    *,
    sources: int = 3,
    samples: int = 2,
    length: int = 9,
    reference_length: int = 8,
    alphabet: int = 5,
    copied: float = 0.5,
) -> EditBatch:
    """Random tokens 0, 1, ...; part of a hypothesis copies the reference."""
    generator = torch.Generator().manual_seed(seed)

    def draw(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=generator)

    references = draw(alphabet, sources, reference_length)
    hypotheses = draw(alphabet, sources, samples, length)
    shared = min(length, reference_length)
    copy = torch.rand((sources, samples, shared), generator=generator) < copied
    hypotheses[..., :shared] = torch.where(copy, references[:, None, :shared], hypotheses[..., :shared])
    lengths, reference_lengths = draw(length + 1, sources, samples), draw(reference_length + 1, sources)
    return EditBatch(hypotheses, references, lengths, reference_lengths)


@cache
def edit_distance(one: Tokens, other: Tokens) -> int:
    """By the definition's recursion on the first tokens."""
    if not one or not other:
        return len(one) + len(other)
    return min(
        edit_distance(one[1:], other) + 1,
        edit_distance(one, other[1:]) + 1,
        edit_distance(one[1:], other[1:]) + (one[0] != other[0]),
    )


def completions(alphabet: Sequence[int], most: int) -> Iterator[Tokens]:
    """All sequences of at most `most` tokens."""
    for length in range(most + 1):
        yield from product(alphabet, repeat=length)
