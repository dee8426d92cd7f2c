"""The exponential that the CPU's row kernels are made of, against the C library's in float64."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from softbellman.core import native


def exponential(x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    """In whole groups of 64, as the kernels go through their rows."""
    padded = torch.nn.functional.pad(x, (0, -x.numel() % 64))
    result = torch.empty_like(padded)
    code = {torch.float32: 0, torch.float64: 1}[x.dtype]
    native.cpu.exponential(padded.data_ptr(), padded.numel(), code, scale, result.data_ptr())
    return result[: x.numel()]


def errors_in_last_places(x: np.ndarray, scale: float) -> np.ndarray:
    """Of float32 arguments whose exponential is a normal number."""
    exact = np.exp(scale * x.astype(np.float64))
    ours = exponential(torch.from_numpy(x), scale).numpy().astype(np.float64)
    return np.abs(ours - exact) / np.spacing(exact.astype(np.float32)).astype(np.float64)


@pytest.mark.parametrize("scale", [1.0, 0.37, 1 / 0.045, 100.0])
def test_float32_within_two_units_in_the_last_place(scale: float) -> None:
    """Every 97th float from -86 / scale to 86 / scale; benchmarks/exponential.py goes through all of them."""
    largest = np.float32(86 / scale).view(np.uint32)
    smallest = np.float32(2.0**-30 / scale).view(np.uint32)
    x = np.arange(smallest, largest, 97, dtype=np.uint32).view(np.float32)
    for sign in (1, -1):
        errors = errors_in_last_places(sign * x, scale)
        assert errors.max() <= 2


@pytest.mark.parametrize("level", ["baseline", "avx2"])
def test_other_instruction_sets_are_as_exact(level: str) -> None:
    """Without fused multiply-add, too: the product in the exponent is then put together from exact parts."""
    test = f"{__file__}::test_float32_within_two_units_in_the_last_place"
    environment = {**os.environ, "SOFTBELLMAN_SIMD": level}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout


def test_one_period_of_the_polynomial() -> None:
    """From half to one and a half times log(2), every third float."""
    first, last = (np.float32(math.log(2) * factor).view(np.uint32) for factor in (0.5, 1.5))
    x = np.arange(first, last, 3, dtype=np.uint32).view(np.float32)
    assert errors_in_last_places(-x, 1.0).max() <= 2


def test_float64() -> None:
    x = torch.linspace(-700, 700, 200_001, dtype=torch.float64)
    exact = x.exp()
    assert ((exponential(x) - exact).abs() <= 3 * exact * 2.0**-52).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ends(dtype: torch.dtype) -> None:
    x = torch.tensor([-math.inf, -1e30, -1e4, math.nan, 0.0, -0.0], dtype=dtype)
    expected = torch.tensor([0.0, 0.0, 0.0, math.nan, 1.0, 1.0], dtype=dtype)
    assert torch.equal(exponential(x).nan_to_num(nan=9.0), expected.nan_to_num(nan=9.0))
    # A payload in the NaN's lower bits must not turn into a number.
    odd = torch.tensor([0x7FC00001, 0x7F800001, -0x3FFFFF], dtype=torch.int32).view(torch.float32)
    assert exponential(odd).isnan().all()


def test_refuses_other_types() -> None:
    x = torch.zeros(3)
    with pytest.raises(ValueError, match="dtype must be 0 or 1, got 2"):
        native.cpu.exponential(x.data_ptr(), 3, 2, 1.0, x.data_ptr())
