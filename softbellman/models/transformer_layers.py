"""Layers of the Transformer: attention with several heads, feed-forward layers, positions, and how weights start.

Vaswani et al., "Attention Is All You Need", 2017, with the normalisation before each part instead of behind it (pre-norm,
Xiong et al., 2020). Scores, masks and softmax are torch's `scaled_dot_product_attention`.

Notation: N rows, B sources, K rows per source, T steps, S source positions, P computed positions, D width, h heads, d = D / h.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from softbellman.models.projection import bfloat16_in_use, multiply

KeysValues = tuple[Tensor, Tensor]
"""Keys and values of one attention, [N, h, T, d] each."""


class Layout(NamedTuple):
    """Which positions of [N, T] are computed: all, or those of `real` alone, so that padding costs nothing outside attention.

    Attributes:
        rows, steps: N and T.
        real: flat indices [P] into [N, T], in order; None: all.
    """

    rows: int
    steps: int
    real: Tensor | None = None

    @classmethod
    def of_mask(cls, mask: Tensor) -> Layout:
        """The True positions of a mask [N, T]. On other devices than the CPU all are computed: counting them would wait."""
        rows, steps = mask.shape
        if mask.device.type != "cpu":
            return cls(rows, steps)
        return cls(rows, steps, mask.flatten().nonzero().squeeze(1))

    def gather(self, padded: Tensor) -> Tensor:
        """[N, T, D] -> [P, D]."""
        flat = padded.flatten(0, 1)  # (N, T, D) -> (N*T, D)
        return flat if self.real is None else flat.index_select(0, self.real)

    def spread(self, packed: Tensor) -> Tensor:
        """[P, D] -> [N, T, D], 0 at the positions that are not computed."""
        if self.real is not None:
            whole = packed.new_zeros(self.rows * self.steps, packed.shape[1])
            packed = whole.index_copy(0, self.real, packed)
        return packed.view(self.rows, self.steps, -1)


class MultiHeadAttention(nn.Module):
    """softmax(q k^T / sqrt(d)) v for each of h heads, and a linear map of what they found side by side.

    Args:
        width: D.
        heads: h, a divisor of D.
        dropout: on the attention weights, in training.
    """

    def __init__(self, width: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))

    def remember(self, states: Tensor) -> KeysValues:
        """Keys and values of the states [N, T, D] that are attended to."""
        return self._split(dense(self.key, states)), self._split(dense(self.value, states))

    def forward(
        self, queries: Tensor, remembered: KeysValues, *, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """What the heads find for each query.

        Args:
            queries: [B, Q, D], states before the map to queries.
            remembered: keys and values, [B, h, S, d] each.
            mask: bool [B, S], True where a query may look; None: everywhere.
            causal: query t sees the positions up to t alone (S = Q).

        Returns:
            [B, Q, D], before the last linear map.
        """
        found = scaled_dot_product_attention(
            self._split(dense(self.query, queries)),
            *remembered,
            attn_mask=None if mask is None else mask[:, None, None, :],  # (B, S) -> (B, 1, 1, S)
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
        )
        return found.transpose(1, 2).flatten(2)  # (B, h, Q, d) -> (B, Q, D)

    def weights(self, queries: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor:
        """The mean over the heads of softmax(q k^T / sqrt(d)), without dropout.

        Args:
            queries: [B, Q, D], states before the map to queries.
            keys: [B, h, S, d].
            mask: bool [B, S], True where a query may look; None: everywhere.

        Returns:
            [B, Q, S], rows add up to 1.
        """
        asked = self._split(dense(self.query, queries))
        scores = asked @ keys.transpose(2, 3) / math.sqrt(keys.shape[3])  # [B, h, Q, S]
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], -torch.inf)
        return scores.softmax(-1).mean(1)

    def _split(self, states: Tensor) -> Tensor:
        rows, steps, _ = states.shape
        return states.view(rows, steps, self.heads, -1).transpose(1, 2)  # (N, T, D) -> (N, h, T, d)


class FeedForward(nn.Module):
    """W2 dropout(max(0, W1 x + b1)) + b2."""

    def __init__(self, width: int, inner: int, *, dropout: float) -> None:
        super().__init__()
        self.inner, self.output = nn.Linear(width, inner), nn.Linear(inner, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        return dense(self.output, self.dropout(dense(self.inner, states).relu()))


class EncoderLayer(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)), each addend after dropout."""

    def __init__(
        self, width: int, heads: int, inner: int, *, dropout: float, attention_dropout: float
    ) -> None:
        super().__init__()
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, heads, dropout=attention_dropout)
        self.feed_forward = FeedForward(width, inner, dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, layout: Layout, mask: Tensor) -> Tensor:
        """States [P, D] of a layout [B, S] whose real positions are those of the bool mask [B, S]."""
        whole = layout.spread(self.attention_norm(states))
        found = layout.gather(self.attention(whole, self.attention.remember(whole), mask=mask))
        states = states + self.dropout(dense(self.attention.output, found))
        added: Tensor = states + self.dropout(self.feed_forward(self.feed_forward_norm(states)))
        return added


class DecoderLayer(nn.Module):
    """Attention to the prefix, attention to the memory, feed-forward layer; each as in the encoder's layers."""

    def __init__(
        self, width: int, heads: int, inner: int, *, dropout: float, attention_dropout: float
    ) -> None:
        super().__init__()
        self.prefix_norm, self.memory_norm, self.feed_forward_norm = (nn.LayerNorm(width) for _ in range(3))
        self.prefix = MultiHeadAttention(width, heads, dropout=attention_dropout)
        self.memory = MultiHeadAttention(width, heads, dropout=attention_dropout)
        self.feed_forward = FeedForward(width, inner, dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        states: Tensor,
        layout: Layout,
        memory: KeysValues,
        mask: Tensor,
        past: KeysValues | None = None,
    ) -> tuple[Tensor, KeysValues]:
        """States of whole prefixes, or of one more step.

        Args:
            states: [P, D].
            layout: where they stand in [N, T]; with a past T = 1 and all are computed.
            memory: keys and values of the B sources, whose K rows stand behind each other.
            mask: bool [B, S], True where there is something to read.
            past: keys and values of the steps before; None: the prefix begins here.

        Returns:
            The states [P, D], and the keys and values of all steps so far.
        """
        whole = layout.spread(self.prefix_norm(states))
        seen = self.prefix.remember(whole)
        if past is not None:
            seen = torch.cat([past[0], seen[0]], dim=2), torch.cat([past[1], seen[1]], dim=2)
        found = layout.gather(self.prefix(whole, seen, causal=past is None))
        states = states + self.dropout(dense(self.prefix.output, found))

        queries = layout.spread(self.memory_norm(states))
        shared = queries.reshape(len(mask), -1, queries.shape[2])  # (B*K, T, D) -> (B, K*T, D)
        read = self.memory(shared, memory, mask=mask).view(queries.shape)
        states = states + self.dropout(dense(self.memory.output, layout.gather(read)))
        states = states + self.dropout(self.feed_forward(self.feed_forward_norm(states)))
        return states, seen


class Positions(nn.Module):
    """The vectors of sines and cosines that tell positions apart: no parameter, and no longest position.

    Of position p the numbers 2i and 2i + 1 are sin and cos of p / 10000^(2i / D).
    """

    _KEPT = 256
    table: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("table", _waves(torch.arange(self._KEPT), width).float(), persistent=False)

    def forward(self, start: int, steps: int) -> Tensor:
        """Of the positions from `start` on, [steps, D]."""
        if start + steps <= self._KEPT:
            return self.table[start : start + steps]
        place = torch.arange(start, start + steps, device=self.table.device)
        return _waves(place, self.width).to(self.table.dtype)


def _waves(place: Tensor, width: int) -> Tensor:
    """[steps] -> [steps, D], float64 and rounded to float32, as a table is kept."""
    exponent = torch.arange(0, width, 2, dtype=torch.float64, device=place.device) / width
    angle = place.double()[:, None] * torch.exp(-math.log(10_000.0) * exponent)
    waves = torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)  # (steps, D/2, 2) -> (steps, D)
    return waves.float().double()


def dense(layer: nn.Linear, inputs: Tensor) -> Tensor:
    """A linear layer, with bfloat16 factors where those of all layers are asked for: [..., D] -> [..., E]."""
    if bfloat16_in_use() != "all":
        return linear(inputs, layer.weight, layer.bias)
    return multiply(inputs, layer.weight) + layer.bias


@torch.no_grad()
def initialise(module: nn.Module, width: int) -> None:
    """Linear layers Xavier-uniform with biases 0, embeddings normal with variance 1 / D, norms the identity."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=width**-0.5)
