"""The stage of decoding for future success (Li et al. 2017): a value of the final payoff that the search listens to."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn

from softbellman.data import Batch, SpecialTokens
from softbellman.decoding import ActionValue, beam_search
from softbellman.objectives import critic_objective
from softbellman.training.rollout import LinearHead, Rollout, real_rows, vocabulary_rows
from softbellman.training.settings import FutureStageSettings
from softbellman.training.stages.base import Judge, Sums, build_optimizer, descend, selection_score
from softbellman.training.stages.drawing import DRAWN, Drawing
from softbellman.training.stages.regression import holders
from softbellman.training.stages.spec import Decoder, StageSpec

if TYPE_CHECKING:
    from softbellman.training.assembly import Assembly


class FutureStage:
    """Regression of the final payoff on what the actor says; the actor itself is not trained.

    Args:
        drawing: the actor, and how sequences are drawn from it.
        value: what is trained: the values of all next tokens, from source and prefix.
        settings: of the stage.
        beam: hypotheses of the actor's search, where these are learnt from.
        judge: validation with the weight that the value holds.
    """

    name = "future"
    selection = "dev_bleu"
    annealed: tuple[str, ...] = ("value",)
    start_is_candidate = False

    def __init__(
        self,
        drawing: Drawing,
        value: ActionValue,
        settings: FutureStageSettings,
        *,
        beam: int,
        judge: Judge,
    ) -> None:
        self.schedule = settings.schedule
        self.drawing, self.value = drawing, value
        self.modules: dict[str, nn.Module] = {"actor": drawing.actor, "value": value}
        self.optimizers = {"value": build_optimizer(value, settings.optimizer)}
        self.evaluate = judge
        self._settings, self._beam = settings, beam

    def update(self, batch: Batch, step: int) -> Sums:
        value = self.value.train()
        said = self.sequences(batch, step)
        rows, mask = said.rows, said.mask
        q = vocabulary_rows(value.network, batch.source, said.prefix, rows, logits=self.drawing.logits)
        payoffs = said.rewards.sum(1)  # [N], of the whole sequence
        objective = critic_objective(
            q,
            said.actions.flatten()[rows],
            payoffs[rows // mask.shape[1]],
            sequences=len(mask),
            smoothness=self._settings.smoothness,
            penalty="sum",
            inplace_backward=True,
        )
        clip = self._settings.optimizer.clip
        norm = descend(objective.loss, value, self.optimizers["value"], clip, share=batch.share)
        return {
            **objective.diagnostics,
            "tokens": mask.sum(),
            "sequences": mask.any(1).sum(),
            "payoff": payoffs.sum(),
            "value_gradient": norm,
        }

    def sequences(self, batch: Batch, step: int) -> Rollout:
        """What the value learns from: drawn sequences, or those that the actor's search finds."""
        drawing, settings = self.drawing, self._settings
        if settings.sequences == "samples":
            return drawing.draw(batch, step)._replace(logits=None)
        limits = (batch.mask.sum(1) + drawing.extra_length).clamp(max=drawing.longest)
        found = beam_search(
            drawing.actor,
            batch.source,
            beam=max(self._beam, settings.samples),
            best=settings.samples,
            max_length=limits,
            forbidden=drawing.forbidden,
            special=batch.special,
        )
        tokens, sources = found.tokens, len(batch)
        rewards = drawing.payoff.rewards(
            tokens.view(sources, settings.samples, -1),  # (N, T) -> (B, K, T)
            batch.references,
            hypothesis_lengths=found.lengths.view(sources, settings.samples),
            reference_lengths=batch.reference_lengths,
        ).flatten(0, 1)
        mask = torch.arange(tokens.shape[1], device=tokens.device) < found.lengths[:, None]
        first = torch.full_like(tokens[:, :1], batch.special.bos)
        prefix = torch.cat([first, tokens[:, :-1]], dim=1)
        return Rollout(prefix, tokens, mask, rewards, real_rows(mask))


def judge_weights(
    value: ActionValue,
    gammas: tuple[float, ...],
    judge: Callable[[], dict[str, float]],
    *,
    by: str = "dev_bleu",
) -> dict[str, float]:
    """The metrics of the best weight, the smallest of equals, which the value then holds.

    Args:
        value: its `gamma` is set.
        gammas: weights; 0 is added.
        judge: validation with the weight that the value holds.
        by: the metric that says which is best; a leading minus means smaller is better.

    Returns:
        The metrics, the weight as `dev_gamma`, and the metric of each weight, as `dev_bleu_gamma_WEIGHT`.
    """
    found: dict[float, dict[str, float]] = {}
    for gamma in sorted({0.0, *gammas}):
        value.gamma.fill_(gamma)
        found[gamma] = judge()
    best = max(found, key=lambda gamma: selection_score(found[gamma], by))
    value.gamma.fill_(best)
    name = by.lstrip("-")
    scores = {f"{name}_gamma_{gamma:g}": metrics[name] for gamma, metrics in found.items()}
    return {**found[best], "dev_gamma": best, **scores}


def action_value(actor: nn.Module) -> ActionValue:
    """A value whose network begins as the actor; its output layer is 0, unless its weights have other uses."""
    value = ActionValue(copy.deepcopy(actor))
    if isinstance(value.network, LinearHead):
        with torch.no_grad():
            for part in value.network.projection():
                if holders(value, part) == 1:
                    part.zero_()
    device = next(actor.parameters()).device
    return value.to(device)


def _decoder(actor: nn.Module, special: SpecialTokens) -> Decoder:
    value = action_value(actor)
    return Decoder(value.guide(actor, forbidden=special.never), {"value": value})


def _build(parts: Assembly, own: FutureStageSettings) -> FutureStage:
    value = action_value(parts.actor)
    guided = value.guide(parts.actor, forbidden=parts.task.special.never)
    drawn = parts.draws(FUTURE.name, parts.actor, own.samples, own.extra_length)

    def judge() -> dict[str, float]:
        value.eval()
        by = parts.settings.evaluation.selection(FutureStage.selection)
        return judge_weights(value, own.gammas, lambda: parts.judge_actor(guided), by=by)

    return FutureStage(
        Drawing(parts.actor, **drawn), value, own, beam=parts.settings.evaluation.beam, judge=judge
    )


def _check(parts: Assembly, own: FutureStageSettings) -> None:
    if parts.settings.evaluation.length_penalty:
        raise ValueError(
            "evaluation.length_penalty is of log-probabilities alone, but future_success adds a value to them; say 0"
        )


FUTURE = StageSpec(
    "future",
    _build,
    label="value of the end",
    colour="#a04a7d",
    reads=("payoff", *DRAWN),
    check=_check,
    decoder=_decoder,
)
"""It leaves the actor as it is, but what the actor says with it is a system of its own."""
