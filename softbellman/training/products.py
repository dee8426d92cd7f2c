"""Which library multiplies float32 matrices on the CPU: MKL, as torch chooses, or oneDNN.

torch sends float32 products to MKL's sgemm. Where oneDNN is allowed to round the factors to bfloat16 it takes them instead, and
on processors that cannot gain by rounding it does not round: its products are float32 as before, by other kernels. A large
product is faster so, but the first of every new shape waits half a millisecond for a kernel, and steps of sampling have many
shapes (benchmarks/NOTES.md). A processor with AMX tiles would round, so there nothing changes.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

_TOLERANCE = 1e-5  # of the largest entry; float32 errs by 5e-7, factors in bfloat16 by 3e-3


@contextmanager
def onednn_products(*, enabled: bool = True) -> Iterator[bool]:
    """Within the block float32 products on the CPU go through oneDNN where they stay float32; yields whether they do.

    Nothing changes on another processor than an x86 one without AMX tiles, without oneDNN, or where a few products tried out
    do not have float32's accuracy. The setting is torch's own (``torch.backends.mkldnn.matmul.fp32_precision``), counts for the
    whole process, and is put back at the end; products on a GPU are not touched. Until then
    ``torch.get_float32_matmul_precision``, and with it ``torch.compile``, raises: torch does not mix its two interfaces.
    """
    if not (enabled and _may_stay_float32()):
        yield False
        return
    switch = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # made when the module is imported
    before = switch.fp32_precision
    switch.fp32_precision = "bf16"
    try:
        accurate = _trial_is_accurate()
        if not accurate:
            switch.fp32_precision = before
        yield accurate
    finally:
        switch.fp32_precision = before


@cache
def _trial_is_accurate() -> bool:
    return product_error() < _TOLERANCE


def product_error() -> float:
    """Largest error of the three float32 products of a linear layer on the CPU, relative to the largest entry."""
    generator = torch.Generator().manual_seed(0)
    features, weight, grad = (
        torch.randn(shape, generator=generator) for shape in ((96, 256), (1024, 256), (96, 1024))
    )

    def error(left: Tensor, right: Tensor) -> float:
        exact = left.double() @ right.double()
        return float(((left @ right).double() - exact).abs().max() / exact.abs().max())

    return max(error(features, weight.t()), error(grad, weight), error(grad.t(), features))


def _may_stay_float32() -> bool:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False  # the same switch means bfloat16 arithmetic there
    if not (torch._C._has_mkldnn and torch.backends.mkldnn.enabled):
        return False
    has_tiles = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return has_tiles is not None and not has_tiles()
