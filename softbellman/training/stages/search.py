"""The stage of beam search optimisation (Wiseman and Rush 2016): the reference stays on the beam, by a margin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from softbellman.data import Batch
from softbellman.decoding import LastScore, Violations, margin_search
from softbellman.objectives import margin_violation
from softbellman.payoffs import sentence_bleu
from softbellman.payoffs.payoff import PayoffSettings
from softbellman.training.rollout import Encoded, Encoding, LinearHead, mode, row_features, row_logits
from softbellman.training.settings import SearchStageSettings
from softbellman.training.stages.base import Judge, Sums, build_optimizer, descend
from softbellman.training.stages.drawing import DRAWN
from softbellman.training.stages.spec import Decoder, StageSpec

if TYPE_CHECKING:
    from softbellman.training.assembly import Assembly


class SearchStage:
    """Beam search optimisation: the actor's logits become scores of prefixes, without a softmax.

    The search runs without a graph and notes the violating prefixes. One teacher-forced pass over them and the references has
    the gradient; scores of the tokens in question alone are computed.

    Args:
        actor: what is trained.
        settings: beam, margin, cost.
        payoff: smoothing of BLEU, and whether unknown words match.
        forbidden: tokens that no hypothesis has, bool `[V]`.
        judge: validation, of a search by these scores.
        dropout: whether dropout is on in the search and in the pass behind it.
    """

    name = "search"
    selection = "dev_bleu"
    annealed: tuple[str, ...] = ("actor",)
    start_is_candidate = False  # its scores were not trained to be compared

    def __init__(
        self,
        actor: nn.Module,
        settings: SearchStageSettings,
        *,
        payoff: PayoffSettings,
        forbidden: Tensor,
        judge: Judge,
        dropout: bool = False,
    ) -> None:
        self.schedule = settings.schedule
        self.modules = {"actor": actor}
        self.optimizers = {"actor": build_optimizer(actor, settings.optimizer)}
        self.evaluate = judge
        self._settings, self._payoff, self._forbidden = settings, payoff, forbidden
        self._dropout = dropout

    def update(self, batch: Batch, step: int) -> Sums:
        settings = self._settings
        actor = self.modules["actor"].train()
        memory = actor.encode(batch.source) if isinstance(actor, Encoding) and actor.encodes_alike else None
        with mode(actor, training=self._dropout):
            violations = self.search(batch, step, memory)
            gold, rival = self._scores(batch, violations, memory)
        objective = margin_violation(
            gold, rival, self._costs(batch, violations), sequences=len(batch), margin=settings.margin
        )
        norm = descend(
            objective.loss, actor, self.optimizers["actor"], settings.optimizer.clip, share=batch.share
        )
        return {
            **objective.diagnostics,
            "tokens": batch.mask.sum(),
            "sequences": torch.as_tensor(len(batch)),
            "actor_gradient": norm,
        }

    def search(self, batch: Batch, step: int, memory: Encoded | None = None) -> Violations:
        """The prefixes that violate the margin at an update."""
        actor = self.modules["actor"]
        start = None
        if memory is not None:
            assert isinstance(actor, Encoding)
            start = actor.begin(None, memory=memory.detach())
        return margin_search(
            actor,
            batch.source,
            batch.labels,
            batch.mask.sum(1),
            beam=beam_size(step, self._settings),
            margin=self._settings.margin,
            forbidden=self._forbidden,
            special=batch.special,
            start=start,
        )

    def _scores(self, batch: Batch, violations: Violations, memory: Encoded | None) -> tuple[Tensor, Tensor]:
        """Scores of the references' prefixes and of the violating ones, `[S]` each, with a graph."""
        source, slot = violations.lengths.nonzero(as_tuple=True)
        last = violations.lengths[source, slot] - 1
        first = torch.full_like(violations.prefixes[..., :1], batch.special.bos)
        read = torch.cat([first, violations.prefixes[..., :-1]], dim=2)
        prefix = torch.cat([batch.prefix[:, None], read], dim=1)  # (B, 1 + S, T), the reference first
        count, steps = prefix.shape[1:]
        of_reference = source * count * steps + last
        of_rival = (source * count + 1 + slot) * steps + last
        tokens = torch.cat([batch.labels[source, last], violations.prefixes[source, slot, last]])
        rows = torch.cat([of_reference, of_rival])
        scores = token_scores(
            self.modules["actor"], batch.source, prefix.flatten(0, 1), rows, tokens, memory=memory
        )
        gold, rival = scores.chunk(2)
        return gold, rival

    def _costs(self, batch: Batch, violations: Violations) -> Tensor:
        """Delta of each violation, `[S]`: 1, or 1 - BLEU of what was said since the search began anew."""
        source, slot = violations.lengths.nonzero(as_tuple=True)
        lengths, starts = violations.lengths[source, slot], violations.starts[source, slot]
        if self._settings.cost == "constant" or not len(source):
            return violations.gaps.new_ones(len(source))
        steps = batch.labels.shape[1]
        place = starts[:, None] + torch.arange(steps, device=starts.device)  # (S, T)
        place = place.clamp(max=steps - 1)
        said = violations.prefixes[source, slot].gather(1, place)
        wanted = batch.labels[source].gather(1, place)
        found = sentence_bleu(
            said,
            wanted,
            hypothesis_lengths=lengths - starts,
            reference_lengths=lengths - starts,
            smoothing=self._payoff.smoothing,
            unmatched_id=None if self._payoff.unknown_matches else batch.special.unknown,
            eos_id=batch.special.eos,
        )
        return 1.0 - found


def token_scores(
    model: nn.Module,
    source: Tensor,
    prefix: Tensor,
    rows: Tensor,
    tokens: Tensor,
    *,
    memory: Encoded | None = None,
) -> Tensor:
    """Logits of one token at each of some positions; of a linear output layer no others are computed.

    Args:
        model: reads source and prefix.
        source: `[B, ...]`.
        prefix: `[N, T]`.
        rows: flat indices into `[N, T]`, `[M]`.
        tokens: one for each, `[M]`.
        memory: the source as the model has encoded it.

    Returns:
        `[M]`, float32.
    """
    if isinstance(model, LinearHead):
        features = row_features(model, source, prefix, rows, memory=memory)
        weight, bias = model.projection()
        picked = (features * weight[tokens]).sum(-1) + bias[tokens]
        return picked.float()
    said = row_logits(model, source, prefix, rows, memory=memory)
    return said.gather(1, tokens[:, None]).squeeze(1).float()


def beam_size(step: int, settings: SearchStageSettings) -> int:
    """K of an update: it grows by one every `beam_updates` updates, up to `beam`."""
    return min(settings.start_beam + step // settings.beam_updates, settings.beam)


def _build(parts: Assembly, own: SearchStageSettings) -> SearchStage:
    return SearchStage(
        parts.actor,
        own,
        payoff=parts.settings.payoff,
        forbidden=parts.forbidden,
        judge=lambda: parts.judge_actor(LastScore(parts.actor)),
        dropout=parts.settings.credit.sampling_dropout,
    )


def _check(parts: Assembly, own: SearchStageSettings) -> None:
    if parts.settings.evaluation.length_penalty:
        raise ValueError(
            "evaluation.length_penalty is of log-probabilities, but bso ranks by scores of whole prefixes; say 0"
        )


SEARCH = StageSpec(
    "search",
    _build,
    label="beam search optimisation",
    colour="#4d7c8a",
    reads=("payoff", *DRAWN),
    check=_check,
    decoder=lambda actor, special: Decoder(LastScore(actor), {}),
)
