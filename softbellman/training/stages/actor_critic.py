"""Stages of AC and ERAC: policy evaluation of a fixed actor, then actor and critic together (Eq. (18) to 20)."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from softbellman.core.head import Rows
from softbellman.data import Batch
from softbellman.decoding import Sampler, sample
from softbellman.losses import policy_value
from softbellman.models import AttentionDecoder, DecoderState, Memory
from softbellman.models.projection import known_logits
from softbellman.objectives import Objective, actor_objective, critic_objective, td_targets
from softbellman.payoffs.payoff import Payoff
from softbellman.training.rollout import (
    LinearHead,
    Rollout,
    forbid,
    head_of,
    mode,
    roll_out,
    row_features,
    row_logits,
    vocabulary_rows,
)
from softbellman.training.settings import (
    CreditSettings,
    CriticStageSettings,
    JointStageSettings,
    LogitsForm,
)
from softbellman.training.stages.base import Judge, Sums, build_optimizer, descend
from softbellman.training.stages.likelihood import reference_likelihood


class PolicyEvaluation:
    """The part the critic and the joint stage share: draw from the actor, form targets, compute the critic's loss."""

    def __init__(
        self,
        actor: nn.Module,
        critic: nn.Module,
        target: nn.Module,
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
        self.actor, self.critic, self.target = actor, critic, target
        self.payoff, self.credit = payoff, credit
        self.samples, self.extra_length, self.longest = samples, extra_length, longest
        self.key, self.forbidden = key, forbidden
        self._forbidden_ids = forbidden.nonzero().squeeze(1)
        self._logits = logits
        self._sampler: Sampler = partial(sample, actor) if sampler is None else sampler

    @property
    def critic_tau(self) -> float:
        """Temperature of the critic's target: 0 without future entropy."""
        return self.credit.tau if self.credit.future_entropy else 0.0

    def encode(self, batch: Batch) -> Memory | None:
        """The sources encoded by the actor once for all that an update does with them; None where the actor does not offer it.

        Dropout within the encoder would differ between sampling and maximum likelihood; then nothing is shared either.
        """
        if isinstance(self.actor, AttentionDecoder) and self.actor.encodes_alike:
            return self.actor.encode(batch.source)
        return None

    def draw(
        self, batch: Batch, step: int, *, memory: Memory | None = None, padding: bool = False
    ) -> Rollout:
        """Sequences of one update, from the sources or their encoding; `padding` as for `critic_loss`."""
        as_it_acts = not self.credit.sampling_dropout
        start: DecoderState | None = None
        if memory is not None:
            assert isinstance(self.actor, AttentionDecoder)
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
                and not (self._logits == "chunked" and isinstance(self.actor, LinearHead)),
                drawn_order=as_it_acts,  # dropout of the critic falls on the rows in their order
                start=start,
                common_width=padding,
            )

    def policy(self, batch: Batch, rollout: Rollout, *, memory: Memory | None = None) -> Rows:
        """Logits of the policy as it acts: forbidden tokens have probability 0.

        They are those the tokens were drawn from where the rollout kept them; with a graph the decoder runs once more. (With
        dropout on they are computed anew: the graph needs masks of its own.)
        """
        drawn, graph = rollout.logits, torch.is_grad_enabled()
        with mode(self.actor, training=self.credit.sampling_dropout):
            if drawn is None or (graph and not isinstance(self.actor, LinearHead)):
                place = self.actor, batch.source, rollout.prefix, rollout.rows
                said = vocabulary_rows(*place, logits=self._logits, memory=memory)
                return forbid(said, self._forbidden_ids)
            forbid(drawn, self._forbidden_ids)
            if not graph:
                return drawn
            assert isinstance(self.actor, LinearHead)
            features = row_features(self.actor, batch.source, rollout.prefix, rollout.rows, memory=memory)
            return known_logits(features, *self.actor.projection(), drawn)

    def critic_loss(
        self,
        batch: Batch,
        rollout: Rollout,
        policy: Rows,
        *,
        padding: bool = False,
        with_values: bool = False,
    ) -> tuple[Objective, Rows, Rows | None]:
        """The critic's objective, the target critic's values at the drawn states and, asked for, the critic's.

        The critic reads the reference (`batch.labels`: its tokens and EOS) where the actor reads the source. With
        `padding` the positions behind a sequence's end are regressed too, to 0, as the published code does.
        """
        rows, mask = rollout.rows, rollout.mask
        with torch.no_grad():
            bootstrap = vocabulary_rows(self.target, batch.labels, rollout.prefix, rows, logits=self._logits)
            state_values = policy_value(policy, bootstrap, tau=self.critic_tau).value
            values = torch.zeros(mask.shape, dtype=state_values.dtype, device=mask.device)
            values.view(-1)[rows] = state_values  # (M,) -> (N, T)
            targets = td_targets(rollout.rewards, values, mask)
        regressed = torch.arange(mask.numel(), device=mask.device) if padding else rows
        actions, wanted = rollout.actions.flatten()[regressed], targets.flatten()[regressed]
        options: dict[str, Any] = {
            "sequences": len(mask),
            "smoothness": self.credit.smoothness,
            "penalty": self.credit.penalty,
        }
        q: Rows | None = None
        if isinstance(self.critic, LinearHead):
            features = row_features(self.critic, batch.labels, rollout.prefix, regressed)
            # Never multiplied out: `critic_loss` takes the second moments of the output layer.
            objective = critic_objective(
                head_of(self.critic, features), actions, wanted, inplace_backward=True, **options
            )
            if with_values:
                with torch.no_grad():
                    real = features[rows] if padding else features
                    whole = self._logits == "whole"
                    q = self.critic.project(real) if whole else head_of(self.critic, real)
        else:
            all_values = row_logits(self.critic, batch.labels, rollout.prefix, regressed)
            objective = critic_objective(all_values, actions, wanted, **options)
            if with_values:
                q = (all_values[rows] if padding else all_values).detach()
        objective.diagnostics["tokens"] = mask.sum()
        objective.diagnostics["sequences"] = torch.as_tensor(len(mask))
        objective.diagnostics["payoff"] = rollout.rewards.sum()
        return objective, bootstrap, q

    def likelihood(self, batch: Batch, *, memory: Memory | None = None) -> Objective:
        """The actor's maximum-likelihood objective on the references."""
        return reference_likelihood(
            self.actor, batch, source=batch.source, memory=memory, logits=self._logits
        )

    def follow(self) -> None:
        """Move the target critic towards the critic: `phi_bar <- beta phi + (1 - beta) phi_bar`."""
        with torch.no_grad():
            for ours, theirs in zip(self.target.parameters(), self.critic.parameters(), strict=True):
                ours.lerp_(theirs, self.credit.target_speed)


class CriticStage:
    """Policy evaluation of a fixed actor: pre-training of the critic."""

    name = "critic"
    selection = "-dev_td_error"
    annealed: tuple[str, ...] = ("critic",)
    start_is_candidate = False

    def __init__(
        self,
        evaluation: PolicyEvaluation,
        settings: CriticStageSettings,
        *,
        judge: Judge,
    ) -> None:
        self.schedule = settings.schedule
        self.evaluation = evaluation
        self.modules = {"critic": evaluation.critic, "target": evaluation.target}
        self.optimizers = {"critic": build_optimizer(evaluation.critic, settings.optimizer)}
        self.evaluate = judge
        self._clip = settings.optimizer.clip

    def update(self, batch: Batch, step: int) -> Sums:
        evaluation = self.evaluation
        critic = evaluation.critic.train()
        rollout = evaluation.draw(batch, step)
        with torch.no_grad():
            policy = evaluation.policy(batch, rollout)
        objective, _, _ = evaluation.critic_loss(batch, rollout, policy)
        norm = descend(objective.loss, critic, self.optimizers["critic"], self._clip, share=batch.share)
        evaluation.follow()
        return {**objective.diagnostics, "critic_gradient": norm}


class JointStage:
    """Actor and critic together: Eq. (20) on the critic's values while the critic follows the changing policy."""

    name = "joint"
    selection = "dev_bleu"
    annealed: tuple[str, ...] = ("actor",)

    def __init__(self, evaluation: PolicyEvaluation, settings: JointStageSettings, *, judge: Judge) -> None:
        self.schedule = settings.schedule
        self.evaluation = evaluation
        self.start_is_candidate = evaluation.credit.start_is_candidate
        self.modules = {
            "actor": evaluation.actor,
            "critic": evaluation.critic,
            "target": evaluation.target,
        }
        self.optimizers = {
            "actor": build_optimizer(evaluation.actor, settings.actor_optimizer),
            "critic": build_optimizer(evaluation.critic, settings.critic_optimizer),
        }
        self.evaluate = judge
        self._settings = settings

    def update(self, batch: Batch, step: int) -> Sums:
        evaluation, settings = self.evaluation, self._settings
        actor, critic = evaluation.actor.train(), evaluation.critic.train()
        moves = step >= settings.actor_delay
        with torch.set_grad_enabled(moves):
            memory = evaluation.encode(batch)
        padding = not evaluation.credit.mask_padding
        rollout = evaluation.draw(batch, step, memory=memory, padding=padding)
        with torch.set_grad_enabled(moves):
            policy = evaluation.policy(batch, rollout, memory=memory)
        critic_part, averaged, q = evaluation.critic_loss(
            batch,
            rollout,
            policy,
            padding=padding,
            with_values=settings.follow == "critic",
        )
        actor_part = actor_objective(
            policy,
            averaged if q is None else q,
            sequences=len(rollout.mask),
            tau=evaluation.credit.tau,
            entropy=evaluation.credit.actor_entropy,
            inplace_backward=True,
        )
        diagnostics = {**critic_part.diagnostics, **actor_part.diagnostics}
        if moves:
            loss = actor_part.loss
            if settings.mle_weight:
                likelihood = evaluation.likelihood(batch, memory=memory)
                loss = loss + settings.mle_weight * likelihood.loss
                diagnostics.update(likelihood.diagnostics)
            diagnostics["actor_gradient"] = descend(
                loss, actor, self.optimizers["actor"], settings.actor_optimizer.clip, share=batch.share
            )
        diagnostics["critic_gradient"] = descend(
            critic_part.loss,
            critic,
            self.optimizers["critic"],
            settings.critic_optimizer.clip,
            share=batch.share,
        )
        evaluation.follow()
        return diagnostics


def target_of(critic: nn.Module) -> nn.Module:
    """A frozen copy of the critic, the start of the target critic."""
    target = copy.deepcopy(critic).eval()
    return target.requires_grad_(False)
