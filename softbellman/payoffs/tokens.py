"""What every operator on token ids checks of its sequences and their lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from softbellman.core import native


def check_tokens(name: str, tokens: Tensor, dimensions: Sequence[int], *, longest: int | None = None) -> None:
    """int64 token ids on the CPU or a CUDA device, of one of the given numbers of dimensions."""
    if not isinstance(tokens, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(tokens).__name__}")
    if tokens.dtype != torch.int64:
        raise TypeError(f"{name} must hold int64 token ids, got {tokens.dtype}")
    if not (tokens.is_cpu or tokens.is_cuda):
        raise ValueError(f"{name} must be on the CPU or a CUDA device, got {tokens.device}")
    if tokens.dim() not in dimensions:
        raise ValueError(
            f"{name} must have {' or '.join(map(str, dimensions))} dimensions, got shape {tuple(tokens.shape)}"
        )
    if longest is not None and tokens.shape[-1] > longest:
        raise ValueError(
            f"{name} must hold at most 2**{longest.bit_length() - 1} tokens in a row, got {tokens.shape[-1]}"
        )


def check_lengths(name: str, lengths: Tensor | None, tokens_name: str, tokens: Tensor) -> Tensor | None:
    """None, or one int64 or int32 length for each row of `tokens`; returned as int64."""
    if lengths is None:
        return None
    if not isinstance(lengths, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(lengths).__name__}")
    if lengths.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{name} must be int64 or int32, got {lengths.dtype}")
    if lengths.shape != tokens.shape[:-1]:
        raise ValueError(
            f"{name} must have shape {tuple(tokens.shape[:-1])}, that of {tokens_name} without its last "
            f"dimension, got {tuple(lengths.shape)}"
        )
    if lengths.device != tokens.device:
        raise ValueError(
            f"{name} must be on the device of {tokens_name}, {tokens.device}, got {lengths.device}"
        )
    return lengths.to(torch.int64)


def check_pair(hypotheses: Tensor, references: Tensor) -> None:
    """Hypotheses and references of as many sources on one device."""
    if references.shape[0] != hypotheses.shape[0]:
        raise ValueError(
            f"references must have {hypotheses.shape[0]} sources like hypotheses, got {references.shape[0]}"
        )
    if references.device != hypotheses.device:
        raise ValueError(
            f"references must be on the device of hypotheses, {hypotheses.device}, got {references.device}"
        )


def check_id(name: str, token: int | None, *, below: int | None = None, optional: bool = False) -> Any:
    """A token id, or None where that is allowed."""
    if optional and token is None:
        return None
    if isinstance(token, bool) or not isinstance(token, int):
        kind = "an int or None" if optional else "ints" if name == "special_ids" else "an int"
        raise TypeError(f"{name} must be {kind}, got {type(token).__name__}")
    if below is not None and not 0 <= token < below:
        raise ValueError(f"{name} must lie in [0, {below}), got {token}")
    return token


def refuse_invalid_lengths(name: str, lengths: Tensor | None, limit: int) -> None:
    """Lengths outside [0, limit], of CPU tensors; to look for them on a device would wait for it."""
    if lengths is None:
        return
    wrong = native.cpu.bleu_first_invalid_length(lengths.data_ptr(), lengths.numel(), limit)
    if wrong >= 0:
        raise ValueError(f"{name} must lie between 0 and {limit}, got {int(lengths.view(-1)[wrong])}")


def unit_stride(tokens: Tensor) -> Tensor:
    """The tokens with the elements of a row side by side."""
    return tokens if tokens.stride(-1) == 1 or tokens.shape[-1] <= 1 else tokens.contiguous()
