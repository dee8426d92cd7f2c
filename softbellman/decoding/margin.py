"""The search of beam search optimisation: where the reference leaves the beam, or leads by less than a margin.

Notation: B sources, K beams, S violations of a source at most, T steps, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from softbellman.data.vocabulary import RESERVED, SpecialTokens
from softbellman.decoding.stepwise import StepState, StepwiseModel, as_stepwise


class Violations(NamedTuple):
    """Prefixes that violated the margin, in the order of the search.

    Attributes:
        prefixes: their tokens, `[B, S, T]`; padding behind them.
        lengths: t, their tokens, `[B, S]`; 0 where a source has fewer than S.
        starts: tokens of the reference that the search began anew from, r < t, `[B, S]`.
        gaps: `margin - f(y_1..t) + f(yhat_1..t)`, above 0, `[B, S]`.
    """

    prefixes: Tensor
    lengths: Tensor
    starts: Tensor
    gaps: Tensor


@torch.no_grad()
def margin_search(
    model: nn.Module | StepwiseModel,
    source: Tensor,
    labels: Tensor,
    lengths: Tensor,
    *,
    beam: int,
    margin: float = 1.0,
    forbidden: Tensor | None = None,
    special: SpecialTokens = RESERVED,
    start: StepState | None = None,
) -> Violations:
    """Beam search along the reference, started anew from it wherever it is violated (LaSO).

    Wiseman and Rush, "Sequence-to-Sequence Learning as Beam-Search Optimization", 2016. The score f of a prefix is the logit of
    its last token. Before the reference's last token its prefix must lead the K-th best extension of the beam by the margin, at
    the last one all other extensions. Where it does not, the K-th (at the last token the best other one) is a violation, and
    the beam becomes the reference's prefix alone. Where it does the beam goes on with the K best, the reference's prefix among
    them. An extension by the end token competes, but is not extended.

    Args:
        model: has `begin` and `step`, or is a module mapping (source, prefix) to logits, in the mode it is to be searched in.
        source: what the model reads, `[B, ...]`.
        labels: tokens of the reference, the end token last, `[B, T]`.
        lengths: real tokens of each, `[B]`.
        beam: K, at least 2: of one hypothesis the reference would have to lead itself.
        margin: by how much the reference must lead.
        forbidden: tokens that no hypothesis has, bool `[V]`; a reference may have them.
        special: the reserved ids.
        start: the model's state before the start token, where it has encoded the sources already.

    Raises:
        ValueError: a beam below 2.
    """
    if beam < 2:
        raise ValueError(f"beam must be at least 2, got {beam}")
    search = _MarginSearch(as_stepwise(model), labels, lengths, beam, margin, forbidden, special)
    return search.run(source, start)


class _MarginSearch:
    """The bookkeeping of one call; a source that is done runs along and is not looked at."""

    def __init__(
        self,
        model: StepwiseModel,
        labels: Tensor,
        lengths: Tensor,
        beam: int,
        margin: float,
        forbidden: Tensor | None,
        special: SpecialTokens,
    ) -> None:
        self.model, self.labels, self.lengths = model, labels, lengths
        self.beam, self.margin, self.forbidden, self.special = beam, margin, forbidden, special
        (count, steps), device = labels.shape, labels.device
        self.each = torch.arange(count, device=device)
        self.history = torch.full((count, beam, steps), special.pad, dtype=torch.int64, device=device)
        self.alive = torch.arange(beam, device=device).expand(count, beam) == 0  # [B, K]
        self.leader = torch.zeros(
            count, dtype=torch.int64, device=device
        )  # the beam that holds the reference
        self.restart = torch.zeros(count, dtype=torch.int64, device=device)  # r
        self.found = torch.zeros(count, dtype=torch.int64, device=device)  # violations so far
        self.result = Violations(
            torch.full((count, steps, steps), special.pad, dtype=torch.int64, device=device),
            torch.zeros(count, steps, dtype=torch.int64, device=device),
            torch.zeros(count, steps, dtype=torch.int64, device=device),
            torch.zeros(count, steps, device=device),
        )

    def run(self, source: Tensor, start: StepState | None) -> Violations:
        state = (self.model.begin(source) if start is None else start).repeat(self.beam)
        count = len(self.labels)
        current = torch.full(
            (count * self.beam,), self.special.bos, dtype=torch.int64, device=self.labels.device
        )
        for step in range(int(self.lengths.max()) if count else 0):
            logits, state = self.model.step(current, state)
            parent, token = self._extend(logits.float().view(count, self.beam, -1), step)
            first = self.each[:, None] * self.beam
            state = state.reorder((first + parent).flatten())
            current = token.flatten()
        most = int(self.found.max()) if count else 0
        return Violations(*(part[:, :most] for part in self.result))

    def _extend(self, scores: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """One step: note violations, choose the next beam; its beams of origin and tokens, `[B, K]` each."""
        wanted, width = self.labels[:, step], scores.shape[2]
        gold = scores[self.each, self.leader, wanted]
        dead = ~self.alive[..., None]  # [B, K, 1]
        if self.forbidden is not None:
            spoken = torch.arange(width, device=scores.device) == wanted[:, None]  # (B, V)
            dead = dead | (self.forbidden & ~spoken)[:, None]
        flat = scores.masked_fill(dead, -torch.inf).flatten(1)  # (B, K, V) -> (B, K*V)
        own = self.leader * width + wanted  # where the reference's extension stands
        best, place = flat.topk(min(self.beam, flat.shape[1]), dim=1)
        others = flat.scatter(1, own[:, None], -torch.inf)
        top_other, other = others.max(dim=1)
        final = self.lengths == step + 1
        rival = torch.where(final, top_other, best[:, -1])
        offender = torch.where(final, other, place[:, -1])
        gap = self.margin - gold + rival
        violated = (gap > 0) & (step < self.lengths)
        self._note(violated, offender, gap, width, step)
        return self._advance(violated, best, place, own, width, step)

    def _note(self, violated: Tensor, offender: Tensor, gap: Tensor, width: int, step: int) -> None:
        rows = violated.nonzero().squeeze(1)
        slot = self.found[rows]
        parent = torch.div(offender[rows], width, rounding_mode="floor")
        self.result.prefixes[rows, slot, :step] = self.history[rows, parent, :step]
        self.result.prefixes[rows, slot, step] = offender[rows] % width
        self.result.lengths[rows, slot] = step + 1
        self.result.starts[rows, slot] = self.restart[rows]
        self.result.gaps[rows, slot] = gap[rows]
        self.found += violated
        self.restart = torch.where(violated, step + 1, self.restart)

    def _advance(
        self, violated: Tensor, best: Tensor, place: Tensor, own: Tensor, width: int, step: int
    ) -> tuple[Tensor, Tensor]:
        missing = self.beam - place.shape[1]
        if missing:  # fewer extensions than beams: fill with dead copies
            best = torch.cat([best, best.new_full((len(best), missing), -torch.inf)], dim=1)
            place = torch.cat([place, place[:, :1].expand(-1, missing)], dim=1)
        place = torch.where(violated[:, None], own[:, None], place)
        parent, token = torch.div(place, width, rounding_mode="floor"), place % width
        first = torch.arange(self.beam, device=place.device) == 0
        kept = (best > -torch.inf) & (token != self.special.eos)
        self.alive = torch.where(violated[:, None], first, kept)
        self.leader = ((place == own[:, None]) & self.alive).long().argmax(dim=1)
        self.history = self.history.gather(1, parent[..., None].expand_as(self.history))
        self.history[..., step] = token
        return parent, token
