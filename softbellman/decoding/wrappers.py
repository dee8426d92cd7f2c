"""Models made of models: an ensemble, and a model that is kept from repeating itself.

Both have `begin` and `step`, so that `sample` and `beam_search` drive them as they drive any model.

Notation: B sources, K rows per source, N = B*K rows, t tokens produced so far, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from softbellman.data.vocabulary import RESERVED, SpecialTokens
from softbellman.decoding.stepwise import PrefixState, StepState, StepwiseModel, as_stepwise


class JointState(NamedTuple):
    """The states of several parts that have the same rows."""

    members: tuple[StepState, ...]

    def repeat(self, count: int) -> JointState:
        """Repeat every row `count` times in place of itself."""
        return JointState(tuple(member.repeat(count) for member in self.members))

    def reorder(self, index: Tensor) -> JointState:
        """Take the rows `index` [N], each from the source of the row it replaces."""
        return JointState(tuple(member.reorder(index) for member in self.members))

    def select(self, index: Tensor) -> JointState:
        """Take any rows `index` [M]; each counts as a source of its own afterwards."""
        return JointState(tuple(member.select(index) for member in self.members))

    def select_sources(self, index: Tensor) -> JointState:
        """Take the sources `index` [M] with all K rows of each."""
        return JointState(tuple(member.select_sources(index) for member in self.members))


class Ensemble:
    """Several models of one vocabulary as one: its probabilities are the mean of theirs, its logits their logarithms.

    Args:
        models: at least one; each has `begin` and `step`, or maps (source, prefix) to logits.
        forbidden: ids left out before probabilities are computed and averaged; they must be those that are never decoded.

    Raises:
        ValueError: no model; at a step, logits of different vocabularies.
    """

    def __init__(self, models: Sequence[nn.Module | StepwiseModel], *, forbidden: Sequence[int] = ()) -> None:
        if not models:
            raise ValueError("an ensemble needs at least one model, got none")
        self.parts = tuple(models)
        self._members = [as_stepwise(model) for model in models]
        self._forbidden = list(forbidden)

    def begin(self, source: Tensor) -> JointState:
        """The states of B rows before the start token, for `source` [B, ...]."""
        return JointState(tuple(member.begin(source) for member in self._members))

    def step(self, tokens: Tensor, state: JointState) -> tuple[Tensor, JointState]:
        """Read one token per row: [N] -> log of the mean probability [N, V], and the new states."""
        found = [member.step(tokens, own) for member, own in zip(self._members, state.members, strict=True)]
        sizes = sorted({logits.shape[1] for logits, _ in found})
        if len(sizes) > 1:
            raise ValueError(f"the models of an ensemble must share a vocabulary, got sizes {sizes}")
        logs = []
        for logits, _ in found:
            wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
            if self._forbidden:
                wide = wide.index_fill(1, torch.tensor(self._forbidden, device=wide.device), -math.inf)
            logs.append(wide.log_softmax(dim=1))
        mean = torch.stack(logs).logsumexp(dim=0) - math.log(len(logs))
        return mean, JointState(tuple(new for _, new in found))


class Unrepetitive:
    """A model that is kept from repeating itself, by rules on what a row has produced.

    Args:
        model: has `begin` and `step`, or maps (source, prefix) to logits.
        penalty: log-probabilities of tokens that the row has produced are multiplied by it, so that above 1 they become
            less probable. The idea is that of Keskar et al., "CTRL", 2019, who divide logits; log-probabilities do not
            depend on what is added to all logits. 1: none.
        block_ngrams: no sequence of so many tokens is produced twice, as in Paulus et al., "A Deep Reinforced Model for
            Abstractive Summarization", 2018. 0: none.
        special: the reserved ids.

    The rules leave the reserved ids alone: the end can always be produced.

    Raises:
        ValueError: a penalty below 1 or not finite, or a negative number.
    """

    def __init__(
        self,
        model: nn.Module | StepwiseModel,
        *,
        penalty: float = 1.0,
        block_ngrams: int = 0,
        special: SpecialTokens = RESERVED,
    ) -> None:
        if not 1.0 <= penalty < math.inf:
            raise ValueError(f"penalty must be at least 1 and finite, got {penalty:g}")
        if block_ngrams < 0:
            raise ValueError(f"block_ngrams must be at least 0, got {block_ngrams}")
        self.parts = (model,)
        self.penalty, self.block_ngrams = penalty, block_ngrams
        self._reserved = list(special.named)
        self._model = as_stepwise(model)

    def begin(self, source: Tensor) -> JointState:
        """The state of B rows before the start token, for `source` [B, ...]."""
        numbers = torch.arange(len(source), device=source.device)[:, None]  # stand for the sources
        return JointState((self._model.begin(source), PrefixState(numbers, numbers[:, :0])))

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, JointState]:
        """Read one token per row: [N] -> logits [N, V] under the rules, and the new state."""
        own, (numbers, read) = state.members
        logits, own = self._model.step(tokens, own)
        read = torch.cat([read, tokens[:, None]], dim=1)
        produced = read[:, 1:]  # without the start token: [N, t]
        if self.penalty > 1.0 and produced.shape[1]:
            logits = _penalise(logits, produced, self.penalty, self._reserved)
        if self.block_ngrams and produced.shape[1] >= self.block_ngrams:
            logits = _block(logits, produced, self.block_ngrams, self._reserved)
        return logits, JointState((own, PrefixState(numbers, read)))


def _penalise(logits: Tensor, produced: Tensor, penalty: float, reserved: list[int]) -> Tensor:
    """Log-probabilities [N, V] with those of the produced tokens [N, t] multiplied by the penalty."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logs = wide.log_softmax(dim=1)
    seen = torch.zeros_like(logs, dtype=torch.bool).scatter(1, produced, True)
    seen[:, _within(reserved, seen)] = False
    return torch.where(seen, logs * penalty, logs)


def _within(ids: list[int], rows: Tensor) -> list[int]:
    """The ids that a vocabulary of the rows' width has."""
    return [token for token in ids if token < rows.shape[1]]


def _block(logits: Tensor, produced: Tensor, size: int, reserved: list[int]) -> Tensor:
    """Logits [N, V] with -inf where a token would end a sequence of `size` tokens that is among `produced` [N, t] already."""
    windows = produced.unfold(1, size, 1)  # (N, t-size+1, size)
    suffix = produced[:, produced.shape[1] - size + 1 :]  # the last size-1 tokens
    again = (windows[:, :, :-1] == suffix[:, None]).all(dim=2)
    row, place = again.nonzero(as_tuple=True)
    blocked = torch.zeros_like(logits, dtype=torch.bool)
    blocked[row, windows[row, place, -1]] = True
    blocked[:, _within(reserved, blocked)] = False
    return logits.masked_fill(blocked, -math.inf)
