"""What a user's code may leave changed in torch, kept and put back around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def kept_state() -> Iterator[None]:
    """A block after which torch's generators, and whether gradients are recorded, are as they were before it.

    The generators are those of the CPU and, where CUDA is in use, of the current device.
    """
    records, numbers = torch.is_grad_enabled(), torch.get_rng_state()
    in_use: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    on_device = torch.cuda.get_rng_state() if in_use else None
    try:
        yield
    finally:
        torch.set_grad_enabled(records)
        torch.set_rng_state(numbers)
        if on_device is not None:
            torch.cuda.set_rng_state(on_device)
