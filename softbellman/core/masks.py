"""Masks as kernels read them: bool. Integers 0 and 1 become bool; others are refused where that costs no waiting."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from softbellman.core.operator import register


def boolean_mask(name: str, mask: Tensor, meaning: str = "real token") -> Tensor:
    """A bool tensor as it is, integers 0 and 1 as bool; on a GPU, where to look would synchronize, all but 0 is True."""
    if mask.dtype == torch.bool:
        return mask
    if mask.is_floating_point() or mask.is_complex() or mask.is_quantized:
        raise TypeError(
            f"{name} must be a bool tensor or hold integers 0 and 1 (True = {meaning}), got {mask.dtype}"
        )
    converted: Tensor = _mask_of_integers(mask, name)
    return converted


def _convert(mask: Tensor, name: str) -> Tensor:
    if not mask.is_cuda:
        wrong = (mask != 0) & (mask != 1)
        if bool(wrong.any()):
            raise ValueError(f"{name} must be bool or hold integers 0 and 1, got {int(mask[wrong][0])}")
    return mask != 0


def _shape(mask: Tensor, _: str) -> Any:
    return torch.empty_like(mask, dtype=torch.bool)


# An operator, so that compiled code looks at the integers when it runs.
_mask_of_integers = register(
    "mask_of_integers", "(Tensor mask, str name) -> Tensor", kernel=_convert, fake=_shape
)


def weighted(losses: Tensor, weights: Tensor) -> Tensor:
    """`losses * weights`, 0 where a weight is 0, whatever the loss."""
    return torch.where(weights == 0, 0.0, losses * weights)
