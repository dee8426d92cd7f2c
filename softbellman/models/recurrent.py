"""LSTM layers over whole sequences, with bfloat16 factors where asked for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from softbellman.models.projection import bfloat16_in_use


def run_lstm(
    lstm: nn.LSTM, inputs: Tensor, state: tuple[Tensor, Tensor], weights: Sequence[Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """States [N, T, H] of a batch-first LSTM and its last hidden and cell states [L, N, H].

    With bfloat16 factors the inputs, the states and the weights are rounded; gates and sums are float32 within the layer.

    Args:
        lstm: one direction; says its layers, dropout and mode.
        inputs: [N, T, D].
        state: hidden and cell before the first step, [L, N, H] each.
        weights: to be used in place of the layer's own, in torch's order.
    """
    own: list[Tensor] = list(lstm._flat_weights if weights is None else weights)  # type: ignore[arg-type]
    options = (True, lstm.num_layers, lstm.dropout, lstm.training, False, True)
    if bfloat16_in_use() != "all":
        return torch.lstm(inputs, state, own, *options)
    narrow = [part.to(torch.bfloat16) for part in (inputs, *state, *own)]
    found = torch.lstm(narrow[0], (narrow[1], narrow[2]), narrow[3:], *options)
    states, hidden, cell = (part.to(inputs.dtype) for part in found)
    return states, hidden, cell
