"""The stage that trains the actor on sequences of its own: REINFORCE, MIXER, self-critical training, RLOO, minimum risk."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from softbellman.data import Batch
from softbellman.decoding import greedy_search
from softbellman.losses import token_cross_entropy
from softbellman.objectives import Objective, first_of_equals, mean_of_others, minimum_risk, policy_gradient
from softbellman.training.processes import current
from softbellman.training.rollout import (
    Encoded,
    Factored,
    Rollout,
    mode,
    real_rows,
    row_features,
    vocabulary_rows,
)
from softbellman.training.settings import SequenceStageSettings
from softbellman.training.stages.base import Judge, Sums, build_optimizer, descend
from softbellman.training.stages.drawing import DRAWN, Drawing
from softbellman.training.stages.regression import state_regression
from softbellman.training.stages.spec import StageSpec
from softbellman.training.terms import Sentences, of_validation, with_gradients

if TYPE_CHECKING:
    from softbellman.training.assembly import Assembly


class Taught(NamedTuple):
    """What drawn sequences teach.

    Attributes:
        loss: of the actor.
        diagnostics: of the update.
        regression: the loss of a learnt baseline.
    """

    loss: Tensor
    diagnostics: dict[str, Tensor]
    regression: Tensor | None = None


class SequenceStage:
    """Policy gradient or minimum risk on sequences that the actor draws."""

    name = "sequence"
    selection = "dev_bleu"
    annealed: tuple[str, ...] = ("actor",)
    start_is_candidate = True

    def __init__(
        self,
        drawing: Drawing,
        settings: SequenceStageSettings,
        *,
        judge: Judge,
        sentences: Sentences | None = None,
    ) -> None:
        self.schedule = settings.schedule
        self.drawing = drawing
        self.modules = {"actor": drawing.actor}
        self.optimizers = {"actor": build_optimizer(drawing.actor, settings.optimizer)}
        self._settings = settings
        self.evaluate = with_gradients(
            judge,
            drawing.actor,
            payoff=lambda batch, step: self._taught(batch, step, drawing.encode(batch)).loss,
            likelihood=lambda batch: drawing.likelihood(batch).loss,
            mle_weight=settings.mle_weight,
            sentences=None if settings.mixer_chunk else sentences,  # MIXER's own loss has a likelihood in it
        )
        if settings.objective == "policy_gradient" and settings.baseline == "learnt":
            self.modules["baseline"] = state_baseline(drawing.actor)
            self.optimizers["baseline"] = build_optimizer(
                self.modules["baseline"], settings.baseline_optimizer
            )

    def update(self, batch: Batch, step: int) -> Sums:
        settings, drawing = self._settings, self.drawing
        actor = drawing.actor.train()
        memory = drawing.encode(batch)
        loss, diagnostics, regression = self._taught(batch, step, memory)
        if regression is not None:
            diagnostics["baseline_gradient"] = descend(
                regression,
                self.modules["baseline"],
                self.optimizers["baseline"],
                settings.baseline_optimizer.clip,
                share=batch.share,
            )
        if settings.mle_weight:
            likelihood = drawing.likelihood(batch, memory=memory)
            loss = loss + settings.mle_weight * likelihood.loss
            diagnostics |= likelihood.diagnostics
        diagnostics["actor_gradient"] = descend(
            loss, actor, self.optimizers["actor"], settings.optimizer.clip, share=batch.share
        )
        return diagnostics

    def _taught(self, batch: Batch, step: int, memory: Encoded | None) -> Taught:
        """The actor's loss of an update without the likelihood of the references."""
        kept = self._kept_reference(batch, step)
        rollout = self.drawing.draw(batch, step, memory=memory, forced=kept)
        if self._settings.objective == "minimum_risk":
            taught = Taught(*self._risk(batch, rollout, memory))
        else:
            taught = self._policy_gradient(batch, rollout, memory, kept)
        taught.diagnostics.update(
            tokens=rollout.mask.sum(),
            sequences=torch.as_tensor(len(rollout.mask)),
            payoff=rollout.rewards.sum(),
        )
        return taught

    # Policy gradient --------------------------------------------------------------------------------------------------

    def _kept_reference(self, batch: Batch, step: int) -> Tensor | None:
        """MIXER: the reference but its last tokens, which are drawn, `[B, L]`; None where whole sequences are drawn."""
        settings = self._settings
        if not settings.mixer_chunk:
            return None
        drawn = settings.mixer_chunk * (1 + step // settings.mixer_updates)
        place = torch.arange(batch.labels.shape[1], device=batch.labels.device)
        kept = place < batch.mask.sum(1, keepdim=True) - drawn
        return batch.labels.masked_fill(~kept, -1)

    def _policy_gradient(
        self, batch: Batch, rollout: Rollout, memory: Encoded | None, kept: Tensor | None
    ) -> Taught:
        policy = self.drawing.policy(batch, rollout, memory=memory)
        payoffs = rollout.rewards.sum(1)  # [N]
        steps = rollout.mask.shape[1]
        of_row = rollout.rows // steps  # sequence of each real token, [M]
        regression: Tensor | None = None
        if "baseline" in self.modules:
            baseline = self._state_baseline(batch, rollout)
            errors = (baseline - payoffs[of_row]).square()
            # a mean over sequences, as shares of a batch are of sequences
            regression, baseline = errors.sum() / len(rollout.mask), baseline.detach()
        else:
            baseline = self._baseline(batch, payoffs)[of_row]
        advantages, actions = payoffs[of_row] - baseline, rollout.actions.flatten()[rollout.rows]
        if kept is not None:
            given = self._given(kept, rollout)
            possible = ~self.drawing.forbidden[
                actions
            ]  # <unk> in a reference has no probability under the policy
            advantages = torch.where(given, possible.to(advantages.dtype), advantages)
            actions = actions.masked_fill(~possible, batch.special.eos)
        loss, diagnostics = policy_gradient(
            policy, actions, advantages, sequences=len(rollout.mask), inplace_backward=True
        )
        diagnostics["baseline"] = baseline.sum()
        if regression is not None:
            diagnostics["baseline_squared"] = errors.detach().sum()
        return Taught(loss, diagnostics, regression)

    def _given(self, kept: Tensor, rollout: Rollout) -> Tensor:
        """Which real tokens are the reference's, `[M]`: they have the weight 1, so their likelihood is raised."""
        steps = rollout.mask.shape[1]
        wide = pad(kept, (0, max(steps - kept.shape[1], 0)), value=-1)[:, :steps]
        return (wide >= 0).repeat_interleave(len(rollout.mask) // len(kept), dim=0).flatten()[rollout.rows]

    def _baseline(self, batch: Batch, payoffs: Tensor) -> Tensor:
        """One number for each sequence, `[N]`."""
        kind, sources = self._settings.baseline, len(batch)
        if kind == "others":
            return mean_of_others(payoffs.view(sources, -1)).flatten()  # (N) -> (B, K)
        if kind == "batch":
            own = payoffs if batch.share else payoffs[:0]
            total, count = current().sum(torch.stack([own.sum(), own.new_tensor(len(own))]))
            others: Tensor = (total - payoffs) / (count - 1).clamp(
                min=1
            )  # of the whole batch, of every process
            return others
        if kind == "greedy":
            return self._greedy(batch).repeat_interleave(len(payoffs) // sources)
        return torch.zeros_like(payoffs)

    def _greedy(self, batch: Batch) -> Tensor:
        """Payoffs of what the actor translates greedily, `[B]`."""
        drawing = self.drawing
        limits = (batch.mask.sum(1) + drawing.extra_length).clamp(max=drawing.longest)
        with mode(drawing.actor, training=False):
            said = greedy_search(drawing.actor, batch.source, max_length=limits, forbidden=drawing.forbidden)
        rewards = drawing.payoff.rewards(
            said.tokens[:, None],  # (B, T) -> (B, 1, T)
            batch.references,
            hypothesis_lengths=said.lengths[:, None],
            reference_lengths=batch.reference_lengths,
        )
        return rewards[:, 0].sum(1)

    def _state_baseline(self, batch: Batch, rollout: Rollout) -> Tensor:
        """The learnt baseline at the real tokens, `[M]`."""
        actor = self.drawing.actor
        assert isinstance(actor, Factored)
        with torch.no_grad(), mode(actor, training=False):
            states = row_features(actor, batch.source, rollout.prefix, rollout.rows)
        guess: Tensor = self.modules["baseline"](states.float()).squeeze(-1)
        return guess

    # Minimum risk -----------------------------------------------------------------------------------------------------

    def _risk(self, batch: Batch, rollout: Rollout, memory: Encoded | None) -> Objective:
        found = self.drawing.with_reference(batch, rollout) if self._settings.with_reference else rollout
        sources, rows = len(batch), real_rows(found.mask)
        payoffs = found.rewards.sum(1).view(sources, -1)  # (N) -> (B, K)
        with mode(self.drawing.actor, training=self.drawing.credit.sampling_dropout):
            said = vocabulary_rows(
                self.drawing.actor,
                batch.source,
                found.prefix,
                rows,
                logits=self.drawing.logits,
                memory=memory,
            )
        losses = token_cross_entropy(said, found.actions.flatten()[rows])  # [M]
        sums = losses.new_zeros(len(found.mask)).index_add(0, rows // found.mask.shape[1], losses)
        tokens = found.actions.view(*payoffs.shape, -1)  # (N, T) -> (B, K, T)
        distinct = first_of_equals(tokens, found.mask.view(*payoffs.shape, -1))
        return minimum_risk(-sums.view_as(payoffs), payoffs, distinct, alpha=self._settings.alpha)


def state_baseline(actor: nn.Module) -> nn.Module:
    """A linear regression on what the actor's output layer reads, 0 at the start.

    Raises:
        ValueError: for a model without `features` and `project`.
    """
    return state_regression(actor, "sequence.baseline is learnt", "say sequence.baseline: batch")


def _build(parts: Assembly, own: SequenceStageSettings) -> SequenceStage:
    drawn = parts.draws(SEQUENCE.name, parts.actor, own.samples, own.extra_length)
    return SequenceStage(
        Drawing(parts.actor, **drawn),
        own,
        judge=parts.judge_actor,
        sentences=of_validation(parts, own.schedule),
    )


SEQUENCE = StageSpec("sequence", _build, label="sequence level", colour="#b3541e", reads=("payoff", *DRAWN))
