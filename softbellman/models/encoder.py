"""Bidirectional LSTM encoder for right-padded batches.

Notation: B sources, S positions, E embedding size, H output size (both directions together), L layers.

Both directions run on the plain padded tensor: no packing, no sorting, no copy of the lengths to the host.
- The backward direction reads every row reversed within its own length, so that the padding comes last in
  both scans.
- At padding one more input feature is 1. Its fixed weights close the input gate and open the forget gate, so
  the cell passes through unchanged and the last cell of the scan is the cell after the last real token.
Measured on two CPU threads (50 x 14 tokens, 2 x 128 units), forward / forward and backward: 3.1 / 13 ms,
against 4.4 / 16 ms for a packed bidirectional LSTM.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from softbellman.models.recurrent import run_lstm

_CLOSED = -1e4  # sigmoid(-1e4) = 0 and sigmoid(1e4) = 1 in every floating type


class Encoded(NamedTuple):
    """Both directions concatenated, forward first."""

    states: Tensor  # [B, S, H]; at padding finite and meaningless
    hidden: Tensor  # [B, L, H], final states
    cell: Tensor  # [B, L, H]


class BidirectionalEncoder(nn.Module):
    """L layers of two LSTMs with H/2 units each; the final states of both are concatenated."""

    def __init__(self, embedding: int, hidden: int, *, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        if hidden % 2:
            raise ValueError(f"hidden must be even (half of it for each direction), got {hidden}")
        sizes = [embedding] + [hidden] * (layers - 1)
        self.forwards = nn.ModuleList(nn.LSTM(size, hidden // 2, batch_first=True) for size in sizes)
        self.backwards = nn.ModuleList(nn.LSTM(size, hidden // 2, batch_first=True) for size in sizes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, embedded: Tensor, lengths: Tensor) -> Encoded:
        """Encode `embedded` [B, S, E]; row b has `lengths[b]` (int64 [B]) real positions, then padding."""
        rows, steps, _ = embedded.shape
        position = torch.arange(steps, device=embedded.device)
        padding = position >= lengths[:, None]  # [B, S]
        mirrored = torch.where(padding, position, lengths[:, None] - 1 - position)  # its own inverse
        first = torch.arange(rows, device=embedded.device)[:, None] * steps
        reversal = (first + mirrored).flatten()  # into [B*S]
        last = first[:, 0] + (lengths - 1).clamp(min=0)  # into [B*S]
        flag = padding.to(embedded.dtype).unsqueeze(2)

        inputs, hidden, cell = embedded, [], []
        for layer, (ahead, back) in enumerate(zip(self.forwards, self.backwards, strict=True)):
            if layer:
                inputs = self.dropout(inputs)
            ahead_states, ahead_cell = _scan(ahead, inputs, flag)
            back_states, back_cell = _scan(back, _permute(inputs, reversal), flag)
            final = [states.flatten(0, 1).index_select(0, last) for states in (ahead_states, back_states)]
            hidden.append(torch.cat(final, dim=1))
            cell.append(torch.cat([ahead_cell, back_cell], dim=1))
            inputs = torch.cat([ahead_states, _permute(back_states, reversal)], dim=2)
        return Encoded(inputs, torch.stack(hidden, dim=1), torch.stack(cell, dim=1))


def _permute(states: Tensor, index: Tensor) -> Tensor:
    """Reorder the positions of `states` [B, S, D] by `index` [B*S] into its flattened positions."""
    return states.flatten(0, 1).index_select(0, index).view(states.shape)


def _scan(lstm: nn.Module, inputs: Tensor, flag: Tensor) -> tuple[Tensor, Tensor]:
    """One direction over [B, S, D] with padding flags [B, S, 1]: states [B, S, H/2] and cell [B, H/2]."""
    assert isinstance(lstm, nn.LSTM)
    half = lstm.hidden_size
    gate = inputs.new_zeros(4 * half, 1)  # torch's order of gates: input, forget, cell, output
    gate[:half] = _CLOSED
    gate[half : 2 * half] = -_CLOSED
    input_weight, *others = (
        getattr(lstm, f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    weights: list[Tensor] = [torch.cat([input_weight, gate], dim=1), *others]
    zero = inputs.new_zeros(1, inputs.shape[0], half)
    states, _, cell = run_lstm(lstm, torch.cat([inputs, flag], dim=2), (zero, zero), weights)
    return states, cell[0]
