"""The dtype that the matmuls of an update run in: torch's autocast, in the same way on every device.

Weights, their gradients and optimisers are float32. What autocast makes bfloat16 (logits and action values among it)
goes into this package's losses as it is: they read bfloat16 rows and add in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]
"""What the factors of matmuls are. Sums and results of losses are float32 in both."""


@contextmanager
def autocast_to(precision: Precision, device: torch.device) -> Iterator[None]:
    """Within the block forward passes on a device run in this precision.

    Weights are rounded anew wherever they are used: within an update optimisers change them, and they are used with and
    without a graph.
    """
    if precision == "float32":
        yield
        return
    with torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False):
        yield


@contextmanager
def as_recorded(device: torch.device) -> Iterator[None]:
    """Within the block nothing is cast anew, as backward passes want it: they run in the dtypes of the forward pass."""
    if not torch.is_autocast_enabled(device.type):
        yield
        return
    with torch.autocast(device.type, enabled=False):
        yield
