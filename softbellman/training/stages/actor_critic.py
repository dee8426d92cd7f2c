"""Stages of AC and ERAC: policy evaluation of a fixed actor, then actor and critic together (Eq. (18) to 20)."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from softbellman.core.head import Rows
from softbellman.data import Batch
from softbellman.losses import divergence, policy_value, td_targets
from softbellman.objectives import Objective, actor_objective, critic_objective
from softbellman.training.evaluation import td_error
from softbellman.training.health import RANKED_STATES, ranking
from softbellman.training.likelihood import reference_likelihood
from softbellman.training.rollout import (
    LinearHead,
    Rollout,
    forbid,
    head_of,
    row_features,
    row_logits,
    vocabulary_rows,
)
from softbellman.training.settings import (
    CreditSettings,
    CriticStageSettings,
    JointStageSettings,
    Settings,
)
from softbellman.training.stages.base import Judge, Sums, build_optimizer, descend, ends_update, move_towards
from softbellman.training.stages.drawing import Drawing
from softbellman.training.stages.likelihood import scale_warmed_up
from softbellman.training.stages.spec import StageSpec
from softbellman.training.vitals import SENTENCES, measure

if TYPE_CHECKING:
    from softbellman.training.assembly import Assembly


class Backup(NamedTuple):
    """What a critic is regressed to.

    Attributes:
        targets: `[N, T]`.
        bootstrap: the target critic's values at the drawn states, `[M, V]`.
        bonus: what tau multiplies within the values of these states, `[M]`: their entropy, or minus their divergence from
            the prior.
    """

    targets: Tensor
    bootstrap: Rows
    bonus: Tensor


class PolicyEvaluation(Drawing):
    """The part the critic and the joint stage share: draw from the actor, form targets, compute the critic's loss.

    `prior` is pi_0 where the settings want one. Without it, as in the critic stage, the actor is its own: the divergence is 0.
    Further arguments are those of `Drawing`.
    """

    def __init__(
        self,
        actor: nn.Module,
        critic: nn.Module,
        target: nn.Module,
        *,
        prior: nn.Module | None = None,
        **options: Any,
    ) -> None:
        super().__init__(actor, **options)
        self.critic, self.target, self.prior = critic, target, prior

    @property
    def critic_tau(self) -> float:
        """Temperature of the critic's target: 0 without future entropy, else the actor's."""
        return self.actor_tau if self.credit.future_entropy else 0.0

    @property
    def actor_tau(self) -> float:
        """Temperature of the actor's objective: 0 where the actor is its own prior, since then the divergence is 0."""
        own_prior = self.credit.prior != "none" and self.prior is None
        return 0.0 if own_prior else self.credit.tau

    def prior_policy(self, batch: Batch, rollout: Rollout) -> Rows | None:
        """Logits of pi_0 where the policy's are, with the same tokens forbidden; None where there is no prior."""
        if self.prior is None:
            return None
        with torch.no_grad():
            place = self.prior, batch.source, rollout.prefix, rollout.rows
            return forbid(vocabulary_rows(*place, logits=self.logits), self.forbidden_ids)

    @torch.no_grad()
    def backup(self, batch: Batch, rollout: Rollout, policy: Rows, *, prior: Rows | None = None) -> Backup:
        """What the critic is regressed to: Eq. (19), or what `credit.trace` and `credit.prior` make of it."""
        rows, mask = rollout.rows, rollout.mask
        bootstrap = vocabulary_rows(
            self.target, batch.critic_source, rollout.prefix, rows, logits=self.logits
        )
        value, bonus = policy_value(policy, bootstrap, tau=self.critic_tau, prior=prior)
        if prior is not None:
            bonus = -divergence(policy, prior, kind="reverse_kl")  # takes the place of the entropy
        trace = self.credit.trace
        bonuses = padded(self.critic_tau * bonus, rows, mask) if trace else None
        values = padded(value, rows, mask)
        targets = td_targets(rollout.rewards, values, mask, trace=trace, bonuses=bonuses)
        return Backup(targets, bootstrap, bonus)

    def critic_loss(
        self,
        batch: Batch,
        rollout: Rollout,
        policy: Rows,
        *,
        prior: Rows | None = None,
        padding: bool = False,
        with_values: bool = False,
    ) -> tuple[Objective, Rows, Rows | None]:
        """The critic's objective, the target critic's values at the drawn states and, asked for, the critic's.

        The critic reads the reference (`batch.critic_source`: its tokens and EOS) where the actor reads the source. With
        `padding` the positions behind a sequence's end are regressed too, to 0, as the published code does. `prior` is
        what `prior_policy` gives.
        """
        rows, mask = rollout.rows, rollout.mask
        targets, bootstrap, bonus = self.backup(batch, rollout, policy, prior=prior)
        regressed = torch.arange(mask.numel(), device=mask.device) if padding else rows
        actions, wanted = rollout.actions.flatten()[regressed], targets.flatten()[regressed]
        options: dict[str, Any] = {
            "sequences": len(mask),
            "smoothness": self.credit.smoothness,
            "penalty": self.credit.penalty,
        }
        q: Rows | None = None
        if isinstance(self.critic, LinearHead):
            features = row_features(self.critic, batch.critic_source, rollout.prefix, regressed)
            # Never multiplied out: `critic_loss` takes the second moments of the output layer.
            objective = critic_objective(
                head_of(self.critic, features), actions, wanted, inplace_backward=True, **options
            )
            if with_values:
                with torch.no_grad():
                    real = features[rows] if padding else features
                    whole = self.logits == "whole"
                    q = self.critic.project(real) if whole else head_of(self.critic, real)
        else:
            all_values = row_logits(self.critic, batch.critic_source, rollout.prefix, regressed)
            objective = critic_objective(all_values, actions, wanted, **options)
            if with_values:
                q = (all_values[rows] if padding else all_values).detach()
        objective.diagnostics["tokens"] = mask.sum()
        objective.diagnostics["sequences"] = torch.as_tensor(len(mask))
        objective.diagnostics["payoff"] = rollout.rewards.sum()
        if prior is not None:
            objective.diagnostics["prior_divergence"] = -bonus.sum()
        return objective, bootstrap, q

    def reading(self, batch: Batch) -> Objective | None:
        """What keeps the critic a reader: the reference's likelihood under `softmax(Q / reference_tau)`, weighted."""
        weight = self.credit.reference_weight
        if not weight:
            return None
        source, scale = batch.critic_source, 1.0 / self.credit.reference_tau
        found = reference_likelihood(self.critic, batch, source=source, logits=self.logits, scale=scale)
        counts = {
            "read_tokens": found.diagnostics["reference_tokens"],
            "reader_nll": found.diagnostics["nll"],
        }
        return Objective(weight * found.loss, counts)

    def follow(self) -> None:
        """Move the target critic towards the critic: `phi_bar <- beta phi + (1 - beta) phi_bar`."""
        move_towards(self.critic, self.target, self.credit.target_speed)


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
        objective = both(objective, evaluation.reading(batch))
        norm = descend(objective.loss, critic, self.optimizers["critic"], self._clip, share=batch.share)
        if ends_update():
            evaluation.follow()
        return {**objective.diagnostics, "critic_gradient": norm}


class JointStage:
    """Actor and critic together: Eq. (20) on the critic's values while the critic follows the changing policy."""

    name = "joint"
    selection = "dev_bleu"
    annealed: tuple[str, ...] = ("actor",)

    def __init__(
        self,
        evaluation: PolicyEvaluation,
        settings: JointStageSettings,
        *,
        judge: Judge,
    ) -> None:
        self.schedule = settings.schedule
        self.evaluation = evaluation
        self.start_is_candidate = evaluation.credit.start_is_candidate
        self.modules = {
            "actor": evaluation.actor,
            "critic": evaluation.critic,
            "target": evaluation.target,
        }
        if evaluation.prior is not None:
            self.modules["prior"] = evaluation.prior
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
        prior = evaluation.prior_policy(batch, rollout)
        critic_part, averaged, q = evaluation.critic_loss(
            batch,
            rollout,
            policy,
            prior=prior,
            padding=padding,
            with_values=settings.follow == "critic",
        )
        critic_part = both(critic_part, evaluation.reading(batch))
        actor_part = actor_objective(
            policy,
            averaged if q is None else q,
            sequences=len(rollout.mask),
            tau=evaluation.credit.tau,
            entropy=evaluation.credit.actor_entropy,
            prior=prior,
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
        if ends_update():
            evaluation.follow()
        return diagnostics


def both(first: Objective, second: Objective | None) -> Objective:
    """The sum of two objectives, with the diagnostics of both."""
    if second is None:
        return first
    return Objective(first.loss + second.loss, {**first.diagnostics, **second.diagnostics})


def frozen_copy(module: nn.Module) -> nn.Module:
    """A copy of a network that nothing trains, without dropout: the start of the target critic, the prior."""
    copied = copy.deepcopy(module).eval()
    return copied.requires_grad_(False)


def padded(numbers: Tensor, rows: Tensor, mask: Tensor) -> Tensor:
    """Numbers of the real tokens in their places, 0 elsewhere. `[M]` -> `[N, T]`."""
    placed = torch.zeros(mask.shape, dtype=numbers.dtype, device=mask.device)
    placed.view(-1)[rows] = numbers
    return placed


def policy_evaluation(
    parts: Assembly, stage: str, actor: nn.Module, prior: nn.Module | None = None
) -> PolicyEvaluation:
    """What the stages of the critic share; the target critic begins as a copy of the critic and is one for both."""
    target = parts.kept.get("target")
    if target is None:
        target = parts.kept["target"] = frozen_copy(parts.reader)
    own = parts.section(stage)
    drawn = parts.draws(stage, actor, own.samples, own.extra_length)
    return PolicyEvaluation(actor, parts.reader, target, prior=prior, **drawn)


def _build_critic(parts: Assembly, own: CriticStageSettings) -> CriticStage:
    scale_warmed_up(parts)
    evaluation = policy_evaluation(parts, CRITIC.name, parts.actor)
    return CriticStage(evaluation, own, judge=lambda: judge_critic(parts, evaluation))


def _build_joint(parts: Assembly, own: JointStageSettings) -> JointStage:
    prior = frozen_copy(parts.actor) if parts.settings.credit.prior == "start" else None
    evaluation = policy_evaluation(parts, JOINT.name, parts.actor, prior)
    return JointStage(evaluation, own, judge=lambda: judge_joint(parts, evaluation))


def judge_critic(parts: Assembly, evaluation: PolicyEvaluation) -> dict[str, float]:
    """TD error, the order of tokens by the critic, and the measures of a joint stage."""
    metrics = td_error(evaluation, parts.dev_batches, device=parts.device)
    (batch,) = parts.first_of_dev(RANKED_STATES, RANKED_STATES)
    found = ranking(
        parts.actor,
        parts.reader,
        batch,
        payoff=parts.payoff,
        max_length=parts.settings.data.max_length,
        forbidden=parts.task.forbidden(parts.device),
    )
    sentences = parts.first_of_dev(SENTENCES, SENTENCES // 2)
    return {**metrics, **found.metrics(), **measure(evaluation, sentences, settings=parts.settings.joint)}


def judge_joint(parts: Assembly, evaluation: PolicyEvaluation) -> dict[str, float]:
    """BLEU of the actor, then how good the critic is."""
    return {**parts.judge_actor(), **judge_critic(parts, evaluation)}


def _without_prior(settings: Settings) -> dict[str, CreditSettings]:
    """In the critic stage the actor is its own prior, from which it does not diverge: what a temperature of 0 gives."""
    credit = settings.credit
    return {"credit": credit if credit.prior == "none" else replace(credit, prior="none", tau=0.0)}


CRITIC = StageSpec(
    "critic",
    _build_critic,
    label="critic pre-training",
    colour="#b9791a",
    reads=("payoff", "credit"),
    ignores=("credit.actor_entropy", "credit.start_is_candidate"),  # decide how actors move
    alike=_without_prior,
    trains=("reader",),
    uses=("actor", "reader"),
    shared=True,
    traits=("values", "fixed policy"),
)

JOINT = StageSpec(
    "joint",
    _build_joint,
    label="joint training",
    colour="#2b8a57",
    reads=("payoff", "credit"),
    trains=("actor", "reader"),
    uses=("actor", "reader"),
    traits=("values", "moving policy"),
    temperature=lambda settings, algorithm: ("credit.tau", settings.credit.tau),
)
