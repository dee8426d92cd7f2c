"""Beam search.

Notation: B sources, K beams (the beam's width), R hypotheses returned for each source, b <= B sources still open,
n = b*K rows, C candidates per row, T steps, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from softbellman.data.vocabulary import RESERVED, SpecialTokens
from softbellman.decoding.checks import check_outcome
from softbellman.decoding.limits import forbidden_tokens, length_limits
from softbellman.decoding.stepwise import LastScore, StepState, StepwiseModel, as_stepwise, inner_modules

STEEPEST = 20.0
"""Largest absolute value of a length penalty's exponent: powers of any length stay finite."""

_DEAD = -math.inf
_Length = TypeVar("_Length", float, Tensor)


class Hypotheses(NamedTuple):
    """The R best hypotheses of each source, rows b*R .. b*R+R-1 of source b; T is the longest length found."""

    tokens: Tensor  # [B*R, T] int64: EOS where the hypothesis ended, PAD behind it
    lengths: Tensor  # [B*R] int64, EOS counted; 0: the search found fewer than R
    scores: Tensor  # [B*R] float64, log-probability over the length penalty; -inf where there is none


def length_penalty_divisor(length: _Length, alpha: float) -> _Length:
    """((5 + length) / 6)^alpha, the penalty of Google's NMT system; 1 for alpha = 0."""
    divisor: _Length = ((5.0 + length) / 6.0) ** alpha
    return divisor


@torch.no_grad()
def beam_search(
    model: nn.Module | StepwiseModel,
    source: Tensor,
    *,
    beam: int = 5,
    max_length: int | Tensor,
    length_penalty: float = 0.0,
    forbidden: Tensor | Sequence[int] | None = None,
    allow_unknown: bool = False,
    best: int = 1,
    special: SpecialTokens = RESERVED,
) -> Hypotheses:
    """The best sequence a beam of K open hypotheses finds for each source, dropout off. Deterministic.

    At each step every open hypothesis is extended by every allowed token. An extension by EOS is a finished
    hypothesis if it ranks among the K best extensions of its source by log-probability; the K best others
    stay open. A source is done when no open hypothesis can reach the score of its best finished one, or at
    its `max_length`. The best finished hypothesis is returned, or the best open one, as it is, where none
    finished. Log-probabilities are those of the distribution over the allowed tokens, the same that `sample`
    draws from.

    Of a `LastScore` model a hypothesis is worth its last score alone: no softmax, no sum. Where its scores are `comparable` a
    source is done when its K best extensions all end, since a score may rise again. Else it is done when the best extension
    of a step ends, and that one is returned; a source without one has its best finished hypothesis at its `max_length`.

    With `best` above 1 a source is done when no open hypothesis can reach its R-th best finished one. Finished hypotheses
    stand first, best first; at `max_length` open ones fill the places left.

    Args:
        model: has `begin` and `step`, or is a module mapping (source, prefix) to logits.
        source: what the model reads, batch first: [B, S] int64, or features of images [B, F] or [B, G, F].
        beam: K; may exceed V.
        max_length: the largest number of tokens, EOS counted: one for all, or [B].
        length_penalty: alpha; the score is log p / ((5 + length) / 6)^alpha. 0 is the log-probability itself.
        forbidden: bool [V] or ids that are never produced; None forbids `special.never`: PAD, BOS and UNK.
        allow_unknown: with `forbidden=None`, lets UNK be produced.
        best: R, at most K.
        special: ids of padding, start, end and unknown words in the model's vocabulary.

    Raises:
        ValueError: for K < 1, R outside 1 to K, a length penalty that is not from -20 to 20, bad lengths or ids, or logits of
            a live row that are NaN, +inf or without any finite allowed entry.
    """
    if beam < 1:
        raise ValueError(f"beam must be at least 1, got {beam}")
    if not 1 <= best <= beam:
        raise ValueError(f"best must be from 1 to the beam size {beam}, got {best}")
    if not -STEEPEST <= length_penalty <= STEEPEST:
        raise ValueError(f"length_penalty must be from {-STEEPEST:g} to {STEEPEST:g}, got {length_penalty:g}")
    last = model if isinstance(model, LastScore) else None
    if last and length_penalty:
        raise ValueError(
            f"length_penalty is of log-probabilities and must be 0 for scores of whole prefixes, got {length_penalty:g}"
        )
    limits, longest = length_limits(max_length, source)
    if source.shape[0] == 0:
        return Hypotheses(
            limits.new_empty(0, 0), limits, torch.zeros(0, dtype=torch.float64, device=source.device)
        )
    with _evaluating(model):
        search = _Search(
            as_stepwise(model), source, beam, best, limits, longest, length_penalty, special, last
        )
        return search.run(forbidden, allow_unknown)


def greedy_search(
    model: nn.Module | StepwiseModel,
    source: Tensor,
    *,
    max_length: int | Tensor,
    forbidden: Tensor | Sequence[int] | None = None,
    allow_unknown: bool = False,
    special: SpecialTokens = RESERVED,
) -> Hypotheses:
    """The most probable token at each step: `beam_search` with one beam and no length penalty."""
    return beam_search(
        model,
        source,
        beam=1,
        max_length=max_length,
        forbidden=forbidden,
        allow_unknown=allow_unknown,
        special=special,
    )


class _Search:
    """The bookkeeping of one call. Tensors of open sources are compacted; those of the result are not."""

    def __init__(
        self,
        model: StepwiseModel,
        source: Tensor,
        beam: int,
        best: int,
        limits: Tensor,
        longest: int,
        length_penalty: float,
        special: SpecialTokens,
        last: LastScore | None,
    ) -> None:
        count, device = source.shape[0], source.device
        self.model, self.beam, self.alpha, self.device = model, beam, length_penalty, device
        self.steps, self.best, self.special = longest, best, special
        self.last = last is not None  # a hypothesis is worth its last score
        # Of scores that cannot be compared between lengths the best extension of a step, if it ends, is the result.
        self.leading_end = last is not None and not last.comparable
        # What a source of last scores waits for, [b]: that end, or the ends of its K best extensions.
        self.ended = torch.zeros(count, dtype=torch.bool, device=device)
        # The result, for all B sources, best first.
        self.tokens = torch.full((count, best, self.steps), special.pad, dtype=torch.int64, device=device)
        self.lengths = torch.zeros(count, best, dtype=torch.int64, device=device)
        self.scores = torch.full(
            (count, best), _DEAD, dtype=torch.float64, device=device
        )  # -inf: nothing finished yet
        # The open sources; the first step runs on one row each.
        self.state: StepState = model.begin(source)
        self.sources = torch.arange(count, device=device)  # [b]
        self.limits = limits  # [b]
        self.total = torch.zeros(
            count, 1, dtype=torch.float64, device=device
        )  # [b, K], log-probability of each open hypothesis
        self.history = torch.empty(count, 1, 0, dtype=torch.int64, device=device)  # [b, K, t]
        self.current = torch.full((count,), special.bos, dtype=torch.int64, device=device)  # [n]
        self.banned: Tensor | None = None
        self.undefined = torch.zeros(
            (), dtype=torch.bool, device=device
        )  # logits of a live row were NaN or +inf

    def run(self, forbidden: Tensor | Sequence[int] | None, allow_unknown: bool) -> Hypotheses:
        for length in range(1, self.steps + 1):
            logits, self.state = self.model.step(self.current, self.state)
            if self.banned is None:
                self.banned = forbidden_tokens(
                    forbidden, allow_unknown, logits.shape[1], self.device, special=self.special
                )
            self._extend(logits, length)
            self._close(length)
            if self.sources.shape[0] == 0:
                break
        shortest, longest, undefined = torch.stack(
            [self.lengths[:, 0].min(), self.lengths.max(), self.undefined.long()]
        ).tolist()
        check_outcome("no hypothesis can be built", undefined=bool(undefined), impossible=shortest == 0)
        tokens = self.tokens[:, :, :longest].flatten(0, 1)  # (B, R, T) -> (B*R, T)
        return Hypotheses(tokens, self.lengths.flatten(), self.scores.flatten())

    def _extend(self, logits: Tensor, length: int) -> None:
        """One step of the search: finish what ends, keep the K best of the rest."""
        assert self.banned is not None
        count, width = self.total.shape
        allowed = logits.masked_fill(self.banned, _DEAD)
        if allowed.dtype not in (torch.float32, torch.float64):
            allowed = allowed.float()
        normaliser = allowed.logsumexp(dim=1, keepdim=True)
        live = self.total.reshape(-1, 1) > _DEAD
        self.undefined |= (live & ~(normaliser < math.inf)).any()
        # Of one row no more than K + 1 tokens can matter: EOS, and K others.
        best, token = allowed.topk(min(self.beam + 1, allowed.shape[1]), dim=1)  # [n, C]
        gain = best.double() if self.last else best.double() - normaliser
        step = gain.view(count, width, -1)  # [b, K, C]
        before = torch.where(live, 0.0, _DEAD).view_as(self.total) if self.last else self.total
        candidate = (before.unsqueeze(2) + step).nan_to_num(nan=_DEAD, posinf=_DEAD, neginf=_DEAD)
        choices = candidate.shape[2]
        score, place = candidate.flatten(1).topk(
            min(self.beam + width, width * choices), dim=1
        )  # sorted, [b, .]
        token = token.view(count, -1).gather(1, place)
        parent = torch.div(place, choices, rounding_mode="floor")  # [b, .], beam of origin

        ends = token == self.special.eos
        if self.leading_end:
            self.ended = ends[:, 0] & (score[:, 0] > _DEAD)
        else:
            self.ended = (ends | (score == _DEAD))[:, : self.beam].all(dim=1)
        self._finish(score[:, : self.beam], ends[:, : self.beam], parent, length)
        # The K best that go on, in order; the others and what is dead behind them.
        score = score.masked_fill(ends, _DEAD)
        kept, rank = score.topk(min(self.beam, score.shape[1]), dim=1)
        token, parent = token.gather(1, rank), parent.gather(1, rank)
        missing = self.beam - kept.shape[1]
        if missing:  # fewer extensions than beams: fill with dead copies
            kept = torch.cat([kept, kept.new_full((count, missing), _DEAD)], dim=1)
            token = torch.cat([token, token[:, :1].expand(-1, missing)], dim=1)
            parent = torch.cat([parent, parent[:, :1].expand(-1, missing)], dim=1)
        self._advance(kept, token, parent, width)

    def _advance(self, kept: Tensor, token: Tensor, parent: Tensor, width: int) -> None:
        """Make the chosen extensions, [b, K] each, the open hypotheses."""
        count = parent.shape[0]
        history = self.history.gather(1, parent.unsqueeze(2).expand(-1, -1, self.history.shape[2]))
        self.history = torch.cat([history, token.unsqueeze(2)], dim=2)
        self.total, self.current = kept, token.flatten()
        if width == self.beam:
            first = torch.arange(count, device=self.device)[:, None] * width
            self.state = self.state.reorder((first + parent).flatten())
        else:  # after the first step, whose single row is every beam's parent
            self.state = self.state.repeat(self.beam)

    def _finish(self, score: Tensor, ends: Tensor, parent: Tensor, length: int) -> None:
        """Record the new finished hypotheses of each source that are among its best ones."""
        penalised = (score / length_penalty_divisor(length, self.alpha)).masked_fill(~ends, _DEAD)
        better = penalised.amax(dim=1) > self.scores[self.sources, -1]
        if self.leading_end:
            better |= self.ended
        better = better.nonzero().squeeze(1)
        if better.shape[0] == 0:
            return
        history = self.history[better].gather(
            1, parent[better, : penalised.shape[1], None].expand(-1, -1, length - 1)
        )
        shape = (*history.shape[:2], self.steps)
        tokens = torch.full(shape, self.special.pad, dtype=torch.int64, device=self.device)
        tokens[:, :, : length - 1] = history
        tokens[:, :, length - 1] = self.special.eos
        self._record(self.sources[better], tokens, penalised[better], length, self.ended[better])

    def _record(self, where: Tensor, tokens: Tensor, scores: Tensor, length: int, leads: Tensor) -> None:
        """Keep the R best of what the sources `where` [c] have and of new ones, [c, m, T] and [c, m]; equals stay in order.

        Where lengths are not compared the first of the new ones stands first if it `leads`, [c].
        """
        every = torch.cat([self.scores[where], scores], dim=1)
        order = every.clone()
        if self.leading_end:
            order[:, self.best].masked_fill_(leads, math.inf)
        rank = order.argsort(dim=1, descending=True, stable=True)[:, : self.best]
        lengths = torch.cat([self.lengths[where], (scores > _DEAD).long() * length], dim=1)
        texts = torch.cat([self.tokens[where], tokens], dim=1)
        self.scores[where] = every.gather(1, rank)
        self.lengths[where] = lengths.gather(1, rank)
        self.tokens[where] = texts.gather(1, rank[:, :, None].expand(-1, -1, self.steps))

    def _close(self, length: int) -> None:
        """Drop the sources that are done; at its limit one with too few finished hypotheses gives its best open ones."""
        finished = self.scores[self.sources, -1]  # the worst that is kept
        leading = self.total.amax(dim=1)
        at_limit = self.limits <= length
        # A log-probability only falls, and the divisor is monotone in the length: the best a hypothesis can
        # still reach lies at one end of the lengths left.
        soon = leading / length_penalty_divisor(length + 1, self.alpha)
        late = leading / length_penalty_divisor(self.limits.double(), self.alpha)
        surpassed = self.ended if self.last else torch.maximum(soon, late) <= finished
        done = at_limit | surpassed | (leading == _DEAD)

        unfinished = (at_limit & (finished == _DEAD) & (leading > _DEAD)).nonzero().squeeze(1)
        if unfinished.shape[0]:
            self._fill(unfinished, length)

        keep = (~done).nonzero().squeeze(1)
        if keep.shape[0] == done.shape[0]:
            return
        self.sources, self.limits = self.sources[keep], self.limits[keep]
        self.total, self.history = self.total[keep], self.history[keep]
        self.current = self.current.view(done.shape[0], -1)[keep].flatten()
        if keep.shape[0]:
            self.state = self.state.select_sources(keep)

    def _fill(self, unfinished: Tensor, length: int) -> None:
        """Put the best open hypotheses of some open sources, [c], behind their finished ones."""
        where = self.sources[unfinished]
        scores, leader = self.total[unfinished].sort(dim=1, descending=True, stable=True)
        scores, leader = scores[:, : self.best], leader[:, : self.best]
        kept = (self.lengths[where] > 0).sum(dim=1)  # [c]
        for place in range(scores.shape[1]):
            slot = kept + place
            free = ((slot < self.best) & (scores[:, place] > _DEAD)).nonzero().squeeze(1)
            row, column = where[free], slot[free]
            self.tokens[row, column, :length] = self.history[unfinished[free], leader[free, place]]
            self.lengths[row, column] = length
            self.scores[row, column] = scores[free, place] / length_penalty_divisor(length, self.alpha)


@contextmanager
def _evaluating(model: object) -> Iterator[None]:
    """Evaluation mode for the time of a search, each submodule put back as it was."""
    training = [module for inner in inner_modules(model) for module in inner.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
