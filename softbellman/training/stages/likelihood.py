"""Stages of maximum likelihood: the actor on (source, reference), the critic's warm-up on (reference, reference).

The warm-up may learn values of completions instead.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from softbellman.data import Batch
from softbellman.objectives import Objective, known_distillation
from softbellman.payoffs.payoff import check_completions
from softbellman.training.completions import complete
from softbellman.training.edited import share_prefixes
from softbellman.training.evaluation import reference_nll
from softbellman.training.likelihood import reference_likelihood
from softbellman.training.own_model import output_parameters
from softbellman.training.rollout import vocabulary_rows
from softbellman.training.settings import ActorStageSettings, LogitsForm, Settings, WarmUpSettings
from softbellman.training.stages.base import Judge, Sums, build_optimizer, descend
from softbellman.training.stages.edit_source import EditSource
from softbellman.training.stages.spec import StageSpec

if TYPE_CHECKING:
    from softbellman.training.assembly import Assembly


class ActorStage:
    """Maximum-likelihood training of the actor."""

    name = "actor"
    selection = "dev_bleu"
    annealed: tuple[str, ...] = ("actor",)
    start_is_candidate = False

    def __init__(
        self,
        actor: nn.Module,
        settings: ActorStageSettings,
        *,
        judge: Judge,
        logits: LogitsForm = "whole",
    ) -> None:
        self.schedule = settings.schedule
        self.modules = {"actor": actor}
        self.optimizers = {"actor": build_optimizer(actor, settings.optimizer)}
        self.evaluate = judge
        self._actor, self._settings, self._logits = actor, settings, logits

    def update(self, batch: Batch, step: int) -> Sums:
        actor, settings = self._actor.train(), self._settings
        objective = reference_likelihood(
            actor,
            batch,
            source=batch.source,
            logits=self._logits,
            smoothing=settings.label_smoothing,
        )
        clip = settings.optimizer.clip
        norm = descend(objective.loss, actor, self.optimizers["actor"], clip, share=batch.share)
        return {**objective.diagnostics, "actor_gradient": norm}


class WarmUpStage:
    """Start of the critic: maximum likelihood of the reference given the reference, or values of completions.

    Args:
        edits: draws the sequences on which completions are valued.
    """

    name = "warmup"
    selection = "-dev_nll"
    annealed: tuple[str, ...] = ("critic",)
    start_is_candidate = False

    def __init__(
        self,
        critic: nn.Module,
        edits: EditSource,
        settings: WarmUpSettings,
        *,
        judge: Judge,
        logits: LogitsForm = "whole",
    ) -> None:
        self.schedule = settings.schedule
        self.modules = {"critic": critic}
        self.optimizers = {"critic": build_optimizer(critic, settings.optimizer)}
        self.evaluate = judge
        self._edits, self._settings, self._logits = edits, settings, logits

    def update(self, batch: Batch, step: int) -> Sums:
        critic = self.modules["critic"].train()
        if self._settings.target == "completion":
            objective = self._distil(critic, batch, step)
        else:
            objective = reference_likelihood(critic, batch, source=batch.critic_source, logits=self._logits)
        clip = self._settings.optimizer.clip
        norm = descend(objective.loss, critic, self.optimizers["critic"], clip, share=batch.share)
        return {**objective.diagnostics, "critic_gradient": norm}

    def _distil(self, critic: nn.Module, batch: Batch, step: int) -> Objective:
        """The cross entropy of the critic's logits under the values of completions, mean over the edited references."""
        edited = self._edits.draw(batch, step)
        sequences = len(edited.labels)
        found = complete(
            self._edits.payoff, edited.labels, edited.mask, batch, vocabulary=self._edits.vocabulary
        )
        shared = share_prefixes(edited.prefix, edited.rows, samples=sequences // len(batch))
        said = vocabulary_rows(critic, batch.critic_source, edited.prefix, shared.rows, logits=self._logits)
        return known_distillation(
            said,
            lambda part: found.spread(shared.rows[part]),
            torch.ones(len(edited.rows), device=edited.rows.device),
            sources=sequences,
            tau=self._settings.scale,
            states=shared.states,
        )


def scale_warmed_up(parts: Assembly) -> None:
    """After a warm-up, whose selected weights are loaded: its logits, scaled, become the first values."""
    if WARMUP.name in parts.stages:
        with torch.no_grad():
            for parameter in output_parameters(parts.reader):
                parameter.mul_(parts.settings.warmup.scale)


def _build_actor(parts: Assembly, own: ActorStageSettings) -> ActorStage:
    return ActorStage(parts.actor, own, judge=parts.judge_actor, logits=parts.settings.logits)


def _build_warmup(parts: Assembly, own: WarmUpSettings) -> WarmUpStage:
    logits = parts.settings.logits
    judge = partial(reference_nll, parts.reader, parts.dev_batches, device=parts.device, logits=logits)
    edits = parts.edits(WARMUP.name, own.edits)
    return WarmUpStage(parts.reader, edits, own, judge=judge, logits=logits)


def _check_warmup(parts: Assembly, own: WarmUpSettings) -> None:
    output_parameters(parts.reader)
    if own.target == "completion":
        check_completions(parts.settings.payoff)


def _read_by_warmup(settings: Settings) -> tuple[str, ...]:
    """The payoff where completions are valued by it, or where it says that all references are read."""
    reads_all = settings.payoff.reads == "references"
    return ("payoff",) if reads_all or settings.warmup.target == "completion" else ()


ACTOR = StageSpec(
    "actor",
    _build_actor,
    label="maximum likelihood",
    colour="#3566a8",
    shared=True,
    likelihood=True,
)

WARMUP = StageSpec(
    "warmup",
    _build_warmup,
    label="warm-up",
    colour="#7a5195",
    also_reads=_read_by_warmup,
    trains=("reader",),
    uses=("reader",),
    shared=True,
    check=_check_warmup,
)
