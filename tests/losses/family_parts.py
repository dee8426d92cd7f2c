"""What the families of operators share: random arguments, and parts of bounds."""

from __future__ import annotations

import torch
from torch import Tensor

from losses.harness import Arguments, finite


def random_numbers(shape: tuple[int, ...], generator: torch.Generator, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def random_ids(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randint(0, shape[-1], shape[:-1], generator=generator)


def largest(values: Tensor) -> Tensor:
    return finite(values).abs().amax(-1, keepdim=True)


def column(values: Tensor) -> Tensor:
    return values.unsqueeze(-1)


def one_hot(arguments: Arguments, name: str, like: Tensor) -> Tensor:
    ids = arguments[name]
    assert isinstance(ids, Tensor)
    mask = arguments.get("mask")
    if isinstance(mask, Tensor):
        ids = ids.masked_fill(~mask, 0)
    return torch.nn.functional.one_hot(ids, like.shape[-1]).to(like.dtype)


def unmasked(arguments: Arguments, *names: str) -> list[Tensor]:
    mask = arguments.get("mask")
    values = []
    for name in names:
        value = arguments[name]
        assert isinstance(value, Tensor)
        if isinstance(mask, Tensor) and value.is_floating_point():
            value = value.masked_fill(~(column(mask) if value.dim() > mask.dim() else mask), 0.0)
        values.append(value)
    return values


def logits_and_values(shape: tuple[int, ...], generator: torch.Generator) -> Arguments:
    return {
        "logits": random_numbers(shape, generator),
        "q": random_numbers(shape, generator),
        "tau": 0.3,
        "mask": None,
    }
