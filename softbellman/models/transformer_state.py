"""What a Transformer carries along: the encoded source, its keys and values, and those of the prefix.

Notation: B sources, N = B*K rows (K consecutive rows belong to one source), S source positions, t steps so far, D width,
L layers, h heads, d = D / h.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from softbellman.models.records import repeat_rows
from softbellman.models.transformer_layers import KeysValues


class TransformerMemory(NamedTuple):
    """An encoded batch of sources."""

    states: Tensor  # [B, S, D]
    mask: Tensor  # bool [B, S], True at tokens

    def detach(self) -> TransformerMemory:
        """The same numbers without their graph."""
        return TransformerMemory(self.states.detach(), self.mask)


class SourceKeys(NamedTuple):
    """Keys and values of the sources in every layer of the decoder, made once and never again while decoding."""

    layers: tuple[KeysValues, ...]  # L pairs of [B, h, S, d]
    mask: Tensor  # bool [B, S]

    def select(self, index: Tensor) -> SourceKeys:
        """Take the sources `index` [M]."""
        return SourceKeys(_taken(self.layers, index), self.mask.index_select(0, index))


class TransformerState(NamedTuple):
    """The decoder between two steps. The keys of source b serve the rows b*K .. b*K+K-1."""

    memory: SourceKeys  # B sources
    past: tuple[KeysValues, ...]  # L pairs of [N, h, t, d]

    @property
    def steps(self) -> int:
        """Tokens read so far, t."""
        return self.past[0][0].shape[2]

    @property
    def rows_per_source(self) -> int:
        """K = N / B."""
        return self.past[0][0].shape[0] // max(self.memory.mask.shape[0], 1)

    def repeat(self, count: int) -> TransformerState:
        """Repeat every row `count` times: N -> N*count. The keys of the source are shared, not copied."""
        past = tuple((repeat_rows(keys, count), repeat_rows(values, count)) for keys, values in self.past)
        return TransformerState(self.memory, past)

    def reorder(self, index: Tensor) -> TransformerState:
        """Take the rows `index` [N] where rows stay with their source (beams): the memory is left alone."""
        return TransformerState(self.memory, _taken(self.past, index))

    def select(self, index: Tensor) -> TransformerState:
        """Take any rows `index` [M]. Afterwards every row has its own copy of the memory (K = 1)."""
        sources = torch.div(index, self.rows_per_source, rounding_mode="floor")
        return TransformerState(self.memory.select(sources), _taken(self.past, index))

    def select_sources(self, index: Tensor) -> TransformerState:
        """Take the sources `index` [M] with all K rows of each: N -> M*K."""
        count = self.rows_per_source
        rows = (
            index[:, None] * count + torch.arange(count, device=index.device)
        ).flatten()  # (M, K) -> (M*K)
        return TransformerState(self.memory.select(index), _taken(self.past, rows))


def _taken(layers: tuple[KeysValues, ...], index: Tensor) -> tuple[KeysValues, ...]:
    return tuple((keys.index_select(0, index), values.index_select(0, index)) for keys, values in layers)
