"""Settings of decoding for future success."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from softbellman.training.settings.common import (
    Count,
    Natural,
    NotNegative,
    OptimizerSettings,
    ScheduleSettings,
)


@dataclass(frozen=True)
class FutureStageSettings:
    """A value of the final payoff for the search; the actor stays as it is."""

    sequences: Literal["samples", "beam"] = "samples"
    """What the value learns from. `samples`: sequences drawn from the actor. `beam`: the best of its beam search."""
    samples: Count = 5
    """Sequences of each source."""
    extra_length: Natural = 10
    """A sequence may be this much longer than its reference."""
    gammas: tuple[float, ...] = (0.0, 0.03, 0.1, 0.3, 1.0)
    """Weights of the value in the search, nats per unit of the payoff. Each validation takes the best of them by BLEU; 0, the
    actor's own search, is always one."""
    smoothness: NotNegative = 0.001
    """Weight of the sum over the vocabulary of `(Q - mean Q)^2`: tokens that were never taken follow the others."""
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    """Optimiser of the value."""
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    """Epochs and decay; selection is by `evaluation.select_by` on the validation set, of the search with the best weight."""

    def __post_init__(self) -> None:
        if any(not 0.0 <= gamma < 1e6 for gamma in self.gammas):
            raise ValueError(f"future.gammas must be from 0 to 1e6, got {list(self.gammas)}")
