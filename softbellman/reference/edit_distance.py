"""Edit distance of prefixes, its rewards, and the optimal completion values, from their definitions.

Rows of the textbook's table in Python; the values ask of every token what the best completion behind it
costs, without the shortcut of the operators, against which they are tested.

Notation: B sources, K samples per source, T and L padded lengths, V vocabulary. A sequence is its first
`length` tokens, cut before the first `eos_id`. The payoff of y is `R(y) = -d(y, y*)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from softbellman.reference.bleu import _sequences


def _rows(tokens: Sequence[int], reference: Sequence[int]) -> Iterator[list[int]]:
    """For every prefix of `tokens`, the empty one first: its distances to all prefixes of the reference."""
    row = list(range(len(reference) + 1))
    yield row
    for token in tokens:
        following = [row[0] + 1]
        for j, wanted in enumerate(reference, start=1):
            following.append(min(row[j] + 1, following[-1] + 1, row[j - 1] + (token != wanted)))
        row = following
        yield row


def _pairs(
    hypotheses: Tensor,
    references: Tensor,
    hypothesis_lengths: Tensor | None,
    reference_lengths: Tensor | None,
    eos_id: int | None,
) -> Iterator[tuple[int, int, list[int], list[int]]]:
    """(b, k, tokens of the hypothesis, tokens of its reference), both without padding and eos."""
    targets = [rows[0] for rows in _sequences(references, reference_lengths, eos_id)]
    for b, samples in enumerate(_sequences(hypotheses, hypothesis_lengths, eos_id)):
        for k, tokens in enumerate(samples):
            yield b, k, tokens, targets[b]


def prefix_edit_distance(
    hypotheses: Tensor,
    references: Tensor,
    *,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    eos_id: int | None = None,
) -> Tensor:
    """d(y_1..t, y*), int64 `[B, T]` or `[B, K, T]`: entry t is that of t + 1 tokens; 0 beyond."""
    distances = torch.zeros(hypotheses.shape, dtype=torch.int64)
    rows = distances if distances.dim() == 3 else distances[:, None]
    for b, k, tokens, reference in _pairs(
        hypotheses, references, hypothesis_lengths, reference_lengths, eos_id
    ):
        for t, row in enumerate(_rows(tokens, reference)):
            if t > 0:
                rows[b, k, t - 1] = row[-1]
    return distances.to(hypotheses.device)


def edit_distance_rewards(
    hypotheses: Tensor,
    references: Tensor,
    *,
    eos_id: int | None = None,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """`r_t = d(y_1..t-1, y*) - d(y_1..t, y*)`, Eq. (13), `[B, T]` or `[B, K, T]`; 0 at eos, Eq. (4), and beyond."""
    rewards = torch.zeros(hypotheses.shape, dtype=dtype)
    rows = rewards if rewards.dim() == 3 else rewards[:, None]
    for b, k, tokens, reference in _pairs(
        hypotheses, references, hypothesis_lengths, reference_lengths, eos_id
    ):
        distances = [row[-1] for row in _rows(tokens, reference)]
        for t in range(len(tokens)):
            rows[b, k, t] = distances[t] - distances[t + 1]
    return rewards.to(hypotheses.device)


def _best_distances(row: Sequence[int], reference: Sequence[int], allowed: Tensor) -> Tensor:
    """`[V]`, for every token the smallest d(y w z, y*) over completions z of allowed tokens.

    A completion that leaves y w aligned with y*_1..j costs at least the tokens of y*_j+1..L that are not
    allowed, and no more when it copies the others.
    """
    forbidden = [not allowed[wanted] for wanted in reference]
    tokens = torch.arange(len(allowed))
    entry = torch.full_like(tokens, row[0] + 1)  # d(y w, y*_1..j) for all w at once
    best = entry + sum(forbidden)
    for j, wanted in enumerate(reference, start=1):
        entry = torch.minimum(torch.clamp(entry, max=row[j]) + 1, row[j - 1] + (tokens != wanted).long())
        best = torch.minimum(best, entry + sum(forbidden[j:]))
    return best


def optimal_completion_values(
    hypotheses: Tensor,
    references: Tensor,
    *,
    vocabulary: int,
    eos_id: int,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    special_ids: Sequence[int] = (),
    rows: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """`Q(y_<t, w) = max_z R(y_<t w z) - R(y_<t)` in every state, `[B, T, V]` or `[B, K, T, V]`, or of `rows` `[M, V]`.

    The end gets 0, Eq. (6), special tokens `-inf`, states behind the end zeros.
    """
    values = torch.zeros((*hypotheses.shape, vocabulary), dtype=torch.float64)
    table = values if values.dim() == 4 else values[:, None]
    allowed = torch.ones(vocabulary, dtype=torch.bool)
    allowed[[eos_id, *special_ids]] = False
    width = hypotheses.shape[-1]
    stated = (
        hypothesis_lengths if hypothesis_lengths is not None else torch.full(hypotheses.shape[:-1], width)
    )
    stated = stated.reshape(table.shape[:2])
    for b, k, tokens, reference in _pairs(
        hypotheses, references, hypothesis_lengths, reference_lengths, eos_id
    ):
        for t, row in enumerate(_rows(tokens, reference)):
            if t < stated[b, k]:  # the state in which eos is chosen is one, too
                q = (row[-1] - _best_distances(row, reference, allowed)).double()
                q[list(special_ids)] = -torch.inf
                q[eos_id] = 0.0
                table[b, k, t] = q
    values = values if rows is None else values.reshape(-1, vocabulary)[rows.cpu()]
    return values.to(hypotheses.device, dtype)
