"""The stage of path consistency learning: policy and state values that agree along drawn sequences and references."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from softbellman.core.head import Rows
from softbellman.data import Batch
from softbellman.losses import soft_value, token_cross_entropy
from softbellman.objectives import Objective, consistency_objective
from softbellman.training.rollout import Encoded, Rollout, forbid, vocabulary_rows
from softbellman.training.settings import ConsistencyStageSettings, Settings
from softbellman.training.stages.base import Judge, Sums, build_optimizer, descend
from softbellman.training.stages.drawing import DRAWN, Drawing
from softbellman.training.stages.evaluating import frozen_copy, padded
from softbellman.training.stages.regression import StateValue, state_regression
from softbellman.training.stages.spec import StageSpec
from softbellman.training.terms import Sentences, of_validation, with_gradients

if TYPE_CHECKING:
    from softbellman.training.assembly import Assembly


class ConsistencyStage:
    """Path consistency learning (Nachum et al. 2017), with a network of state values or with those of the policy's logits.

    Args:
        drawing: the actor, and how sequences are drawn from it.
        settings: of the stage.
        judge: validation.
        sentences: of the validation set, on which the terms of the actor's loss are compared.
        value: the values of states, read from the reference; None: `V = tau logsumexp(logits)` of the actor.
        prior: pi_0; None: the entropy alone is rewarded.
    """

    name = "consistency"
    selection = "dev_bleu"
    annealed: tuple[str, ...] = ("actor",)
    start_is_candidate = True

    def __init__(
        self,
        drawing: Drawing,
        settings: ConsistencyStageSettings,
        *,
        judge: Judge,
        sentences: Sentences | None = None,
        value: StateValue | None = None,
        prior: nn.Module | None = None,
    ) -> None:
        self.schedule = settings.schedule
        self.drawing, self.value, self.prior = drawing, value, prior
        self.modules = {"actor": drawing.actor}
        self.optimizers = {"actor": build_optimizer(drawing.actor, settings.actor_optimizer)}
        if value is not None:
            self.modules["value"] = value
            self.optimizers["value"] = build_optimizer(value, settings.value_optimizer)
        if prior is not None:
            self.modules["prior"] = prior
        self._settings = settings
        self.evaluate = with_gradients(
            judge,
            drawing.actor,
            payoff=self._payoff_term,
            likelihood=lambda batch: drawing.likelihood(batch).loss,
            mle_weight=settings.mle_weight,
            sentences=sentences,
            beside=[network for network in (value, prior) if network is not None],
        )

    def update(self, batch: Batch, step: int) -> Sums:
        settings, drawing = self._settings, self.drawing
        actor = drawing.actor.train()
        moves = step >= settings.actor_delay
        with torch.set_grad_enabled(moves):
            memory = drawing.encode(batch)
        rollout, paths = self._paths(batch, step, memory)
        with torch.set_grad_enabled(moves):
            policy_part, value_part, value = self._consistency(batch, paths, memory)
        diagnostics = policy_part.diagnostics | {
            "tokens": paths.mask.sum(),
            "sequences": torch.as_tensor(len(rollout.mask)),
            "payoff": rollout.rewards.sum(),
            "value": value,
        }
        if moves:
            loss = policy_part.loss
            if settings.mle_weight:
                likelihood = drawing.likelihood(batch, memory=memory)
                loss = loss + settings.mle_weight * likelihood.loss
                diagnostics |= likelihood.diagnostics
            clip = settings.actor_optimizer.clip
            diagnostics["actor_gradient"] = descend(
                loss, actor, self.optimizers["actor"], clip, share=batch.share
            )
        if self.value is not None and value_part is not None:
            diagnostics["value_gradient"] = descend(
                value_part.loss,
                self.value,
                self.optimizers["value"],
                settings.value_optimizer.clip,
                share=batch.share,
            )
        return diagnostics

    def _paths(self, batch: Batch, step: int, memory: Encoded | None) -> tuple[Rollout, Rollout]:
        """What is drawn, and the paths that policy and values agree along."""
        rollout = self.drawing.draw(batch, step, memory=memory)
        if not self._settings.with_reference:
            return rollout, rollout
        return rollout, self.drawing.with_reference(batch, rollout)

    def _payoff_term(self, batch: Batch, step: int) -> Tensor:
        memory = self.drawing.encode(batch)
        _, paths = self._paths(batch, step, memory)
        return self._consistency(batch, paths, memory)[0].loss

    def _consistency(
        self, batch: Batch, paths: Rollout, memory: Encoded | None
    ) -> tuple[Objective, Objective | None, Tensor]:
        """The objectives of policy and values, and the sum of the values. Unified, the first has both gradients."""
        drawing, tau = self.drawing, self.drawing.credit.tau
        rows, mask = paths.rows, paths.mask
        policy = drawing.policy(batch, paths, memory=memory)
        actions = paths.actions.flatten()[rows]
        possible = ~drawing.forbidden[actions]  # <unk> in a reference has no probability under the policy
        actions = actions.masked_fill(~possible, batch.special.eos)
        log_ratio = -token_cross_entropy(policy, actions)
        if (prior := self._prior_policy(batch, paths)) is not None:
            with torch.no_grad():
                log_ratio_of_prior = token_cross_entropy(prior, actions)
            log_ratio = log_ratio + log_ratio_of_prior
        ratios = padded(log_ratio, rows, mask)
        impossible = padded((~possible).float(), rows, mask) > 0

        def agree(ratios: Tensor, values: Tensor) -> Objective:
            return consistency_objective(
                ratios,
                values,
                paths.rewards,
                mask,
                sequences=len(mask),
                tau=tau,
                steps=self._settings.steps,
                impossible=impossible,
            )

        if self.value is None:
            value = tau * soft_value(policy, tau=1.0)
            return agree(ratios, padded(value, rows, mask)), None, value.detach().sum()
        with torch.enable_grad():
            value = self.value.train()(batch.critic_source, paths.prefix, rows)
            values = padded(value, rows, mask)
            value_part = agree(ratios.detach(), values)
        return agree(ratios, values.detach()), value_part, value.detach().sum()

    def _prior_policy(self, batch: Batch, paths: Rollout) -> Rows | None:
        """Logits of pi_0 where the policy's are, with the same tokens forbidden."""
        if self.prior is None:
            return None
        with torch.no_grad():
            said = vocabulary_rows(
                self.prior, batch.source, paths.prefix, paths.rows, logits=self.drawing.logits
            )
            return forbid(said, self.drawing.forbidden_ids)


def _separate(settings: Settings) -> bool:
    return settings.consistency.value == "separate"


def _regression(parts: Assembly) -> nn.Linear:
    return state_regression(
        parts.reader, "consistency.value is separate", "say consistency.value: unified, or write them"
    )


def _build(parts: Assembly, own: ConsistencyStageSettings) -> ConsistencyStage:
    value = StateValue(parts.reader, _regression(parts)) if own.value == "separate" else None
    prior = frozen_copy(parts.actor) if parts.settings.credit.prior == "start" else None
    drawn = parts.draws(CONSISTENCY.name, parts.actor, own.samples, own.extra_length)
    return ConsistencyStage(
        Drawing(parts.actor, **drawn),
        own,
        judge=parts.judge_actor,
        sentences=of_validation(parts, own.schedule),
        value=value,
        prior=prior,
    )


def _check(parts: Assembly, own: ConsistencyStageSettings) -> None:
    if parts.settings.credit.tau == 0:
        raise ValueError(
            "credit.tau is 0, but path consistency is that of the soft-optimal policy; say a credit.tau above 0"
        )
    if own.value == "separate":
        _regression(parts)


CONSISTENCY = StageSpec(
    "consistency",
    _build,
    label="path consistency",
    colour="#8a6d1f",
    reads=("payoff", "credit.tau", "credit.prior", *DRAWN, "critic.attention", "critic.dropout"),
    trains=("actor", "reader"),
    uses=("actor", "reader"),
    with_reader=_separate,
    temperature=lambda settings, algorithm: ("credit.tau", settings.credit.tau),
    check=_check,
)
