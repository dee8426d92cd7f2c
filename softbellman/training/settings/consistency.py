"""Settings of path consistency learning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from softbellman.training.settings.common import (
    AveragedSettings,
    Count,
    Natural,
    NotNegative,
    OptimizerSettings,
    ScheduleSettings,
)


@dataclass(frozen=True)
class ConsistencyStageSettings(AveragedSettings):
    """Path consistency: policy and state values agree along sequences, at `credit.tau`."""

    value: Literal["separate", "unified"] = "separate"
    """Whose values of states. `separate`: a regression on the critic's network, which reads the reference (PCL). `unified`:
    `tau logsumexp(logits)` of the actor, without another network (Unified PCL)."""
    steps: Natural = 0
    """Tokens of a path (the published d). Paths that meet the end are as long as they can be; 0: all go on to the end."""
    samples: Count = 5
    """Sequences drawn for each source."""
    with_reference: bool = True
    """The reference is one more sequence of each source, as the published expert trajectories are."""
    extra_length: Natural = 10
    """A sample may be this much longer than its reference."""
    actor_delay: Natural = 0
    """separate: updates at the start in which the values alone learn, and the actor stays."""
    mle_weight: NotNegative = 0.0
    """Weight of a maximum-likelihood term on the reference."""
    actor_optimizer: OptimizerSettings = field(default_factory=lambda: OptimizerSettings(learning_rate=1e-4))
    """Optimiser of the actor; only its learning rate is decayed."""
    value_optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    """separate: optimiser of the values."""
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    """Epochs and decay; selection is by `evaluation.select_by` on the validation set."""

    def __post_init__(self) -> None:
        if self.value == "unified" and self.actor_delay:
            raise ValueError(
                f"consistency.actor_delay is of value separate alone, got {self.actor_delay} with unified; say 0"
            )
