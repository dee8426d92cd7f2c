"""LoRA on an output layer, as columns: `W h + s B A h + ... = [W, B, ...] [h, s A h, ...]`.

Notation: V vocabulary, H hidden units, r rank of an adapter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor, nn

from softbellman.hf.layers import check_unchanged, full_name, linear_parts

_LORA = "peft.tuners.lora.layer.Linear"
_SAVED = "peft.utils.other.ModulesToSaveWrapper"
"""The layers that are read here. By name: peft is optional, and a compiled forward pass cannot import."""


class Columns(NamedTuple):
    """What an adapter adds: `inputs` `[..., r]` beside the hidden states, `weight` `[V, r]`, `bias` `[V]` or None."""

    inputs: Tensor
    weight: Tensor
    bias: Tensor | None


def without_adapter(layer: nn.Module) -> tuple[nn.Module, nn.Module | None]:
    """The layer that a layer of peft stands for, and peft's LoRA layer where its adapters add to it.

    Raises:
        TypeError: a layer of peft that is neither LoRA's `Linear` nor a copy that `modules_to_save` trains.
    """
    kind = full_name(layer)
    if not kind.startswith("peft."):
        return layer, None
    if kind == _SAVED:
        return without_adapter(_saved(layer))
    if kind != _LORA:
        raise TypeError(
            f"peft's {kind.rpartition('.')[2]} on the output layer is not expressed as a Head; merge the adapter "
            "(model.merge_and_unload()), or leave the output layer out of its targets"
        )
    check_unchanged(layer)
    asked: Any = layer
    if asked.disable_adapters:
        if asked.merged:  # as peft's own forward pass does
            asked.unmerge()
        return asked.get_base_layer(), None
    return asked.get_base_layer(), None if asked.merged else layer


def _saved(wrapper: Any) -> nn.Module:
    check_unchanged(wrapper)
    active = [name for name in wrapper.active_adapters if name in wrapper.modules_to_save]
    trained: nn.Module = wrapper.original_module
    if active and not wrapper.disable_adapters:
        trained = wrapper.modules_to_save[active[0]]
    return trained


def adapter_columns(layer: Any, hidden: Tensor, *, same_rows: bool) -> Iterator[Columns]:
    """What the active adapters of peft's LoRA layer add, dropout included where the layer trains.

    Args:
        layer: `peft.tuners.lora.Linear`, not merged.
        hidden: `[..., H]`, as the output layer reads them.
        same_rows: as of `head_of`.

    Raises:
        ValueError: an adapter is not the sum `W h + s B A h` (DoRA and other variants).
    """
    for name in layer.active_adapters:
        if name not in layer.lora_A:
            continue
        if name in layer.lora_variant:
            raise ValueError(
                f"adapter {name!r} on the output layer is a variant of LoRA, {type(layer.lora_variant[name]).__name__} "
                "(DoRA, aLoRA and others), which a Head does not express; merge it or use plain LoRA there"
            )
        weight, bias = linear_parts(layer.lora_B[name], same_rows=same_rows)
        first, _ = linear_parts(layer.lora_A[name], same_rows=same_rows)
        dropped = layer.lora_dropout[name](hidden.to(first.dtype))
        scale = layer.scaling[name]
        inputs = nn.functional.linear(dropped, first) * scale
        yield Columns(inputs, weight, None if bias is None else bias * scale)
