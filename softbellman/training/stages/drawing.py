"""What the stages that learn from the actor's own sequences share: draw them, and say what the actor thinks of them."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from softbellman.core.head import Rows
from softbellman.data import Batch
from softbellman.decoding import Sampler, sample
from softbellman.decoding.stepwise import StepState
from softbellman.models.projection import known_logits
from softbellman.objectives import Objective
from softbellman.payoffs.payoff import Payoff
from softbellman.training.likelihood import reference_likelihood
from softbellman.training.rollout import (
    Encoded,
    Encoding,
    LinearHead,
    Rollout,
    forbid,
    mode,
    real_rows,
    roll_out,
    row_features,
    vocabulary_rows,
)
from softbellman.training.settings import CreditSettings, LogitsForm

DRAWN = ("credit.forbid_special", "credit.sampling_dropout")
"""Settings of other sections that `Drawing` reads."""


class Drawing:
    """Sequences drawn from an actor, their payoffs, and the policy at their states.

    Args:
        actor: reads the source.
        payoff: the payoff R of a sequence.
        credit: whether dropout is on in a draw, and whether tokens are forbidden in it.
        samples: sequences for each source.
        extra_length: a sequence ends at the reference's length plus this.
        longest: and at this many tokens at most.
        key: key of the draws.
        forbidden: tokens that are never drawn, bool `[V]`.
        logits: how the logits of an update are held.
        sampler: draws from the actor; None: `sample`.
    """

    def __init__(
        self,
        actor: nn.Module,
        *,
        payoff: Payoff,
        credit: CreditSettings,
        samples: int,
        extra_length: int,
        longest: int,
        key: int,
        forbidden: Tensor,
        logits: LogitsForm = "whole",
        sampler: Sampler | None = None,
    ) -> None:
        self.actor, self.payoff, self.credit = actor, payoff, credit
        self.samples, self.extra_length, self.longest = samples, extra_length, longest
        self.key, self.forbidden = key, forbidden
        self.forbidden_ids = forbidden.nonzero().squeeze(1)
        self.logits = logits
        self._sampler: Sampler = partial(sample, actor) if sampler is None else sampler

    def encode(self, batch: Batch) -> Encoded | None:
        """The sources encoded by the actor once for all that an update does with them; None where the actor does not offer it.

        Dropout within the encoder would differ between sampling and maximum likelihood; then nothing is shared either.
        """
        if isinstance(self.actor, Encoding) and self.actor.encodes_alike:
            return self.actor.encode(batch.source)
        return None

    def draw(
        self,
        batch: Batch,
        step: int,
        *,
        memory: Encoded | None = None,
        padding: bool = False,
        forced: Tensor | None = None,
    ) -> Rollout:
        """Sequences of one update, from sources or their encoding; `padding` as for `critic_loss`, `forced` as for `sample`."""
        as_it_acts = not self.credit.sampling_dropout
        start: StepState | None = None
        if memory is not None:
            assert isinstance(self.actor, Encoding)
            start = self.actor.begin(None, memory=memory.detach())
        with torch.no_grad(), mode(self.actor, training=self.credit.sampling_dropout):
            return roll_out(
                self._sampler,
                batch,
                payoff=self.payoff,
                samples=self.samples,
                extra_length=self.extra_length,
                longest=self.longest,
                seed=self.key,
                offset=step * (self.longest + 1),
                forbidden=self.forbidden,
                keep_logits=as_it_acts
                and not (self.logits == "chunked" and isinstance(self.actor, LinearHead)),
                drawn_order=as_it_acts,  # dropout of the critic falls on the rows in their order
                start=start,
                common_width=padding,
                forced=forced,
            )

    def with_reference(self, batch: Batch, rollout: Rollout) -> Rollout:
        """The drawn sequences of each source, behind them its reference: K + 1 sequences a source."""
        sources = len(batch)
        own = self.payoff.rewards(
            batch.labels[:, None],  # (B, L) -> (B, 1, L)
            batch.references,
            hypothesis_lengths=batch.mask.sum(1, keepdim=True),
            reference_lengths=batch.reference_lengths,
        )[:, 0]
        steps = max(rollout.mask.shape[1], batch.labels.shape[1])

        def beside(drawn: Tensor, reference: Tensor, value: float) -> Tensor:
            wide = pad(drawn, (0, steps - drawn.shape[1]), value=value).view(sources, -1, steps)
            last = pad(reference, (0, steps - reference.shape[1]), value=value)[:, None]
            return torch.cat([wide, last], dim=1).flatten(0, 1)  # (B, K, T) -> (N, T)

        padding = batch.special.pad
        mask = beside(rollout.mask, batch.mask, False)
        return Rollout(
            beside(rollout.prefix, batch.prefix, padding),
            beside(rollout.actions, batch.labels, padding),
            mask,
            beside(rollout.rewards, own, 0.0),
            real_rows(mask),
        )

    def policy(self, batch: Batch, rollout: Rollout, *, memory: Encoded | None = None) -> Rows:
        """Logits of the policy as it acts: forbidden tokens have probability 0.

        They are those the tokens were drawn from where the rollout kept them; with a graph the decoder runs once more. (With
        dropout on they are computed anew: the graph needs masks of its own.)
        """
        drawn, graph = rollout.logits, torch.is_grad_enabled()
        with mode(self.actor, training=self.credit.sampling_dropout):
            if drawn is None or (graph and not isinstance(self.actor, LinearHead)):
                place = self.actor, batch.source, rollout.prefix, rollout.rows
                said = vocabulary_rows(*place, logits=self.logits, memory=memory)
                return forbid(said, self.forbidden_ids)
            forbid(drawn, self.forbidden_ids)
            if not graph:
                return drawn
            assert isinstance(self.actor, LinearHead)
            features = row_features(self.actor, batch.source, rollout.prefix, rollout.rows, memory=memory)
            return known_logits(features, *self.actor.projection(), drawn)

    def likelihood(self, batch: Batch, *, memory: Encoded | None = None) -> Objective:
        """The actor's maximum-likelihood objective on the references."""
        return reference_likelihood(self.actor, batch, source=batch.source, memory=memory, logits=self.logits)
