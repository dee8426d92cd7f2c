"""Stages of RAML and VAML: soft Q-learning of the oracle (Eq. (16)), then the actor on weighted edits (Eq. (2) and 17)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from softbellman.data import Batch
from softbellman.decoding import Tempered
from softbellman.objectives import (
    known_distillation,
    oracle_distillation,
    soft_q_objective,
    weighted_likelihood,
)
from softbellman.payoffs.payoff import check_completions
from softbellman.training.completions import complete
from softbellman.training.edited import Edited, share_prefixes
from softbellman.training.evaluation import soft_residual
from softbellman.training.rollout import mode, real_rows, vocabulary_rows
from softbellman.training.settings import (
    AugmentedStageSettings,
    LogitsForm,
    OracleStageSettings,
    Settings,
)
from softbellman.training.stages.base import Judge, Sums, build_optimizer, descend
from softbellman.training.stages.edit_source import EditSource
from softbellman.training.stages.likelihood import scale_warmed_up
from softbellman.training.stages.spec import StageSpec

if TYPE_CHECKING:
    from softbellman.training.algorithms import Algorithm
    from softbellman.training.assembly import Assembly


class OracleStage:
    """Soft Q-learning of the network that reads the reference, on edited references."""

    name = "oracle"
    selection = "oracle_bleu"
    annealed: tuple[str, ...] = ("oracle",)
    start_is_candidate = False

    def __init__(
        self,
        oracle: nn.Module,
        source: EditSource,
        settings: OracleStageSettings,
        *,
        judge: Judge,
        logits: LogitsForm = "whole",
    ) -> None:
        self.schedule = settings.schedule
        self.source = source
        self.modules = {"oracle": oracle}
        self.optimizers = {"oracle": build_optimizer(oracle, settings.optimizer)}
        self.evaluate = judge
        self._settings, self._logits = settings, logits

    def update(self, batch: Batch, step: int) -> Sums:
        oracle = self.modules["oracle"].train()
        loss, diagnostics = self.residuals(batch, step)
        norm = descend(
            loss, oracle, self.optimizers["oracle"], self._settings.optimizer.clip, share=batch.share
        )
        return {**diagnostics, "oracle_gradient": norm}

    def residuals(self, batch: Batch, step: int) -> tuple[Tensor, Sums]:
        """The loss of Eq. (16) on one draw, and its sums."""
        edited = self.source.draw(batch, step)
        labels, prefix, rewards, rows = edited.labels, edited.prefix, edited.rewards, edited.rows
        ends = counted = None
        if self._settings.bootstrap_after_end:  # one padding state behind each end lends its value
            labels = torch.nn.functional.pad(labels, (0, 1), value=batch.special.pad)
            prefix = torch.cat([prefix, edited.labels[:, -1:]], dim=1)
            rewards = torch.nn.functional.pad(rewards, (0, 1))
            real = torch.nn.functional.pad(edited.mask, (0, 1))
            reached = real | torch.nn.functional.pad(edited.mask, (1, 0))
            rows = real_rows(reached)
            counted = real.flatten()[rows]
            ends = ~counted
        else:
            last = edited.mask & ~torch.nn.functional.pad(edited.mask[:, 1:], (0, 1))
            ends = last.flatten()[rows]
        shared = share_prefixes(prefix, rows, samples=len(prefix) // len(batch))
        q = vocabulary_rows(
            self.modules["oracle"], batch.critic_source, prefix, shared.rows, logits=self._logits
        )
        objective = soft_q_objective(
            q,
            labels.flatten()[rows],
            rewards.flatten()[rows],
            sequences=len(labels),
            tau=self._settings.tau,
            terminal=ends,
            counted=counted,
            states=shared.states,
        )
        sums = {
            **objective.diagnostics,
            "tokens": edited.mask.sum(),
            "sequences": torch.as_tensor(len(labels)),
            "payoff": edited.payoff.sum(),
        }
        return objective.loss, sums


class Chosen(NamedTuple):
    """The sequences of an update that have any weight, N' of them.

    Attributes:
        prefix, labels: as those of the edited references, `[N', T]`.
        rows: flat indices of the real labels, `[M]`.
        weights: those of one source add up to 1, `[N']`.
        owner: source of each sequence, `[N']`.
        kept: number of each sequence among all N, `[N']`.
    """

    prefix: Tensor
    labels: Tensor
    rows: Tensor
    weights: Tensor
    owner: Tensor
    kept: Tensor


def choose_sequences(edited: Edited, drop_below: float) -> Chosen:
    """Leave out sequences whose weight is below a threshold; the rest of a source's weights is scaled up to 1."""
    sources, samples = edited.weights.shape
    weights = edited.weights.flatten()  # (B, K) -> (N,)
    kept = (weights >= drop_below).nonzero().squeeze(1)
    owner = torch.div(kept, samples, rounding_mode="floor")
    weights = weights[kept]
    total = weights.new_zeros(sources).index_add_(0, owner, weights)
    rows = real_rows(edited.mask[kept])
    return Chosen(edited.prefix[kept], edited.labels[kept], rows, weights / total[owner], owner, kept)


class AugmentedStage:
    """The actor on weighted edited references: RAML with one-hot targets, VAML with the oracle's.

    Args:
        oracle: the network whose values are distilled.
        completes: in its place the values of completions by a suffix of a reference are.
    """

    name = "augmented"
    selection = "dev_bleu"
    annealed: tuple[str, ...] = ("actor",)

    def __init__(
        self,
        actor: nn.Module,
        oracle: nn.Module | None,
        source: EditSource,
        settings: AugmentedStageSettings,
        *,
        judge: Judge,
        logits: LogitsForm = "whole",
        completes: bool = False,
    ) -> None:
        self.schedule = settings.schedule
        self.source, self.oracle, self._completes = source, oracle, completes
        self.start_is_candidate = settings.start == "actor"
        self.modules = {"actor": actor}
        self.optimizers = {"actor": build_optimizer(actor, settings.optimizer)}
        self.evaluate = judge
        self._settings, self._logits = settings, logits

    def update(self, batch: Batch, step: int) -> Sums:
        settings = self._settings
        actor = self.modules["actor"].train()
        edited = self.source.draw(batch, step)
        chosen = choose_sequences(edited, settings.drop_below)
        source, reference = batch.source, batch.critic_source
        if len(chosen.labels) < len(edited.labels):  # else the model shares a source among its K sequences
            source, reference = source[chosen.owner], reference[chosen.owner]
        rows = chosen.rows
        labels = chosen.labels.flatten()[rows]
        steps = chosen.labels.shape[1]
        weights = chosen.weights[torch.div(rows, steps, rounding_mode="floor")]  # (N',) -> (M,)
        samples = edited.weights.shape[1]
        shared = share_prefixes(edited.prefix, rows, samples=samples, kept=chosen.kept)
        policy = vocabulary_rows(actor, source, chosen.prefix, shared.rows, logits=self._logits)
        if self._completes:
            objective = known_distillation(
                policy,
                self._values(batch, edited, chosen, shared.rows),
                weights,
                sources=len(batch),
                tau=self.source.tau,
                labels=labels,
                oracle_share=self._share(labels),
                states=shared.states,
            )
        elif self.oracle is None:
            objective = weighted_likelihood(
                policy, labels, weights, sources=len(batch), states=shared.states, inplace_backward=True
            )
        else:
            with torch.no_grad(), mode(self.oracle, training=False):
                q = vocabulary_rows(self.oracle, reference, chosen.prefix, shared.rows, logits=self._logits)
            objective = oracle_distillation(
                policy,
                q,
                weights,
                sources=len(batch),
                tau=self.source.tau,
                labels=labels,
                oracle_share=self._share(labels),
                states=shared.states,
                inplace_backward=True,
            )
        norm = descend(
            objective.loss, actor, self.optimizers["actor"], settings.optimizer.clip, share=batch.share
        )
        sums = {
            **objective.diagnostics,
            "sequences": torch.as_tensor(edited.weights.numel()),
            "payoff": edited.payoff.sum(),
            "sources": torch.as_tensor(len(batch)),
            "actor_gradient": norm,
        }
        if settings.edits.samples > 1:  # else there is nothing that one could take from the others
            sums["effective_samples"] = edited.effective_sample_size.sum()
        return sums

    def _values(
        self, batch: Batch, edited: Edited, chosen: Chosen, rows: Tensor
    ) -> Callable[[slice], Tensor]:
        """Completion values at some of the positions `rows` of the chosen sequences. `[C, V]`."""
        found = complete(
            self.source.payoff, edited.labels, edited.mask, batch, vocabulary=self.source.vocabulary
        )
        steps = edited.labels.shape[1]
        places = chosen.kept[torch.div(rows, steps, rounding_mode="floor")] * steps + rows % steps
        return lambda part: found.spread(places[part])

    def _share(self, labels: Tensor) -> float | Tensor:
        """The oracle's part of the target, one number or one for each row. `[M]`."""
        share = self._settings.oracle_share
        if self._settings.mixing == "expected" or share in (0.0, 1.0):
            return share
        return (torch.rand(labels.shape, device=labels.device) < share).float()


def _build_oracle(parts: Assembly, own: OracleStageSettings) -> OracleStage:
    scale_warmed_up(parts)
    stage = OracleStage(
        parts.reader,
        parts.edits(ORACLE.name, own.edits),
        own,
        judge=lambda: _judge_oracle(parts, stage, own),
        logits=parts.settings.logits,
    )
    return stage


def _judge_oracle(parts: Assembly, stage: OracleStage, own: OracleStageSettings) -> dict[str, float]:
    """Soft Bellman residual on edited validation references, BLEU of what the oracle itself would say, and what selects."""
    evaluation = parts.settings.evaluation
    selecting = () if evaluation.select_by == "bleu" else (evaluation.select_by,)
    found = parts.judge(Tempered(parts.reader, own.tau), metrics=selecting, reads="reference")
    return {
        **soft_residual(stage, parts.dev_batches, device=parts.device),
        "oracle_bleu": found.bleu.score,
        **{f"oracle_{name}": value for name, value in found.others.items()},
    }


def _build_augmented(parts: Assembly, own: AugmentedStageSettings) -> AugmentedStage:
    settings = parts.settings
    parts.restart_actor(AUGMENTED.name, own.start)
    learnt, completes = ORACLE.name in parts.stages, _distils_completions(settings, parts.algorithm)
    source = parts.edits(
        AUGMENTED.name,
        own.edits,
        tau=settings.oracle.tau if learnt or completes else own.tau,
        corrected=own.weights == "corrected",
    )
    return AugmentedStage(
        parts.actor,
        parts.reader if learnt else None,
        source,
        own,
        judge=parts.judge_actor,
        logits=settings.logits,
        completes=completes,
    )


def _distils_completions(settings: Settings, algorithm: Algorithm) -> bool:
    """Whether values of completions stand in for the learnt oracle's."""
    return algorithm.reader == "oracle" and settings.oracle.kind == "completion"


def _check_augmented(parts: Assembly, own: AugmentedStageSettings) -> None:
    if _distils_completions(parts.settings, parts.algorithm):
        check_completions(parts.settings.payoff)


def _temperature(settings: Settings, algorithm: Algorithm) -> tuple[str, float]:
    if algorithm.reader == "oracle":
        return "oracle.tau", settings.oracle.tau
    return "augmented.tau", settings.augmented.tau


ORACLE = StageSpec(
    "oracle",
    _build_oracle,
    label="oracle",
    colour="#b9791a",
    reads=("payoff",),
    trains=("reader",),
    uses=("reader",),
    shared=True,
    traits=("oracle",),
    temperature=lambda settings, algorithm: ("oracle.tau", settings.oracle.tau),
)

AUGMENTED = StageSpec(
    "augmented",
    _build_augmented,
    label="weighted edits",
    colour="#2b8a57",
    reads=("payoff",),
    uses=("actor", "reader"),
    traits=("weights",),
    temperature=_temperature,
    check=_check_augmented,
)
