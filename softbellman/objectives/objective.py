"""What an objective returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Objective(NamedTuple):
    """A loss and what to log beside it.

    Attributes:
        loss: scalar, differentiable: sum over tokens, mean over sequences.
        diagnostics: detached scalar tensors by name, each a SUM over real tokens (divide by `tokens` for means), so that
            batches add up exactly.
    """

    loss: Tensor
    diagnostics: dict[str, Tensor]
