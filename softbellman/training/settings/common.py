"""Settings every stage has: an optimiser and a schedule; the form of the logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LogitsForm = Literal["whole", "chunked"]
"""How the logits of an update are held: see `logits` of the run."""


@dataclass(frozen=True)
class OptimizerSettings:
    """One optimiser."""

    name: Literal["sgd", "adam"] = "adam"
    """Plain stochastic gradient descent or Adam."""
    learning_rate: float = 1e-3
    """Step size at the start."""
    beta1: float = 0.9
    """Adam's decay of the first moment."""
    clip: float = 5.0
    """Largest global gradient norm."""


@dataclass(frozen=True)
class ScheduleSettings:
    """Length of a stage and its learning-rate decay."""

    batch_size: int = 50
    """Sentence pairs (or tokens, see `batch_unit`) of one update."""
    batch_unit: Literal["sentences", "tokens"] = "sentences"
    """What `batch_size` counts."""
    epochs: int = 30
    """Largest number of epochs."""
    decay: float = 0.5
    """Factor of the learning rate after an epoch whose selection score is no better than the best so far."""
    max_decays: int = 6
    """The stage ends when the learning rate would be decayed once more than this."""
    max_updates: int = 0
    """End the stage after this many updates; 0 means no limit."""
    interval: int = 0
    """Updates between validations (with selection, decay and checkpoint); 0 means once an epoch."""
