"""Policy evaluation, which the stages of the critic share: draw from the actor, form targets, compute the critic's loss."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from softbellman.core.head import Rows
from softbellman.data import Batch
from softbellman.losses import divergence, policy_value, td_targets
from softbellman.objectives import Objective, critic_objective
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
from softbellman.training.stages.base import move_towards
from softbellman.training.stages.drawing import Drawing

if TYPE_CHECKING:
    from softbellman.training.assembly import Assembly


class Backup(NamedTuple):
    """What a critic is regressed to.

    Attributes:
        targets: `[N, T]`.
        bootstrap: the target critic's values at the drawn states, `[M, V]`.
        bonus: what tau multiplies within the values of these states, `[M]`: their entropy, or minus their divergence from
            the prior.
        returns: `[N, T]`, what each sequence brought from each token on, tau and the bonuses of later states included; no
            value is read.
    """

    targets: Tensor
    bootstrap: Rows
    bonus: Tensor
    returns: Tensor


class Evaluated(NamedTuple):
    """What a critic makes of a rollout.

    Attributes:
        objective: of the critic.
        bootstrap: the target critic's values at the drawn states, `[M, V]`.
        values: the critic's, `[M, V]`, where they were asked for.
        returns: of the drawn tokens, `[M]`, as in `Backup`.
    """

    objective: Objective
    bootstrap: Rows
    values: Rows | None
    returns: Tensor


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
        bonuses, values = (padded(one, rows, mask) for one in (self.critic_tau * bonus, value))
        targets, returns = (
            td_targets(rollout.rewards, values, mask, trace=trace, bonuses=bonuses)
            for trace in (self.credit.trace, 1.0)
        )
        return Backup(targets, bootstrap, bonus, returns)

    def critic_loss(
        self,
        batch: Batch,
        rollout: Rollout,
        policy: Rows,
        *,
        prior: Rows | None = None,
        padding: bool = False,
        with_values: bool = False,
    ) -> Evaluated:
        """The critic's objective, the values of both critics at the drawn states, and the returns there.

        The critic reads the reference (`batch.critic_source`: its tokens and EOS) where the actor reads the source. With
        `padding` the positions behind a sequence's end are regressed too, to 0, as the published code does. `prior` is
        what `prior_policy` gives.
        """
        rows, mask = rollout.rows, rollout.mask
        targets, bootstrap, bonus, returns = self.backup(batch, rollout, policy, prior=prior)
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
        return Evaluated(objective, bootstrap, q, returns.flatten()[rows])

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
