"""What each next token adds to the payoff of a prefix, and draws of which it decides a part.

Notation: B sources with one sequence each, n of them not ended, t tokens of a prefix, C candidates, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from softbellman.data import Batch
from softbellman.decoding.stepwise import StepState, StepwiseModel, as_stepwise
from softbellman.payoffs.payoff import Payoff


class Shares(NamedTuple):
    """Who says the next token; the three add up to 1.

    Attributes:
        own: the actor itself.
        payoff: the increments of the payoff, softmax(r / tau).
        reference: the reference, whose token at this position it is; behind its last one the end token.
    """

    own: float
    payoff: float
    reference: float


class Increments:
    """`r(w) = R(y_1..t w) - R(y_1..t)` for every next token w, of prefixes of a batch.

    A token that no reference has matches nothing, whichever it is: all of them add the same, which is found once. So C
    candidates are scored, the tokens of the references and the end token, and one that stands for the rest.

    Args:
        payoff: BLEU or ROUGE-L, paid by prefixes.
        batch: the sources with their references.
        early_end: what an end token loses before the reference's last token, in the unit of the payoff.
    """

    def __init__(self, payoff: Payoff, batch: Batch, *, early_end: float) -> None:
        self._payoff, self._batch, self._early_end = payoff, batch, early_end
        count = len(batch)
        references = batch.references.reshape(count, -1)  # (B, R, L) -> (B, R*L)
        length = batch.references.shape[2]
        real = torch.arange(length, device=references.device) < batch.reference_lengths[:, :, None]
        words = references.masked_fill(~real.reshape(count, -1), batch.special.eos)
        self.candidates = pad(words, (0, 1), value=batch.special.eos)  # [B, C]
        self._ends = batch.mask.sum(1) - 1  # [B], tokens of the references

    def after(self, prefix: Tensor, rows: Tensor) -> Tensor:
        """What the candidates and, last, any other token add to prefixes `[n, t]` of the sources `rows` [n]. `[n, C + 1]`."""
        batch, steps = self._batch, prefix.shape[1]
        last = pad(self.candidates[rows], (0, 1), value=batch.special.bos)  # no reference has the start token
        hypotheses = torch.cat(
            [prefix[:, None].expand(-1, last.shape[1], -1), last[:, :, None]], dim=2
        )  # [n, C + 1, t + 1]
        found = self._payoff.rewards(
            hypotheses.contiguous(),
            batch.references[rows],
            hypothesis_lengths=torch.full_like(last, steps + 1),
            reference_lengths=batch.reference_lengths[rows],
        )[:, :, -1]
        early = (last == batch.special.eos) & (self._ends[rows] > steps)[:, None]
        return found - self._early_end * early

    def spread(self, found: Tensor, rows: Tensor, forbidden: Tensor) -> Tensor:
        """`after` as values of all tokens, `-inf` where they are forbidden. `[n, C + 1]` -> `[n, V]`."""
        values = found[:, -1:].repeat(1, len(forbidden)).scatter(1, self.candidates[rows], found[:, :-1])
        return values.masked_fill(forbidden, -torch.inf)


class InterpolatedState(NamedTuple):
    """The actor's state of n rows, the sources that these are, and what they have read so far."""

    inner: StepState
    rows: Tensor  # [n]
    prefix: Tensor  # [n, t + 1], the start token first

    def repeat(self, count: int) -> InterpolatedState:
        """Repeat every row `count` times in place of itself."""
        rows, prefix = (part.repeat_interleave(count, dim=0) for part in (self.rows, self.prefix))
        return InterpolatedState(self.inner.repeat(count), rows, prefix)

    def reorder(self, index: Tensor) -> InterpolatedState:
        """Take the rows `index` [N], each from the source of the row it replaces."""
        return InterpolatedState(self.inner.reorder(index), self.rows[index], self.prefix[index])

    def select(self, index: Tensor) -> InterpolatedState:
        """Take any rows `index` [M]."""
        return InterpolatedState(self.inner.select(index), self.rows[index], self.prefix[index])

    def select_sources(self, index: Tensor) -> InterpolatedState:
        """Take the sources `index` [M]; a source has one row here."""
        return InterpolatedState(self.inner.select_sources(index), self.rows[index], self.prefix[index])


class InterpolatedModel:
    """What the actor, the increments of the payoff and the reference say together: a model to draw from.

    Its logits are the logarithm of `own pi + payoff softmax(r / tau) + reference [w = y*_t]`. The increments of every
    position are kept for the loss.

    Args:
        actor: reads the source.
        increments: of the batch that is drawn for.
        truth: the references' tokens, the end token behind them, `[B, T]`.
        shares: who says the next token.
        tau: temperature of the increments.
        forbidden: tokens that actor and increments never say, bool `[V]`; the reference may.
    """

    def __init__(
        self,
        actor: nn.Module,
        increments: Increments,
        truth: Tensor,
        *,
        shares: Shares,
        tau: float,
        forbidden: Tensor,
    ) -> None:
        self.parts = (actor,)
        self.kept: list[tuple[Tensor, Tensor]] = []
        """For every position the sources that had not ended and what `Increments.after` gave for them."""
        self._stepwise: StepwiseModel = as_stepwise(actor)
        self._increments, self._truth, self._shares = increments, truth, shares
        self._tau, self._forbidden = tau, forbidden

    def begin(self, source: Tensor) -> InterpolatedState:
        """The state of B rows before the start token."""
        rows = torch.arange(len(source), device=source.device)
        return InterpolatedState(self._stepwise.begin(source), rows, rows.new_empty(len(source), 0))

    def step(self, tokens: Tensor, state: InterpolatedState) -> tuple[Tensor, InterpolatedState]:
        """Read one token per row, the start token first, and return the logits of the next one, `[n, V]`."""
        logits, inner = self._stepwise.step(tokens, state.inner)
        rows, position = state.rows, state.prefix.shape[1]
        prefix = torch.cat([state.prefix, tokens[:, None]], dim=1)
        said = torch.full_like(logits, 0.0)
        if self._shares.own:
            said = logits.masked_fill(self._forbidden, -torch.inf).softmax(1).mul_(self._shares.own)
        if self._shares.payoff:
            found = self._increments.after(prefix[:, 1:], rows)
            self.kept.append((rows, found))
            values = self._increments.spread(found, rows, self._forbidden).to(said.dtype)
            said.add_((values / self._tau).softmax(1), alpha=self._shares.payoff)
        truth = self._truth[rows, position][:, None]
        said.scatter_add_(1, truth, said.new_full(truth.shape, self._shares.reference))
        return said.log_(), InterpolatedState(inner, rows, prefix)

    def increments(self, steps: int) -> Tensor:
        """All that was kept, 0 behind the end of a sequence. `[B, steps, C + 1]`."""
        width = self._increments.candidates.shape[1] + 1
        found = self.kept[0][1].new_zeros(len(self._truth), steps, width)
        for position, (rows, values) in enumerate(self.kept):
            found[rows, position] = values
        return found
