"""What the decoder carries along: the encoded source and the recurrent state.

Notation: B sources, N = B*K rows (K consecutive rows belong to one source), S source positions, L layers, H
hidden units, A attention units. Every tensor has its batch dimension first, so that rows are repeated,
selected and reordered in one way whatever the record holds.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad


def repeat_rows(tensor: Tensor, count: int) -> Tensor:
    """Repeat every row `count` times in place of itself: [B, ...] -> [B*count, ...]."""
    return tensor if count == 1 else tensor.repeat_interleave(count, dim=0)


class Memory(NamedTuple):
    """An encoded batch of sources, read by attention.

    `keys` are projected once, here, and never again while decoding; with dot-product attention they are
    `values`.
    """

    keys: Tensor  # [B, S, A]
    values: Tensor  # [B, S, H]
    bias: Tensor  # [B, S], added to the scores: 0 at tokens, a very negative number at padding
    hidden: Tensor  # [B, L, H], starts the decoder
    cell: Tensor  # [B, L, H]

    def detach(self) -> Memory:
        """The same numbers without their graph."""
        values = self.values.detach()
        keys = values if self.keys is self.values else self.keys.detach()
        return Memory(keys, values, self.bias.detach(), self.hidden.detach(), self.cell.detach())

    def repeat(self, count: int) -> Memory:
        """Repeat every source `count` times: B -> B*count."""
        values = repeat_rows(self.values, count)
        keys = values if self.keys is self.values else repeat_rows(self.keys, count)
        return Memory(
            keys,
            values,
            repeat_rows(self.bias, count),
            repeat_rows(self.hidden, count),
            repeat_rows(self.cell, count),
        )

    def select(self, index: Tensor) -> Memory:
        """Take the sources `index` [M] (int64), in that order."""
        values = self.values.index_select(0, index)
        keys = values if self.keys is self.values else self.keys.index_select(0, index)
        return Memory(
            keys,
            values,
            self.bias.index_select(0, index),
            self.hidden.index_select(0, index),
            self.cell.index_select(0, index),
        )

    def pad_positions(self, multiple: int) -> Memory:
        """Fill up with positions that are never attended to until their number is a multiple: [B, S, ...] -> [B, S', ...]."""
        extra = -self.bias.shape[1] % multiple
        if not extra:
            return self
        values = pad(self.values, (0, 0, 0, extra))
        keys = values if self.keys is self.values else pad(self.keys, (0, 0, 0, extra))
        # Below the bias at padding: a source without any token attends to that.
        bias = pad(self.bias, (0, extra), value=torch.finfo(self.bias.dtype).min)
        return self._replace(keys=keys, values=values, bias=bias)


class DecoderState(NamedTuple):
    """The decoder between two steps. The memory of source b serves the rows b*K .. b*K+K-1."""

    memory: Memory  # B sources
    hidden: Tensor  # [N, L, H]
    cell: Tensor  # [N, L, H]
    feed: Tensor | None  # [N, H], attention output of the previous step; None without input feeding

    @property
    def rows_per_source(self) -> int:
        """K = N / B."""
        return self.hidden.shape[0] // max(self.memory.values.shape[0], 1)

    def repeat(self, count: int) -> DecoderState:
        """Repeat every row `count` times: N -> N*count. The memory is shared, not copied."""
        feed = None if self.feed is None else repeat_rows(self.feed, count)
        return DecoderState(self.memory, repeat_rows(self.hidden, count), repeat_rows(self.cell, count), feed)

    def pad_positions(self, multiple: int) -> DecoderState:
        """Fill the memory up to a multiple of positions; what follows from the state stays the same."""
        return self._replace(memory=self.memory.pad_positions(multiple))

    def reorder(self, index: Tensor) -> DecoderState:
        """Take the rows `index` [N] where rows stay with their source (beams): the memory is left alone."""
        feed = None if self.feed is None else self.feed.index_select(0, index)
        return DecoderState(
            self.memory, self.hidden.index_select(0, index), self.cell.index_select(0, index), feed
        )

    def select(self, index: Tensor) -> DecoderState:
        """Take any rows `index` [M]. Afterwards every row has its own copy of the memory (K = 1)."""
        sources = torch.div(index, self.rows_per_source, rounding_mode="floor")
        return self.reorder(index)._replace(memory=self.memory.select(sources))

    def select_sources(self, index: Tensor) -> DecoderState:
        """Take the sources `index` [M] with all K rows of each: N -> M*K."""
        count = self.rows_per_source
        rows = (
            index[:, None] * count + torch.arange(count, device=index.device)
        ).flatten()  # (M, K) -> (M*K)
        return self.reorder(rows)._replace(memory=self.memory.select(index))
