"""Values of completing a prefix by a suffix of a reference under BLEU, from their definition.

Every candidate is scored from scratch. The operator of the same name in `softbellman` counts what candidates share once,
and is tested against this.

Notation: B sources, K samples per source, R references per source, T and L padded lengths, V vocabulary. A sequence is its
first `length` tokens, cut before the first `eos_id`; a reference of length 0 is absent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from softbellman.reference.bleu import _score, _sequences, _statistics

NO_TOKEN = 2**64
"""Equal to no int64: what stands in a suffix for a token that cannot be produced."""


def _suffixes(references: Sequence[Sequence[int]], special_ids: Sequence[int]) -> list[list[int]]:
    """What may follow a token: every suffix of every reference, the empty one first."""
    found: list[list[int]] = [[]]
    for reference in references:
        tokens = [NO_TOKEN if token in special_ids else token for token in reference]
        found += [tokens[j:] for j in range(len(tokens))]
    return found


def _payoff_of(
    references: Sequence[Sequence[int]],
    max_order: int,
    smoothing: str,
    smooth_value: float | None,
    effective_order: bool,
    unmatched_id: int | None,
    scale: str,
) -> Callable[[Sequence[int]], float]:
    """R of a sequence without its end."""
    present = [len(reference) for reference in references if len(reference) > 0]
    factor = sum(present) / len(present) if present and scale == "reference_length" else 1.0

    def payoff(tokens: Sequence[int]) -> float:
        statistics = _statistics(tokens, references, max_order, unmatched_id)
        return factor * _score(statistics, smoothing, smooth_value, effective_order)

    return payoff


def bleu_completion_values(
    hypotheses: Tensor,
    references: Tensor,
    *,
    vocabulary: int,
    eos_id: int,
    hypothesis_lengths: Tensor | None = None,
    reference_lengths: Tensor | None = None,
    special_ids: Sequence[int] = (),
    max_order: int = 4,
    smoothing: str = "add-k",
    smooth_value: float | None = None,
    effective_order: bool = False,
    unmatched_id: int | None = None,
    scale: str = "reference_length",
    rows: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """`max_z R(y_<t w z) - R(y_<t)`, z a suffix, in every state, `[B, T, V]` or `[B, K, T, V]`, or of `rows` `[M, V]`.

    The end gets 0, Eq. (6), special tokens `-inf`, states behind the end zeros.
    """
    values = torch.zeros((*hypotheses.shape, vocabulary), dtype=torch.float64)
    table = values if values.dim() == 4 else values[:, None]
    width = hypotheses.shape[-1]
    if hypothesis_lengths is None:
        hypothesis_lengths = torch.full(hypotheses.shape[:-1], width)
    stated = hypothesis_lengths.reshape(table.shape[:2])
    targets = _sequences(references, reference_lengths, eos_id)
    for b, samples in enumerate(_sequences(hypotheses, hypothesis_lengths, eos_id)):
        payoff = _payoff_of(
            targets[b], max_order, smoothing, smooth_value, effective_order, unmatched_id, scale
        )
        suffixes = _suffixes(targets[b], special_ids)
        for k, tokens in enumerate(samples):
            for t in range(
                min(len(tokens) + 1, int(stated[b, k]))
            ):  # the state in which eos is chosen is one, too
                prefix = tokens[:t]
                for token in range(vocabulary):
                    best = max(payoff([*prefix, token, *suffix]) for suffix in suffixes)
                    table[b, k, t, token] = best - payoff(prefix)
                table[b, k, t, list(special_ids)] = -torch.inf
                table[b, k, t, eos_id] = 0.0
    values = values if rows is None else values.reshape(-1, vocabulary)[rows.cpu()]
    return values.to(hypotheses.device, dtype)
