"""LSTM layers over whole sequences and for a step, with bfloat16 factors where asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

from softbellman.models.projection import bfloat16_in_use, multiply


def run_lstm(
    lstm: nn.LSTM, inputs: Tensor, state: tuple[Tensor, Tensor], weights: Sequence[Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """States [N, T, H] of a batch-first LSTM and its last hidden and cell states [L, N, H].

    With bfloat16 factors the inputs, the states and the weights are rounded; gates and sums are float32 within the layer.
    Under autocast the layer is float32 on a processor that has no bfloat16 form of it.

    Args:
        lstm: one direction; says its layers, dropout and mode.
        inputs: [N, T, D].
        state: hidden and cell before the first step, [L, N, H] each.
        weights: to be used in place of the layer's own, in torch's order.
    """
    own: list[Tensor] = list(lstm._flat_weights if weights is None else weights)  # type: ignore[arg-type]
    options = (True, lstm.num_layers, lstm.dropout, lstm.training, False, True)
    if bfloat16_in_use() != "all":
        on_cpu = inputs.device.type == "cpu"
        if not (on_cpu and torch.is_autocast_enabled("cpu")) or autocast_has_lstm():
            return torch.lstm(inputs, state, own, *options)
        hidden, cell = (part.to(own[0].dtype) for part in state)
        with torch.autocast("cpu", enabled=False):
            return torch.lstm(inputs.to(own[0].dtype), (hidden, cell), own, *options)
    narrow = [part.to(torch.bfloat16) for part in (inputs, *state, *own)]
    found = torch.lstm(narrow[0], (narrow[1], narrow[2]), narrow[3:], *options)
    states, hidden, cell = (part.to(inputs.dtype) for part in found)
    return states, hidden, cell


@cache
def autocast_has_lstm() -> bool:
    """Whether a layer runs under autocast to bfloat16 on this CPU.

    Without AVX-512 it does not: oneDNN has no bfloat16 LSTM there, and torch calls it all the same.
    """
    state, weight, bias = torch.zeros(1, 1, 1), torch.zeros(4, 1), torch.zeros(4)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            torch.lstm(state, (state, state), [weight, weight, bias, bias], True, 1, 0.0, False, False, True)
    except RuntimeError:
        return False
    return True


def step_lstm(
    lstm: nn.LSTM, layer: int, inputs: Tensor, hidden: Tensor, cell: Tensor
) -> tuple[Tensor, Tensor]:
    """One step of one layer: inputs [N, D], hidden and cell [N, H] -> the next two."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    of_inputs, of_hidden, *biases = (getattr(lstm, f"{name}_l{layer}") for name in names)
    if bfloat16_in_use() != "all":
        return torch.lstm_cell(inputs, (hidden, cell), of_inputs, of_hidden, *biases)
    gates = multiply(inputs, of_inputs) + multiply(hidden, of_hidden) + (biases[0] + biases[1])
    enter, forget, candidate, leave = gates.chunk(4, dim=1)
    cell = forget.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
    return leave.sigmoid() * cell.tanh(), cell
