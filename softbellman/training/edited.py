"""Weighted edited references: what RAML and VAML train on, and what the oracle learns from.

Notation: B sources, K sequences per source, N = B*K sequences, T steps (the end token included), M real tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from softbellman.data import Batch, SpecialTokens
from softbellman.payoffs import Edits, importance_weights, sample_edits
from softbellman.payoffs.payoff import Payoff
from softbellman.training.rollout import real_rows
from softbellman.training.settings import EditSettings

_RESERVED = 16
"""Ids that a proposal leaves alone."""


class Edited(NamedTuple):
    """Edited references, each ended by EOS.

    Attributes:
        prefix: BOS and the tokens, the decoder's input, `[N, T]`.
        labels: the tokens and EOS, `[N, T]`.
        mask: True at real labels, `[N, T]`.
        rewards: `r_t = R(y_1..t) - R(y_1..t-1)`, 0 at EOS, unless the payoff is paid there, `[N, T]`.
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
        vocabulary: size V of the target vocabulary; its reserved ids are never touched or produced (`alphabet`).
        tau: temperature of the payoff distribution.
        corrected: importance weights `exp(R / tau) / q`; False: the published code's softmax of the plain score.
        seed, offset: key and counter of the draw.
    """
    before = (
        batch.first
    )  # rows of other processes are empty here: so own rows have their numbers in the whole batch
    special = batch.special
    size, reserved = alphabet(special, vocabulary)
    lengths = pad(batch.mask.sum(1) - 1, (before, 0))  # without EOS
    drawn = sample_edits(
        # The last label of the batch's longest row is its EOS.
        pad(batch.labels[:, :-1], (0, 0, before, 0), value=special.pad).contiguous(),
        lengths,
        samples=edits.samples,
        proposal=edits.proposal,
        vocabulary=size,
        seed=seed,
        offset=offset,
        special_ids=reserved,
        max_order=edits.max_order,
        rate=edits.rate,
        temperature=edits.temperature,
        max_distance=edits.max_distance or None,
        keep_gold=edits.keep_reference,
        pad_id=special.pad,
    )
    if before:
        drawn = Edits(*(part[before:] for part in drawn))
    sources, samples, width = drawn.tokens.shape
    ends = drawn.lengths.view(-1, 1)  # (B, K) -> (N, 1)
    labels = drawn.tokens.new_full((sources * samples, width + 1), special.pad)
    labels[:, :-1] = drawn.tokens.view(-1, width)
    labels.scatter_(1, ends, special.eos)
    whole = payoff.pays_at_end  # else the end earns 0
    exact = payoff.rewards(
        labels.view(sources, samples, -1) if whole else drawn.tokens,
        batch.references,
        hypothesis_lengths=drawn.lengths + whole,
        reference_lengths=batch.reference_lengths,
        scaled=corrected,
        dtype=torch.float64,
    )
    reached = exact.sum(-1)  # (B, K)
    weighted = importance_weights(
        reached, drawn.log_density, tau=tau if corrected else 1.0, corrected=corrected
    )
    start = torch.full_like(ends, special.bos)
    rewards = exact.float().view(sources * samples, -1)
    rewards = rewards if whole else pad(rewards, (0, 1))
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


def alphabet(special: SpecialTokens, vocabulary: int) -> tuple[int, tuple[int, ...]]:
    """What edits choose from: a size that leaves out reserved ids at the end of a vocabulary, and those before it.

    A proposal takes 16 reserved ids. Where a tokeniser has more of them before its last ordinary token, those without a name
    can be produced.
    """
    reserved = {*special.named, *special.others}
    while vocabulary - 1 in reserved and vocabulary > max(special.named) + 1:
        vocabulary -= 1
    others = [token for token in special.others if token < vocabulary and token not in special.named]
    return vocabulary, (*special.named, *others[: _RESERVED - len(special.named)])


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
