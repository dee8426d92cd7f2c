"""Does the critic rank tokens as realised returns do?

A falling TD error does not show a useful critic: the actor follows the ORDER of the critic's values within one state. So
states are taken from the actor's own trajectories, each of the actor's most likely tokens is tried and continued greedily to
the end, and the critic's order of the tokens is compared with the order of the payoffs that were reached.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from softbellman.data import RESERVED, Batch, SpecialTokens
from softbellman.decoding import as_stepwise
from softbellman.payoffs.payoff import Payoff
from softbellman.training.rollout import mode, row_logits

CANDIDATES = 4
"""The actor's likeliest tokens that are tried in a state."""

RANKED_STATES = 200
"""Validation sentences of which a state is ranked. Of a random order the mean correlation then has a standard error of 0.04."""


class Ranking(NamedTuple):
    """How the critic orders tokens.

    Attributes:
        correlation: Spearman correlation of Q with the payoff reached, mean over the states whose payoffs are not all equal,
            in [-1, 1]; NaN when there is none.
        gain: payoff reached by the critic's choice minus that of the actor's likeliest token. Above 0, following the critic
            improves on the actor; below 0, joint training has to make it worse.
        possible_gain: the same for the best choice.
        states: how many states the correlation is a mean of.
        gain_error: standard error of `gain`.
    """

    correlation: float
    gain: float
    possible_gain: float
    states: int
    gain_error: float

    def metrics(self) -> dict[str, float]:
        """As a validation logs them."""
        return {
            "rank_correlation": self.correlation,
            "choice_gain": self.gain,
            "possible_choice_gain": self.possible_gain,
            "ranked_states": float(self.states),
            "choice_gain_error": self.gain_error,
        }


@torch.no_grad()
def ranking(
    actor: nn.Module,
    critic: nn.Module,
    batch: Batch,
    *,
    payoff: Payoff,
    max_length: int,
    forbidden: Tensor,
    candidates: int = CANDIDATES,
    seed: int = 0,
) -> Ranking:
    """Compare the critic's order of tokens with the order of realised payoffs.

    Args:
        actor: policy that continues greedily after the tried token.
        critic: reads the references.
        batch: B sources; one state is taken from each one's greedy translation.
        payoff: the payoff R.
        max_length: longest continuation, in tokens.
        forbidden: tokens that are never tried, bool, `[V]`.
        candidates: the actor's likeliest tokens tried in each state.
        seed: choice of the states.

    """
    with mode(actor, training=False), mode(critic, training=False):
        greedy, lengths = _continue(actor, batch.source, None, None, max_length, forbidden, batch.special)
        generator = torch.Generator().manual_seed(seed)
        fraction = torch.rand(len(lengths), generator=generator).to(lengths.device)
        position = (fraction * (lengths - 1)).long()  # tokens kept before the tried one
        width = int(position.max()) + 1
        prefix = torch.cat([torch.full_like(greedy[:, :1], batch.special.bos), greedy], dim=1)[:, :width]
        rows = torch.arange(len(prefix), device=prefix.device) * width + position  # (B,)
        logits = row_logits(actor, batch.source, prefix, rows)  # (B, V)
        tried = logits.masked_fill(forbidden, -torch.inf).topk(candidates).indices  # (B, C)
        predicted = row_logits(critic, batch.critic_source, prefix, rows).gather(1, tried)

        forced = torch.cat([greedy, greedy.new_full((len(greedy), 1), batch.special.pad)], dim=1)
        forced = forced.repeat_interleave(candidates, 0)  # (B*C, T)
        at = position.repeat_interleave(candidates)
        forced[torch.arange(len(forced), device=at.device), at] = tried.flatten()
        source = batch.source.repeat_interleave(candidates, 0)
        reached, reached_lengths = _continue(
            actor, source, forced, at + 1, max_length + 1, forbidden, batch.special
        )
    shape = (len(tried), candidates)
    rewards = payoff.rewards(
        reached.view(*shape, -1),
        batch.references,
        hypothesis_lengths=reached_lengths.view(shape),
        reference_lengths=batch.reference_lengths,
    )
    reached_payoff = rewards.sum(
        -1
    ).double()  # (B, C); of common prefixes, so ranks and differences are those of returns
    chosen = reached_payoff.gather(1, predicted.argmax(1, keepdim=True)).squeeze(1)
    gains = chosen - reached_payoff[:, 0]  # (B,)
    return Ranking(
        correlation=_mean_spearman(predicted.double(), reached_payoff),
        gain=float(gains.mean()),
        possible_gain=float((reached_payoff.max(1).values - reached_payoff[:, 0]).mean()),
        states=int((_centred_ranks(reached_payoff).square().sum(1) > 0).sum()),
        gain_error=float(gains.std()) / len(gains) ** 0.5 if len(gains) > 1 else math.nan,
    )


def _continue(
    actor: nn.Module,
    source: Tensor,
    forced: Tensor | None,
    forced_lengths: Tensor | None,
    max_length: int,
    forbidden: Tensor,
    special: SpecialTokens = RESERVED,
) -> tuple[Tensor, Tensor]:
    """Follow forced tokens, then the likeliest ones, to EOS. Returns tokens `[N, T]` (PAD after EOS) and lengths."""
    model = as_stepwise(actor)
    state = model.begin(source)
    tokens = torch.full((len(source),), special.bos, dtype=torch.long, device=source.device)
    done = torch.zeros_like(tokens, dtype=torch.bool)
    steps: list[Tensor] = []
    for step in range(max_length):
        logits, state = model.step(tokens, state)
        tokens = logits.masked_fill(forbidden, -torch.inf).argmax(-1)
        if forced is not None and forced_lengths is not None and step < forced.shape[1]:
            tokens = torch.where(step < forced_lengths, forced[:, step], tokens)
        tokens = tokens.masked_fill(done, special.pad)
        steps.append(tokens)
        done |= tokens == special.eos
        if bool(done.all()):
            break
    drawn = torch.stack(steps, dim=1)
    ended = drawn.eq(special.eos)
    lengths = torch.where(ended.any(1), ended.int().argmax(1) + 1, drawn.shape[1])
    return drawn, lengths


def _mean_spearman(predicted: Tensor, realised: Tensor) -> float:
    """Mean rank correlation over rows; ties share their mean rank, `[B, C]` both."""
    left, right = _centred_ranks(predicted), _centred_ranks(realised)
    scale = left.square().sum(1) * right.square().sum(1)
    usable = scale > 0
    correlation = (left * right).sum(1)[usable] / scale[usable].sqrt()
    return float(correlation.mean())


def _centred_ranks(values: Tensor) -> Tensor:
    """Ranks within each row minus their mean, `[B, C]`."""
    below = (values.unsqueeze(1) < values.unsqueeze(2)).sum(2)
    equal = (values.unsqueeze(1) == values.unsqueeze(2)).sum(2)
    ranks = below + (equal - 1) / 2
    return ranks - ranks.mean(1, keepdim=True)
