"""The output layer itself: where a model has it, and its weight and bias on this process.

Notation: V vocabulary, H hidden units.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor


def transformers_model(model: Any) -> Any:
    """The model of transformers in a model of peft, or the model itself.

    Raises:
        TypeError: the model has no output layer that it tells.
    """
    unwrap = getattr(model, "get_base_model", None)
    found = unwrap() if callable(unwrap) else model
    if not callable(getattr(found, "get_output_embeddings", None)):
        raise TypeError(
            "model must be a model of transformers or of peft, "
            f"got {type(found).__name__}; pass the model inside a wrapper"
        )
    return found


def output_layer(model: Any) -> nn.Module:
    """The output layer of a model of transformers.

    Raises:
        ValueError: the model tells none, or hooks change what it computes.
    """
    layer = model.get_output_embeddings()
    if not isinstance(layer, nn.Module):
        raise ValueError(
            f"{type(model).__name__} tells no output layer by get_output_embeddings(), got {type(layer).__name__}"
        )
    return layer


def own_class(module: nn.Module) -> type:
    """A module's class without what `fully_shard` puts in front of it."""
    return next(kind for kind in type(module).__mro__ if not issubclass(kind, FSDPModule))


def full_name(module: nn.Module) -> str:
    """Module and name of a module's class, without what `fully_shard` puts in front of it."""
    kind = own_class(module)
    return f"{kind.__module__}.{kind.__qualname__}"


def check_unchanged(layer: nn.Module) -> None:
    """Raise ValueError where hooks or a replaced `forward` change what a layer computes."""
    if isinstance(layer, FSDPModule):  # its hooks gather the weight, as is done here
        return
    # What torch keeps hooks in has no public name; another torch without these names has nothing to look at.
    hooks = [
        *getattr(layer, "_forward_hooks", {}).values(),
        *getattr(layer, "_forward_pre_hooks", {}).values(),
    ]
    # Those of DeepSpeed gather a weight and give it back; reading the weight in a forward pass does so too.
    if "forward" in vars(layer) or not all(_module_of(hook).startswith("deepspeed.") for hook in hooks):
        raise ValueError(
            f"the output layer {type(layer).__name__} has forward hooks, which a Head does not run; remove them "
            "(offloading, tensor parallelism and casts are hooks)"
        )


def _module_of(hook: Any) -> str:
    return getattr(hook, "__module__", None) or ""


def linear_parts(layer: nn.Module, *, same_rows: bool) -> tuple[Tensor, Tensor | None]:
    """Weight `[V, H]` and bias `[V]` of a linear layer, gathered where they are sharded.

    Raises:
        TypeError: the layer is not linear, or its weight is quantised.
        ValueError: the weight is sharded and cannot be gathered here.
    """
    if own_class(layer) is not nn.Linear:
        raise TypeError(
            f"the output layer must be torch.nn.Linear or peft's LoRA layer around one, got {full_name(layer)}; "
            "load the model with an output layer that is not quantised (llm_int8_skip_modules, modules_to_not_convert)"
        )
    check_unchanged(layer)
    if isinstance(layer, FSDPModule):
        layer.unshard()
    weight = _gathered("weight", layer.weight, same_rows=same_rows)
    return weight, None if layer.bias is None else _gathered("bias", layer.bias, same_rows=same_rows)


def _gathered(name: str, tensor: Any, *, same_rows: bool) -> Tensor:
    if isinstance(tensor, DTensor):
        if tensor.requires_grad and torch.is_grad_enabled() and not same_rows:
            raise ValueError(
                f"the {name} of the output layer is a DTensor {tensor.placements}, outside of the forward pass that "
                "gathers it; call fully_shard on softbellman.hf.WithLoss(model, loss), or pass same_rows=True where all "
                "processes of its mesh have the same hidden states (tensor parallelism)"
            )
        whole: Tensor = tensor.full_tensor()
        return whole
    if type(tensor) not in (nn.Parameter, Tensor):
        raise TypeError(
            f"the {name} of the output layer must be a plain tensor, got {type(tensor).__name__}; "
            "leave the output layer out of the quantisation"
        )
    if not tensor.is_floating_point():
        raise TypeError(
            f"the {name} of the output layer must be floating, got {tensor.dtype}; "
            "leave the output layer out of the quantisation"
        )
    if tensor.numel() == 0 or tensor.dim() != (2 if name == "weight" else 1):
        raise ValueError(
            f"the {name} of the output layer has shape {tuple(tensor.shape)}: it is sharded and not gathered here; "
            "compute the loss inside the wrapped forward pass, with softbellman.hf.WithLoss"
        )
    plain: Tensor = tensor
    return plain
