"""The stage of scheduled sampling (Bengio et al. 2015): maximum likelihood on prefixes that the actor has written in part."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from softbellman.data import RESERVED, Batch, SpecialTokens
from softbellman.decoding import Sampler, sample
from softbellman.losses import sample_tokens
from softbellman.objectives import maximum_likelihood
from softbellman.training.rollout import mode, vocabulary_rows
from softbellman.training.settings import LogitsForm, ScheduledStageSettings
from softbellman.training.stages.base import Judge, Sums, build_optimizer, descend, draw_key
from softbellman.training.stages.spec import StageSpec

if TYPE_CHECKING:
    from softbellman.training.assembly import Assembly


class ScheduledStage:
    """Scheduled sampling: at every step a coin says whether the decoder reads the reference's word or one it has drawn itself.

    What was drawn at a step depends on all that was read before it. No gradient passes through the choice of a word.

    Args:
        actor: what is trained.
        settings: how the share of the reference's words falls.
        longest: tokens of a reference at most.
        key: key of the draws.
        forbidden: tokens that are never drawn, bool `[V]`; nor is the end token, since the reference goes on.
        judge: validation.
        logits: how the logits of an update are held.
        sampler: draws from the actor; None: `sample`.
    """

    name = "scheduled"
    selection = "dev_bleu"
    annealed: tuple[str, ...] = ("actor",)

    def __init__(
        self,
        actor: nn.Module,
        settings: ScheduledStageSettings,
        *,
        longest: int,
        key: int,
        forbidden: Tensor,
        judge: Judge,
        logits: LogitsForm = "whole",
        sampler: Sampler | None = None,
        special: SpecialTokens = RESERVED,
    ) -> None:
        self.schedule = settings.schedule
        self.start_is_candidate = settings.start == "actor"
        self.modules = {"actor": actor}
        self.optimizers = {"actor": build_optimizer(actor, settings.optimizer)}
        self.evaluate = judge
        self._settings, self._longest, self._key, self._logits = settings, longest, key, logits
        self._forbidden = forbidden.clone()
        self._forbidden[special.eos] = True
        self._sampler: Sampler = partial(sample, actor) if sampler is None else sampler

    def update(self, batch: Batch, step: int) -> Sums:
        actor = self.modules["actor"].train()
        share = reference_share(step, self._settings)
        prefix = self.mixed_prefix(batch, step, share)
        rows = batch.rows
        said = vocabulary_rows(actor, batch.source, prefix, rows, logits=self._logits)
        labels = batch.labels.flatten()[rows]
        objective = maximum_likelihood(said, labels, sequences=len(batch), inplace_backward=True)
        norm = descend(
            objective.loss, actor, self.optimizers["actor"], self._settings.optimizer.clip, share=batch.share
        )
        return {
            **objective.diagnostics,
            "reference_tokens": torch.as_tensor(len(rows)),
            "tokens": torch.as_tensor(len(rows)),
            "reference_share": torch.as_tensor(share * len(rows)),
            "actor_gradient": norm,
        }

    def mixed_prefix(self, batch: Batch, step: int, share: float) -> Tensor:
        """What the decoder reads, `[B, T]`: BOS, then words of the reference or drawn ones."""
        kept = self._coins(batch, step, share)
        lengths = batch.mask.sum(1)
        last = torch.arange(kept.shape[1], device=kept.device) == lengths[:, None] - 1
        forced = batch.labels.masked_fill(~(kept | last), -1)  # the reference's end token closes a row
        actor = self.modules["actor"]
        options: dict[str, Any] = {
            "seed": self._key,
            "offset": step * (self._longest + 1),
            "first_row": batch.first,
        }
        with torch.no_grad(), mode(actor, training=False):
            drawn = self._sampler(
                batch.source,
                max_length=lengths,
                forbidden=self._forbidden,
                forced=forced,
                special=batch.special,
                **options,
            )
        first = torch.full_like(batch.labels[:, :1], batch.special.bos)
        wide = pad(
            drawn.tokens, (0, kept.shape[1] - drawn.tokens.shape[1]), value=batch.special.pad
        )  # a part of a batch has its width
        return torch.cat([first, wide[:, :-1]], dim=1)

    def _coins(self, batch: Batch, step: int, share: float) -> Tensor:
        """True with probability `share`, `[B, T]`; the same for a row in any part of a batch."""
        rows, steps = batch.labels.shape
        device = batch.labels.device
        numbers = (batch.first + torch.arange(rows, device=device))[:, None] * (self._longest + 1)
        numbers = numbers + torch.arange(steps, device=device)
        chances = torch.tensor([share, 1.0 - share], device=device).log().expand(rows, steps, 2)
        drawn = sample_tokens(chances, seed=draw_key(self._key, "coins"), offset=step, row_numbers=numbers)
        return drawn.tokens == 0


def reference_share(step: int, settings: ScheduledStageSettings) -> float:
    """The share of the reference's words that are read at an update, from 1 down to `least`."""
    if settings.decay == "linear":
        share = 1.0 - step / settings.updates
    elif settings.decay == "exponential":
        share = math.exp(-step / settings.updates)
    else:
        share = inverse_sigmoid(step, settings.updates)
    return max(share, settings.least)


def inverse_sigmoid(step: float, half: float) -> float:
    """`k / (k + exp(step / k))` with `k log k = half`, so that it is a half after `half` updates."""
    k: float = max(half, math.e)
    for _ in range(60):  # Newton's method
        k -= (k * math.log(k) - half) / (math.log(k) + 1.0)
    return 1.0 / (1.0 + math.exp(min(step / k, 700.0)) / k)


def _build(parts: Assembly, own: ScheduledStageSettings) -> ScheduledStage:
    parts.restart_actor(SCHEDULED.name, own.start)
    return ScheduledStage(
        parts.actor,
        own,
        longest=parts.settings.data.max_length,
        key=parts.draw_key(SCHEDULED.name),
        forbidden=parts.forbidden,
        judge=parts.judge_actor,
        logits=parts.settings.logits,
        sampler=parts.sampler,
        special=parts.task.special,
    )


SCHEDULED = StageSpec(
    "scheduled", _build, label="scheduled sampling", colour="#7a5ca8", reads=("credit.forbid_special",)
)
