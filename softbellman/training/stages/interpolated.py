"""The stage that interpolates between maximum likelihood, RAML and policy gradients (Tan and others, 2018)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from softbellman.data import Batch
from softbellman.decoding import sample
from softbellman.objectives import Objective, known_distillation, maximum_likelihood
from softbellman.payoffs.payoff import Payoff
from softbellman.training.increments import Increments, InterpolatedModel, Shares
from softbellman.training.rollout import Rollout, mode, roll_out, vocabulary_rows
from softbellman.training.settings import InterpolatedStageSettings, LogitsForm
from softbellman.training.stages.base import Judge, Sums, build_optimizer, descend
from softbellman.training.stages.spec import StageSpec

if TYPE_CHECKING:
    from softbellman.training.assembly import Assembly


class Said(NamedTuple):
    """Sequences that were said in turn.

    Attributes:
        drawn: the sequences, one for each source.
        truth: the references' tokens at these positions, the end token behind them, `[B, T]`.
        increments: of the batch.
        found: what they gave at each position, `[B, T, C + 1]`; None where the payoff says nothing.
    """

    drawn: Rollout
    truth: Tensor
    increments: Increments
    found: Tensor | None


class InterpolatedStage:
    """A sequence is said by the actor, by the payoff's increments and by the reference; its next tokens are what is learnt.

    The gradient is the mean of the published one over the draw of each next token. What the actor itself says has a mean of 0.

    Args:
        actor: reads the source.
        payoff: whose increments they are.
        settings: of the stage.
        longest: largest number of tokens.
        key: key of the draws.
        forbidden: tokens that actor and increments never say, bool `[V]`.
        judge: BLEU and what else selects, of the validation set.
        logits: how the logits of an update are held.
    """

    name = "interpolated"
    selection = "dev_bleu"
    annealed: tuple[str, ...] = ("actor",)

    def __init__(
        self,
        actor: nn.Module,
        payoff: Payoff,
        settings: InterpolatedStageSettings,
        *,
        longest: int,
        key: int,
        forbidden: Tensor,
        judge: Judge,
        logits: LogitsForm = "whole",
    ) -> None:
        self.schedule = settings.schedule
        self.start_is_candidate = settings.start == "actor"
        self.modules = {"actor": actor}
        self.optimizers = {"actor": build_optimizer(actor, settings.optimizer)}
        self.evaluate = judge
        self._settings, self._payoff, self._logits = settings, payoff, logits
        self._longest, self._key, self._forbidden = longest, key, forbidden

    def update(self, batch: Batch, step: int) -> Sums:
        actor = self.modules["actor"].train()
        objective = self.objective(batch, step)
        norm = descend(
            objective.loss, actor, self.optimizers["actor"], self._settings.optimizer.clip, share=batch.share
        )
        return {**objective.diagnostics, "actor_gradient": norm}

    def objective(self, batch: Batch, step: int) -> Objective:
        """The loss of an update, mean over sources, and its sums."""
        settings, actor = self._settings, self.modules["actor"]
        shares = shares_at(step, settings)
        said = self.draw(batch, step, shares)
        rows, steps, sources = said.drawn.rows, said.drawn.mask.shape[1], len(batch)
        policy = vocabulary_rows(actor, batch.source, said.drawn.prefix, rows, logits=self._logits)
        labels = said.truth.flatten()[rows]
        taught = shares.payoff + shares.reference
        if said.found is None:
            objective = maximum_likelihood(policy, labels, sequences=sources)
            cross_entropy = objective.diagnostics["nll"]
        else:
            increments, found = said.increments, said.found.flatten(0, 1)  # (B, T, C + 1) -> (B*T, C + 1)

            def values(part: slice) -> Tensor:
                owners = torch.div(rows[part], steps, rounding_mode="floor")
                return increments.spread(found[rows[part]], owners, self._forbidden)

            objective = known_distillation(
                policy,
                values,
                sources=sources,
                tau=settings.tau,
                labels=labels,
                oracle_share=shares.payoff / taught,
            )
            cross_entropy = objective.diagnostics["cross_entropy"]
        tokens = torch.as_tensor(len(rows))
        sums = {
            "cross_entropy": cross_entropy,
            "weight": tokens,
            "tokens": tokens,
            "own_share": shares.own * tokens,
            "payoff_share": shares.payoff * tokens,
            "payoff": said.drawn.rewards.sum(),
            "sequences": torch.as_tensor(sources),
        }
        return Objective(taught * objective.loss, sums)

    def draw(self, batch: Batch, step: int, shares: Shares) -> Said:
        """The sequences of an update, one for each source."""
        settings, actor = self._settings, self.modules["actor"]
        increments = Increments(self._payoff, batch, early_end=settings.early_end)
        truth = batch.labels.masked_fill(~batch.mask, batch.special.eos)
        truth = pad(truth, (0, settings.extra_length), value=batch.special.eos)
        never = torch.zeros_like(self._forbidden)
        never[list(batch.special.unspoken)] = True  # <unk> may be the reference's
        model = InterpolatedModel(
            actor, increments, truth, shares=shares, tau=settings.tau, forbidden=self._forbidden
        )
        with torch.no_grad(), mode(actor, training=False):
            drawn = roll_out(
                partial(sample, model),
                batch,
                payoff=self._payoff,
                samples=1,
                extra_length=settings.extra_length,
                longest=self._longest,
                seed=self._key,
                offset=step * (self._longest + 1),
                forbidden=never,
            )
        steps = drawn.mask.shape[1]
        return Said(drawn, truth[:, :steps], increments, model.increments(steps) if shares.payoff else None)


def shares_at(step: int, settings: InterpolatedStageSettings) -> Shares:
    """Who says the next token at an update: on a straight line from the first shares to the last."""
    along = min(step / settings.updates, 1.0)
    own = settings.own + along * (settings.own_end - settings.own)
    payoff = settings.increments + along * (settings.increments_end - settings.increments)
    return Shares(own, payoff, max(1.0 - own - payoff, 0.0))


def _build(parts: Assembly, own: InterpolatedStageSettings) -> InterpolatedStage:
    parts.restart_actor(INTERPOLATED.name, own.start)
    return InterpolatedStage(
        parts.actor,
        parts.payoff,
        own,
        longest=parts.settings.data.max_length,
        key=parts.draw_key(INTERPOLATED.name),
        forbidden=parts.forbidden,
        judge=parts.judge_actor,
        logits=parts.settings.logits,
    )


METRICS = ("bleu", "rouge_l")
"""Payoffs to which all words that no reference has add the same."""


def _check(parts: Assembly, own: InterpolatedStageSettings) -> None:
    payoff = parts.settings.payoff
    if payoff.metric not in METRICS or payoff.rewards != "prefixes":
        raise ValueError(
            f"interpolation asks what each next token adds to the payoff: payoff.metric must be {' or '.join(METRICS)} with "
            f"payoff.rewards: prefixes, got {payoff.metric} with {payoff.rewards}"
        )


INTERPOLATED = StageSpec(
    "interpolated",
    _build,
    label="interpolation",
    colour="#4f7d9c",
    reads=("payoff", "credit.forbid_special"),
    temperature=lambda settings, algorithm: ("interpolated.tau", settings.interpolated.tau),
    check=_check,
)
