"""Weighted edited references: what RAML and VAML train on, and what the oracle learns from.

Notation: B sources, K sequences per source, N = B*K sequences, T steps (the end token included), M real tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from softbellman.data import BOS, EOS, PAD, UNK, Batch
from softbellman.payoffs import Edits, importance_weights, sample_edits
from softbellman.payoffs.payoff import Payoff
from softbellman.training.rollout import real_rows
from softbellman.training.settings import EditSettings


class Edited(NamedTuple):
    """Edited references, each ended by EOS.

    Attributes:
        prefix: BOS and the tokens, the decoder's input, `[N, T]`.
        labels: the tokens and EOS, `[N, T]`.
        mask: True at real labels, `[N, T]`.
        rewards: `r_t = R(y_1..t) - R(y_1..t-1)`, 0 at EOS, `[N, T]`.
        rows: flat indices of the real labels in `[N, T]`, `[M]`.
        weights: importance weights, `[B, K]`, each row adds up to 1.
        effective_sample_size: `1 / sum_k w_k^2`, `[B]`.
        payoff: `R(y)`, `[B, K]`.
    """

    prefix: Tensor
    labels: Tensor
    mask: Tensor
    rewards: Tensor
    rows: Tensor
    weights: Tensor
    effective_sample_size: Tensor
    payoff: Tensor


def edit_references(
    batch: Batch,
    edits: EditSettings,
    payoff: Payoff,
    *,
    vocabulary: int,
    tau: float,
    corrected: bool,
    seed: int,
    offset: int,
) -> Edited:
    """Draw K edited references for each source of a batch, score every prefix, weight the sequences.

    Args:
        batch: B references; its targets are edited.
        edits: how.
        payoff: the payoff R.
        vocabulary: size V of the target vocabulary; PAD, BOS, EOS and UNK are never touched or produced.
        tau: temperature of the payoff distribution.
        corrected: importance weights `exp(R / tau) / q`; False: the published code's softmax of the plain score.
        seed, offset: key and counter of the draw.
    """
    before = (
        batch.first
    )  # rows of other processes are empty here: so own rows have their numbers in the whole batch
    lengths = pad(batch.mask.sum(1) - 1, (before, 0))  # without EOS
    drawn = sample_edits(
        # The last label of the batch's longest row is its EOS.
        pad(batch.labels[:, :-1], (0, 0, before, 0), value=PAD).contiguous(),
        lengths,
        samples=edits.samples,
        proposal=edits.proposal,
        vocabulary=vocabulary,
        seed=seed,
        offset=offset,
        special_ids=(PAD, BOS, EOS, UNK),
        max_order=edits.max_order,
        rate=edits.rate,
        temperature=edits.temperature,
        max_distance=edits.max_distance or None,
        keep_gold=edits.keep_reference,
        pad_id=PAD,
    )
    if before:
        drawn = Edits(*(part[before:] for part in drawn))
    exact = payoff.rewards(
        drawn.tokens,
        batch.references,
        hypothesis_lengths=drawn.lengths,
        reference_lengths=batch.reference_lengths,
        scaled=corrected,
        dtype=torch.float64,
    )
    reached = exact.sum(-1)  # (B, K)
    weighted = importance_weights(
        reached, drawn.log_density, tau=tau if corrected else 1.0, corrected=corrected
    )
    sources, samples, width = drawn.tokens.shape
    ends = drawn.lengths.view(-1, 1)  # (B, K) -> (N, 1)
    labels = drawn.tokens.new_full((sources * samples, width + 1), PAD)
    labels[:, :-1] = drawn.tokens.view(-1, width)
    labels.scatter_(1, ends, EOS)
    start = torch.full_like(ends, BOS)
    rewards = pad(exact.float().view(-1, width), (0, 1))
    longest = width + 1
    if longest > batch.labels.shape[1]:  # a proposal that inserts leaves room behind
        longest = int(ends.max()) + 1
    mask = torch.arange(longest, device=labels.device) <= ends
    return Edited(
        prefix=torch.cat([start, labels[:, : longest - 1]], dim=1),
        labels=labels[:, :longest],
        mask=mask,
        rewards=rewards[:, :longest],
        rows=real_rows(mask),
        weights=weighted.weights.float(),
        effective_sample_size=weighted.effective_sample_size,
        payoff=reached.float(),
    )


class SharedRows(NamedTuple):
    """Positions of sequences and the prefixes they have.

    Attributes:
        rows: flat indices of one position for each of the D different prefixes of a source, `[D]`.
        states: which of them each of the M positions has, `[M]`.
    """

    rows: Tensor
    states: Tensor


def share_prefixes(prefix: Tensor, rows: Tensor, *, samples: int, kept: Tensor | None = None) -> SharedRows:
    """Find the positions of one source whose prefixes are equal: the states, and all that follows from them, are equal too.

    Args:
        prefix: K sequences of each source, int64, `[N, T]`.
        rows: flat indices of the positions in question into the kept sequences `[N', T]`, where a prefix that one of
            them has is there with each sequence that has it, `[M]`.
        samples: K.
        kept: the sequences that are left of the N, ascending, int64, `[N']`; None: all.
    """
    sequences, steps = prefix.shape
    grouped = prefix.view(-1, samples, steps)  # (N, T) -> (B, K, T)
    alike = (grouped[:, :, None] == grouped[:, None]).cumprod(dim=3, dtype=torch.int8)  # (B, K, K, T)
    number = torch.arange(sequences, device=prefix.device)
    if kept is not None:
        present = torch.zeros_like(number, dtype=torch.int8).index_fill_(0, kept, 1)
        alike *= present.view(-1, 1, samples, 1)
        number = present.cumsum(0) - 1
    first = alike.argmax(dim=2)  # (B, K, T), the first sequence that begins alike
    first += torch.arange(0, sequences, samples, device=prefix.device)[:, None, None]
    place = number[first.flatten(0, 1)] * steps + torch.arange(steps, device=prefix.device)  # (N, T)
    if kept is not None:
        place = place[kept]
    place = place.flatten()[rows]
    chosen = rows[place == rows]
    rank = torch.empty(int(prefix.numel()), dtype=torch.int64, device=prefix.device)
    rank[chosen] = torch.arange(len(chosen), device=prefix.device)
    return SharedRows(chosen, rank[place])
