"""The stage of optimal completion distillation: the values of the best completion as target."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from softbellman.data import Batch
from softbellman.decoding import Sampler, sample
from softbellman.objectives import Objective, known_distillation
from softbellman.payoffs import optimal_completion_values
from softbellman.payoffs.payoff import Payoff, check_completions
from softbellman.training.completions import complete
from softbellman.training.likelihood import reference_likelihood
from softbellman.training.rollout import mode, roll_out, vocabulary_rows
from softbellman.training.settings import CompletionStageSettings, LogitsForm
from softbellman.training.stages.base import Judge, Sums, build_optimizer, descend
from softbellman.training.stages.edit_source import EditSource
from softbellman.training.stages.spec import StageSpec
from softbellman.training.terms import Sentences, of_validation, with_gradients

if TYPE_CHECKING:
    from softbellman.training.assembly import Assembly


class States(NamedTuple):
    """The prefixes of one update: N sequences, K for each source.

    Attributes:
        prefix: what the decoder reads, `[N, T]`.
        tokens: the sequences themselves, `[N, T]`.
        mask: True at real tokens, `[N, T]`.
        rows: flat indices of the real tokens, `[M]`.
        payoff: sum of the sequences' payoffs.
    """

    prefix: Tensor
    tokens: Tensor
    mask: Tensor
    rows: Tensor
    payoff: Tensor


class CompletionStage:
    """Optimal completion distillation (Sabour, Chan and Norouzi, 2019) at temperature `settings.tau`."""

    name = "completion"
    selection = "dev_bleu"
    annealed: tuple[str, ...] = ("actor",)

    def __init__(
        self,
        actor: nn.Module,
        edits: EditSource,
        settings: CompletionStageSettings,
        *,
        payoff: Payoff,
        longest: int,
        key: int,
        forbidden: Tensor,
        judge: Judge,
        logits: LogitsForm = "whole",
        sampler: Sampler | None = None,
        sentences: Sentences | None = None,
    ) -> None:
        self.schedule = settings.schedule
        self.start_is_candidate = settings.start == "actor"
        self.modules = {"actor": actor}
        self.optimizers = {"actor": build_optimizer(actor, settings.optimizer)}
        self.evaluate = with_gradients(
            judge,
            actor,
            payoff=lambda batch, step: self._distilled(batch, step).loss,
            likelihood=lambda batch: self._likelihood(batch).loss,
            mle_weight=settings.mle_weight,
            sentences=sentences,
        )
        self._settings, self._payoff, self._edits = settings, payoff, edits
        self._longest, self._key, self._forbidden = longest, key, forbidden
        self._logits = logits
        self._sampler: Sampler = partial(sample, actor) if sampler is None else sampler

    def update(self, batch: Batch, step: int) -> Sums:
        settings = self._settings
        actor = self.modules["actor"].train()
        loss, diagnostics = self._distilled(batch, step)
        if settings.mle_weight:
            likelihood = self._likelihood(batch)
            loss = loss + settings.mle_weight * likelihood.loss
            diagnostics.update(likelihood.diagnostics)
        diagnostics["actor_gradient"] = descend(
            loss, actor, self.optimizers["actor"], settings.optimizer.clip, share=batch.share
        )
        return diagnostics

    def _distilled(self, batch: Batch, step: int) -> Objective:
        """What the values of completions teach."""
        actor, states = self.modules["actor"], self._draw(batch, step)
        policy = vocabulary_rows(actor, batch.source, states.prefix, states.rows, logits=self._logits)
        values = self._values(batch, states)
        objective = known_distillation(policy, values, sources=len(states.mask), tau=self._settings.tau)
        objective.diagnostics["sequences"] = torch.as_tensor(len(states.mask))
        objective.diagnostics["payoff"] = states.payoff
        return objective

    def _likelihood(self, batch: Batch) -> Objective:
        actor = self.modules["actor"]
        return reference_likelihood(actor, batch, source=batch.source, logits=self._logits)

    def _draw(self, batch: Batch, step: int) -> States:
        actor, settings = self.modules["actor"], self._settings
        if settings.states == "edits":
            edited = self._edits.draw(batch, step)
            return States(edited.prefix, edited.labels, edited.mask, edited.rows, edited.payoff.sum())
        with torch.no_grad(), mode(actor, training=False):
            drawn = roll_out(
                self._sampler,
                batch,
                payoff=self._payoff,
                samples=settings.samples,
                extra_length=settings.extra_length,
                longest=self._longest,
                seed=self._key,
                offset=step * (self._longest + 1),
                forbidden=self._forbidden,
            )
        return States(drawn.prefix, drawn.actions, drawn.mask, drawn.rows, drawn.rewards.sum())

    def _values(self, batch: Batch, states: States) -> Callable[[slice], Tensor]:
        """Completion values at some of the prefixes; UNK stays, where the reference has it. `[C, V]`."""
        vocabulary = len(self._forbidden)
        if self._settings.payoff == "bleu":
            found = complete(self._payoff, states.tokens, states.mask, batch, vocabulary=vocabulary)
            return lambda part: found.spread(states.rows[part])
        sources, steps = len(batch), states.tokens.shape[1]
        return lambda part: optimal_completion_values(
            states.tokens.reshape(sources, -1, steps),  # (N, T) -> (B, K, T)
            batch.labels,
            vocabulary=vocabulary,
            eos_id=batch.special.eos,
            hypothesis_lengths=states.mask.sum(1).view(sources, -1),
            reference_lengths=batch.mask.sum(1) - 1,
            special_ids=batch.special.unspoken,
            rows=states.rows[part],
        )


def _build(parts: Assembly, own: CompletionStageSettings) -> CompletionStage:
    parts.restart_actor(COMPLETION.name, own.start)
    return CompletionStage(
        parts.actor,
        parts.edits(COMPLETION.name, own.edits),
        own,
        payoff=parts.payoff,
        longest=parts.settings.data.max_length,
        key=parts.draw_key(COMPLETION.name),
        forbidden=parts.forbidden,
        judge=parts.judge_actor,
        logits=parts.settings.logits,
        sampler=parts.sampler,
        sentences=of_validation(parts, own.schedule),
    )


def _check(parts: Assembly, own: CompletionStageSettings) -> None:
    if own.payoff == "bleu":
        check_completions(parts.settings.payoff)


COMPLETION = StageSpec(
    "completion",
    _build,
    label="optimal completion",
    colour="#2b8a57",
    reads=("payoff", "credit.forbid_special"),
    check=_check,
)
