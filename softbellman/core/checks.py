"""What an operator accepts, in one place. A refusal is one sentence naming the argument and what was seen.

Nothing here reads the contents of a tensor on a device, so no check waits for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from softbellman.core.masks import boolean_mask

DTYPE_CODES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
SMALLEST_TEMPERATURE, LARGEST_TEMPERATURE = 1e-30, 1e30  # beyond them 1 / tau or tau is no float32
_INFINITY = float("inf")


class RowsLike(Protocol):
    """What a check needs to know of rows `[..., V]`, stored or made by a head."""

    @property
    def shape(self) -> torch.Size: ...
    @property
    def device(self) -> torch.device: ...


def statistic_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type of every per-row result: float64 for float64 rows, float32 for everything narrower."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def check_dense(name: str, tensor: Tensor) -> None:
    """A tensor whose numbers lie in memory at strides: neither sparse nor nested."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
    if tensor.is_nested or tensor.layout is not torch.strided:
        raise TypeError(
            f"{name} must be a dense tensor, got {'a nested one' if tensor.is_nested else tensor.layout}"
        )


def check_rows(name: str, tensor: Tensor, *, dimensions: int | None = None) -> None:
    """A floating [..., V] tensor with V >= 1 on the CPU or a CUDA device."""
    check_dense(name, tensor)
    if tensor.dtype not in DTYPE_CODES:
        raise TypeError(f"{name} must be float32, float64, bfloat16 or float16, got {tensor.dtype}")
    if not (tensor.is_cpu or tensor.is_cuda):
        raise ValueError(f"{name} must be on the CPU or a CUDA device, got {tensor.device}")
    if tensor.dim() == 0 or (dimensions is not None and tensor.dim() != dimensions):
        expected = "at least one dimension" if dimensions is None else f"{dimensions} dimensions"
        raise ValueError(f"{name} must have {expected}, got shape {tuple(tensor.shape)}")
    if tensor.shape[-1] == 0:
        raise ValueError(f"{name} must have a last dimension of at least 1, got shape {tuple(tensor.shape)}")


def check_ids(name: str, tensor: Tensor, rows_name: str, rows: RowsLike) -> None:
    """One int64 token id for each row of `rows`."""
    _check_one_per_row(name, tensor, rows_name, rows)
    if tensor.dtype != torch.int64:
        raise TypeError(f"{name} must hold int64 token ids, got {tensor.dtype}")


def check_numbers(name: str, tensor: Tensor, rows_name: str, rows: RowsLike) -> None:
    """One floating number for each row of `rows`."""
    _check_one_per_row(name, tensor, rows_name, rows)
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be a floating tensor, got {tensor.dtype}")


def check_mask(
    mask: Tensor | None, rows_name: str, rows: RowsLike, *, name: str = "mask", meaning: str = "real token"
) -> Tensor | None:
    """None, or one bool for each row of `rows`, integers 0 and 1 made bool."""
    if mask is None:
        return None
    _check_one_per_row(name, mask, rows_name, rows)
    return boolean_mask(name, mask, meaning)


def check_vocabulary_vector(
    name: str, tensor: Tensor | None, rows_name: str, rows: RowsLike, *, boolean: bool
) -> None:
    """None, or a vector `[V]` over the vocabulary of `rows`."""
    if tensor is None:
        return
    check_dense(name, tensor)
    if tensor.shape != rows.shape[-1:]:
        raise ValueError(f"{name} must have shape {tuple(rows.shape[-1:])}, got {tuple(tensor.shape)}")
    if boolean and tensor.dtype != torch.bool:
        raise TypeError(f"{name} must be a bool tensor, got {tensor.dtype}")
    if not boolean and not tensor.is_floating_point():
        raise TypeError(f"{name} must be a floating tensor, got {tensor.dtype}")
    if tensor.device != rows.device:
        raise _device_error(name, tensor, rows_name, rows)


def check_positive(name: str, value: float) -> None:
    """A finite Python number above 0."""
    check_number(name, value)
    if not 0.0 < value < _INFINITY:
        raise ValueError(f"{name} must be a finite number above 0, got {value}")


def check_not_negative(name: str, value: float) -> None:
    """A finite Python number of at least 0."""
    check_number(name, value)
    if not 0.0 <= value < _INFINITY:
        raise ValueError(f"{name} must be a finite number of at least 0, got {value}")


def check_temperature(name: str, value: float, *, zero: bool = False) -> None:
    """A Python number whose inverse is one too: between 1e-30 and 1e30, or 0 where `zero` allows it."""
    check_number(name, value)
    if zero and value == 0.0:
        return
    if not SMALLEST_TEMPERATURE <= value <= LARGEST_TEMPERATURE:
        allowed = "0 or between" if zero else "between"
        raise ValueError(f"{name} must be {allowed} 1e-30 and 1e30, got {value}")


def check_fraction(name: str, value: float) -> None:
    """A Python number in [0, 1]."""
    check_number(name, value)
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} must be between 0 and 1, got {value}")


def check_integer(
    name: str,
    value: int | None,
    least: int | None = None,
    most: int | None = None,
    *,
    kind: str = "be an int",
) -> None:
    """A Python integer in `[least, most]`; `kind` is what the refusal of another type says it must do."""
    if type(value) is int and (least is None or least <= value) and (most is None or value <= most):
        return
    if isinstance(value, (bool, float, str, Tensor)) or value is None:
        raise TypeError(f"{name} must {kind}, got {type(value).__name__}")
    if least is not None and most is not None and not least <= value <= most:
        raise ValueError(f"{name} must be between {_limit(least)} and {_limit(most)}, got {value}")
    if least is not None and value < least:
        raise ValueError(f"{name} must be at least {_limit(least)}, got {value}")
    if most is not None and value > most:
        raise ValueError(f"{name} must be at most {_limit(most)}, got {value}")


def _limit(number: int) -> str:
    """A limit as one reads it: a large one as a power of two."""
    power = number.bit_length()
    if number >= 2**30 and number == 2**power - 1:
        return f"2**{power} - 1"
    if number >= 2**30 and number == 2 ** (power - 1):
        return f"2**{power - 1}"
    return str(number)


def check_counter(name: str, value: int) -> None:
    """A Python integer that fits the 63 non-negative bits of an operator's integer argument."""
    check_integer(name, value, 0, 2**63 - 1)


def check_counter_or_tensor(
    name: str, value: int | Tensor, rows_name: str, rows: RowsLike
) -> tuple[int, Tensor | None]:
    """`check_counter`, or one int64 number on the device of `rows`; gives the integer, 0 beside a tensor, and the tensor."""
    if not isinstance(value, Tensor):
        check_counter(name, value)
        return value, None
    if value.dtype != torch.int64:
        raise TypeError(f"{name} must be an int or hold an int64 number, got {value.dtype}")
    if value.numel() != 1:
        raise ValueError(f"{name} must be an int or one number, got shape {tuple(value.shape)}")
    if value.device != rows.device:
        raise _device_error(name, value, rows_name, rows)
    return 0, value


def check_choice(name: str, value: str, choices: Sequence[str]) -> int:
    """The position of `value` among `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return choices.index(value)


def check_number(name: str, value: float) -> None:
    """A Python number."""
    if isinstance(value, (bool, str, Tensor)) or value is None:
        raise TypeError(f"{name} must be a Python number, got {type(value).__name__}")


def _check_one_per_row(name: str, tensor: Tensor, rows_name: str, rows: RowsLike) -> None:
    check_dense(name, tensor)
    if tensor.shape != rows.shape[:-1]:
        raise ValueError(
            f"{name} must have shape {tuple(rows.shape[:-1])}, that of {rows_name} without its last "
            f"dimension, got {tuple(tensor.shape)}"
        )
    if tensor.device != rows.device:
        raise _device_error(name, tensor, rows_name, rows)


def _device_error(name: str, tensor: RowsLike, like_name: str, like: RowsLike) -> ValueError:
    return ValueError(f"{name} must be on the device of {like_name}, {like.device}, got {tensor.device}")
