"""Stages of AC and ERAC: policy evaluation of a fixed actor, then actor and critic together (Eq. (18) to 20)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from softbellman.data import Batch
from softbellman.objectives import Objective, actor_objective, policy_gradient
from softbellman.training.evaluation import td_error
from softbellman.training.health import RANKED_STATES, ranking
from softbellman.training.rollout import values_of
from softbellman.training.settings import (
    CreditSettings,
    CriticStageSettings,
    JointStageSettings,
    Settings,
)
from softbellman.training.stages.base import Judge, Sums, build_optimizer, descend, ends_update
from softbellman.training.stages.evaluating import PolicyEvaluation, frozen_copy, policy_evaluation
from softbellman.training.stages.likelihood import scale_warmed_up
from softbellman.training.stages.spec import StageSpec
from softbellman.training.vitals import SENTENCES, measure

if TYPE_CHECKING:
    from softbellman.training.assembly import Assembly


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
        objective = evaluation.critic_loss(batch, rollout, policy).objective
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
        found = evaluation.critic_loss(
            batch,
            rollout,
            policy,
            prior=prior,
            padding=padding,
            with_values=settings.follow == "critic",
        )
        critic_part = both(found.objective, evaluation.reading(batch))
        values = found.bootstrap if found.values is None else found.values
        actor_part = actor_objective(
            policy,
            values,
            sequences=len(rollout.mask),
            tau=evaluation.credit.tau,
            entropy=evaluation.credit.actor_entropy,
            prior=prior,
            inplace_backward=True,
        )
        if settings.return_weight:
            actions = rollout.actions.flatten()[rollout.rows]
            missed = found.returns - values_of(values, actions)
            correction = policy_gradient(
                policy,
                actions,
                settings.return_weight * missed,
                sequences=len(rollout.mask),
                inplace_backward=True,
            )
            actor_part = both(actor_part, Objective(correction.loss, {"missed_return": missed.abs().sum()}))
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


def _build_critic(parts: Assembly, own: CriticStageSettings) -> CriticStage:
    scale_warmed_up(parts)
    evaluation = policy_evaluation(parts, CRITIC.name, parts.actor)
    # what it logs may be read from the cache by a run with another weight of the returns
    joint = replace(parts.settings.joint, return_weight=0.0)
    return CriticStage(evaluation, own, judge=lambda: judge_critic(parts, evaluation, joint))


def _build_joint(parts: Assembly, own: JointStageSettings) -> JointStage:
    prior = frozen_copy(parts.actor) if parts.settings.credit.prior == "start" else None
    evaluation = policy_evaluation(parts, JOINT.name, parts.actor, prior)
    return JointStage(evaluation, own, judge=lambda: judge_joint(parts, evaluation))


def judge_critic(
    parts: Assembly, evaluation: PolicyEvaluation, joint: JointStageSettings
) -> dict[str, float]:
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
    return {**metrics, **found.metrics(), **measure(evaluation, sentences, settings=joint)}


def judge_joint(parts: Assembly, evaluation: PolicyEvaluation) -> dict[str, float]:
    """BLEU of the actor, then how good the critic is."""
    return {**parts.judge_actor(), **judge_critic(parts, evaluation, parts.settings.joint)}


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
