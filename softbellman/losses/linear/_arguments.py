"""What every linear operator accepts: a head (hidden, weight, bias), chunk sizes, reductions, autocast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from softbellman.core.checks import check_choice, check_rows
from softbellman.losses.linear._donation import offer
from softbellman.losses.linear._head import wanted_gradients

REDUCTIONS = ("none", "sum", "mean")


class HeadArguments(NamedTuple):
    """Hidden states [..., H], weight [V, H] and bias [V] of a head, checked and in one type."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None

    def detach(self) -> HeadArguments:
        bias = None if self.bias is None else self.bias.detach()
        return HeadArguments(self.hidden.detach(), self.weight.detach(), bias)


def check_head(hidden: Tensor, weight: Tensor, bias: Tensor | None, *, prefix: str = "") -> HeadArguments:
    """A floating hidden [..., H], weight [V, H] and bias None or [V], of one dtype on one device.

    Under autocast they are cast as those of `torch.nn.functional.linear` are.
    """
    names = [f"{prefix}{name}" for name in ("hidden", "weight", "bias")]
    check_rows(names[0], hidden)
    check_rows(names[1], weight, dimensions=2)
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = _cast(hidden, dtype), _cast(weight, dtype)
        bias = _cast(bias, dtype) if isinstance(bias, Tensor) else bias
    if weight.shape[1] != hidden.shape[-1]:
        raise ValueError(
            f"{names[1]} must have shape [V, {hidden.shape[-1]}] like the last dimension of {names[0]}, "
            f"got {tuple(weight.shape)}"
        )
    if weight.shape[0] == 0:
        raise ValueError(f"{names[1]} must have at least one row, got shape {tuple(weight.shape)}")
    check_like(names[1], weight, names[0], hidden)
    if bias is not None:
        if not isinstance(bias, Tensor):
            raise TypeError(f"{names[2]} must be a tensor or None, got {type(bias).__name__}")
        if bias.shape != weight.shape[:1]:
            raise ValueError(f"{names[2]} must have shape {tuple(weight.shape[:1])}, got {tuple(bias.shape)}")
        check_like(names[2], bias, names[0], hidden)
    return HeadArguments(hidden, weight, bias)


def check_second_head(first: HeadArguments, second: HeadArguments) -> None:
    """The head of q beside that of the policy: as many rows, one vocabulary, one dtype, one device."""
    if second.hidden.shape[:-1] != first.hidden.shape[:-1]:
        raise ValueError(
            f"q_hidden must have the leading shape of hidden, {tuple(first.hidden.shape[:-1])}, "
            f"got {tuple(second.hidden.shape)}"
        )
    if second.weight.shape[0] != first.weight.shape[0]:
        raise ValueError(
            f"q_weight must have the {first.weight.shape[0]} rows of weight, got {second.weight.shape[0]}"
        )
    check_like("q_hidden", second.hidden, "hidden", first.hidden)


def check_like(name: str, tensor: Tensor, like_name: str, like: Tensor) -> None:
    """The dtype and device of another tensor."""
    if tensor.dtype != like.dtype:
        raise TypeError(f"{name} must have the dtype of {like_name}, {like.dtype}, got {tensor.dtype}")
    if tensor.device != like.device:
        raise ValueError(f"{name} must be on the device of {like_name}, {like.device}, got {tensor.device}")


def check_chunk_rows(chunk_rows: int | None) -> int:
    """The operators' own form of `chunk_rows`: 0 for the automatic choice."""
    if chunk_rows is None:
        return 0
    if isinstance(chunk_rows, (bool, float, str, Tensor)):
        raise TypeError(f"chunk_rows must be an int or None, got {type(chunk_rows).__name__}")
    if chunk_rows < 1:
        raise ValueError(f"chunk_rows must be at least 1, got {chunk_rows}")
    return chunk_rows


def check_reduction(reduction: str, head: HeadArguments) -> int:
    """The gradients that the forward pass takes along: none where the rows are not reduced."""
    check_choice("reduction", reduction, REDUCTIONS)
    return 0 if reduction == "none" else wanted_gradients(*head)


def reduced(taken: Sequence[Tensor], reduction: str, hidden: Tensor, mask: Tensor | None) -> Tensor:
    """The sum of the rows' losses, or their mean over the real rows (0 where there is none).

    `taken` are the sum and the gradients that an operator took along, which the backward pass may write over.
    """
    total, *gradients = taken
    offer(total, gradients)
    if reduction == "sum":
        return total
    if mask is None:
        return total / max(hidden.shape[:-1].numel(), 1)
    return total / mask.sum().clamp(min=1)


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """What autocast does to an argument: float64 stays."""
    return tensor.to(dtype) if tensor.is_floating_point() and tensor.dtype != torch.float64 else tensor
