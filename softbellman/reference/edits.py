"""Random edits of references, their densities and importance weights, the obvious way.

`edit_processes` draws and scores one sequence with exact fractions and sums over every way to reach it; these
operators draw the tokens of those of the same names in `softbellman`, from the same Philox words.

Notation: B references, K samples each, L and W padded lengths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from softbellman.reference.edit_processes import DECISIONS, TIES, Proposal, draw, log_density
from softbellman.reference.philox import random_words


class Edits(NamedTuple):
    """Edited `tokens` `[B, K, W]`, `pad_id` behind their `lengths` `[B, K]`; `log_density` `[B, K]` in nats, float64."""

    tokens: Tensor
    lengths: Tensor
    log_density: Tensor


class ImportanceWeights(NamedTuple):
    """`weights` `[B, K]` that sum to 1, `effective_sample_size` `[B]` and `log_normalizer` `[B]`, both float64."""

    weights: Tensor
    effective_sample_size: Tensor
    log_normalizer: Tensor


def _proposal(
    length: int,
    name: str,
    vocabulary: int,
    special_ids: Sequence[int],
    max_order: int,
    rate: float,
    temperature: float,
    max_distance: int | None,
    operation_weights: Sequence[float],
) -> Proposal:
    alphabet = tuple(token for token in range(vocabulary) if token not in set(special_ids))
    if name == "hamming":
        limit = length if max_distance is None else min(max_distance, length)
    else:
        limit = min(length, 16) if max_distance is None else max_distance
    substitution, insertion, deletion = (Fraction(weight) for weight in operation_weights)
    if len(alphabet) < 2:
        substitution = Fraction(0)  # there is no other token
    weights = (substitution, insertion, deletion)
    return Proposal(name, alphabet, max_order, rate, temperature, limit, weights)


def _rows(tokens: Tensor, lengths: Tensor | None) -> list[list[int]]:
    stated = [tokens.shape[1]] * tokens.shape[0] if lengths is None else lengths.tolist()
    return [row[:length] for row, length in zip(tokens.tolist(), stated, strict=True)]


def _with_gold(value: float, is_gold: bool, samples: int) -> float:
    """The log density of the mixture 1/K [y = y*] + (K-1)/K q(y)."""
    rest = math.exp(value) * (samples - 1) / samples
    if is_gold:
        return math.log(1 / samples + rest)
    return value + math.log((samples - 1) / samples) if samples > 1 else -math.inf


def sample_edits(
    tokens: Tensor,
    lengths: Tensor | None = None,
    *,
    samples: int,
    proposal: str,
    vocabulary: int,
    seed: int,
    offset: int = 0,
    special_ids: Sequence[int] = (),
    max_order: int = 4,
    rate: float = 0.2,
    temperature: float = 1.0,
    max_distance: int | None = None,
    operation_weights: Sequence[float] = (1.0, 1.0, 1.0),
    keep_gold: bool = False,
    pad_id: int = 0,
) -> Edits:
    """K edits of every reference `[B, L]` by the named proposal: tokens `[B, K, W]`, lengths and log density `[B, K]`."""
    process = _proposal(
        tokens.shape[1], proposal, vocabulary, special_ids,
        max_order, rate, temperature, max_distance, operation_weights,
    )  # fmt: skip
    width = tokens.shape[1] + (process.limit if proposal == "edit" else 0)
    edited = torch.full((tokens.shape[0], samples, width), pad_id)
    edited_lengths = torch.zeros((tokens.shape[0], samples), dtype=torch.int64)
    rows, columns = tokens.shape[0] * samples, 4 * (1 + width)
    words = {
        start: random_words(rows, columns, seed=seed, offset=offset, first_block=start).tolist()
        for start in ((0, DECISIONS, TIES) if proposal == "corrupt" else (0,))
    }
    for b, x in enumerate(_rows(tokens, lengths)):
        for k in range(samples):

            def random(block: int, row: int = b * samples + k) -> tuple[int, int]:
                start = max(start for start in words if start <= block)
                word = words[start][row][4 * (block - start) :]
                return word[1] << 32 | word[0], word[3] << 32 | word[2]

            y = list(x) if keep_gold and k == 0 else draw(process, x, random)
            edited[b, k, : len(y)] = torch.tensor(y, dtype=torch.int64)
            edited_lengths[b, k] = len(y)
    densities = edit_log_density(
        tokens, edited, lengths, edited_lengths, proposal=proposal, vocabulary=vocabulary,
        special_ids=special_ids, max_order=max_order, rate=rate, temperature=temperature,
        max_distance=max_distance, operation_weights=operation_weights, keep_gold=keep_gold,
    )  # fmt: skip
    return Edits(edited.to(tokens.device), edited_lengths.to(tokens.device), densities)


def edit_log_density(
    tokens: Tensor,
    edited: Tensor,
    lengths: Tensor | None = None,
    edited_lengths: Tensor | None = None,
    *,
    proposal: str,
    vocabulary: int,
    special_ids: Sequence[int] = (),
    max_order: int = 4,
    rate: float = 0.2,
    temperature: float = 1.0,
    max_distance: int | None = None,
    operation_weights: Sequence[float] = (1.0, 1.0, 1.0),
    keep_gold: bool = False,
) -> Tensor:
    """The log density of `edited` `[B, K, W]` under edits of `tokens` `[B, L]`, float64 `[B, K]`."""
    process = _proposal(
        tokens.shape[1], proposal, vocabulary, special_ids,
        max_order, rate, temperature, max_distance, operation_weights,
    )  # fmt: skip
    densities = torch.zeros(edited.shape[:2], dtype=torch.float64)
    for b, x in enumerate(_rows(tokens, lengths)):
        for k, y in enumerate(_rows(edited[b], None if edited_lengths is None else edited_lengths[b])):
            value = log_density(process, x, y)
            densities[b, k] = _with_gold(value, x == y, edited.shape[1]) if keep_gold else value
    return densities.to(tokens.device)


def importance_weights(
    payoff: Tensor, log_q: Tensor | None, *, tau: float, corrected: bool = True
) -> ImportanceWeights:
    """softmax(R / tau - log q) over K, with the effective sample size and log mean exp(R / tau - log q)."""
    weights = torch.zeros(payoff.shape, dtype=torch.float64)
    sizes = torch.zeros(payoff.shape[0], dtype=torch.float64)
    normalizers = torch.full((payoff.shape[0],), -math.inf, dtype=torch.float64)
    for b, row in enumerate(payoff.double()):
        log_weight = row / tau
        if corrected and log_q is not None:
            possible = (row > -math.inf) & log_q[b].double().isfinite()
            log_weight = torch.where(possible, log_weight - log_q[b].double(), -math.inf)
        if (log_weight == -math.inf).all():
            continue
        if (log_weight == math.inf).any():
            log_weight = torch.where(log_weight == math.inf, 0.0, -math.inf)
            normalizers[b] = math.inf
        else:
            normalizers[b] = log_weight.logsumexp(-1) - math.log(len(row))
        weights[b] = log_weight.softmax(-1)
        sizes[b] = 1.0 / weights[b].square().sum()
    device = payoff.device
    return ImportanceWeights(weights.to(device, payoff.dtype), sizes.to(device), normalizers.to(device))
