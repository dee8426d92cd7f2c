"""Stages of maximum likelihood: the actor on (source, reference), the critic's warm-up on (reference, reference)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from softbellman.data import Batch
from softbellman.models import Memory
from softbellman.objectives import Objective, maximum_likelihood
from softbellman.training.rollout import vocabulary_rows
from softbellman.training.settings import ActorStageSettings, LogitsForm, WarmUpSettings
from softbellman.training.stages.base import Judge, Sums, build_optimizer, descend


class ActorStage:
    """Maximum-likelihood training of the actor."""

    name = "actor"
    selection = "dev_bleu"
    annealed: tuple[str, ...] = ("actor",)
    start_is_candidate = False

    def __init__(
        self, actor: nn.Module, settings: ActorStageSettings, *, judge: Judge, logits: LogitsForm = "whole"
    ) -> None:
        self.schedule = settings.schedule
        self.modules = {"actor": actor}
        self.optimizers = {"actor": build_optimizer(actor, settings.optimizer)}
        self.evaluate = judge
        self._clip, self._logits = settings.optimizer.clip, logits

    def update(self, batch: Batch, step: int) -> Sums:
        actor = self.modules["actor"].train()
        objective = reference_likelihood(actor, batch, source=batch.source, logits=self._logits)
        norm = descend(objective.loss, actor, self.optimizers["actor"], self._clip, share=batch.share)
        return {**objective.diagnostics, "actor_gradient": norm}


def reference_likelihood(
    model: nn.Module,
    batch: Batch,
    *,
    source: Tensor,
    memory: Memory | None = None,
    logits: LogitsForm = "whole",
) -> Objective:
    """The maximum-likelihood objective on the batch's references, given `source` (the actor's own, or the reference).

    `memory` is `source` as the model has encoded it already, if it has; `logits` the form they are held in.
    """
    rows = batch.rows
    said = vocabulary_rows(model, source, batch.prefix, rows, logits=logits, memory=memory)
    labels = batch.labels.flatten()[rows]
    objective = maximum_likelihood(said, labels, sequences=len(batch.source), inplace_backward=True)
    objective.diagnostics["reference_tokens"] = torch.as_tensor(len(rows))
    return objective


class WarmUpStage:
    """Start of the critic: maximum likelihood of the reference given the reference."""

    name = "warmup"
    selection = "-dev_nll"
    annealed: tuple[str, ...] = ("critic",)
    start_is_candidate = False

    def __init__(
        self, critic: nn.Module, settings: WarmUpSettings, *, judge: Judge, logits: LogitsForm = "whole"
    ) -> None:
        self.schedule = settings.schedule
        self.modules = {"critic": critic}
        self.optimizers = {"critic": build_optimizer(critic, settings.optimizer)}
        self.evaluate = judge
        self._clip, self._logits = settings.optimizer.clip, logits

    def update(self, batch: Batch, step: int) -> Sums:
        critic = self.modules["critic"].train()
        objective = reference_likelihood(critic, batch, source=batch.labels, logits=self._logits)
        norm = descend(objective.loss, critic, self.optimizers["critic"], self._clip, share=batch.share)
        return {**objective.diagnostics, "critic_gradient": norm}
