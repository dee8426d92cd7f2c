"""Settings every stage has: an optimiser and a schedule; the form of the logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from softbellman.config import Range

Natural = Annotated[int, Range(least=0)]
Count = Annotated[int, Range(least=1)]
Positive = Annotated[float, Range(above=0)]
NotNegative = Annotated[float, Range(least=0)]
Share = Annotated[float, Range(least=0, most=1)]
Fraction = Annotated[float, Range(least=0, below=1)]
Seed = Annotated[int, Range(least=0, most=2**63 - 1)]
Temperature = Annotated[float, Range(least=1e-30, most=1e30)]
"""What an operator takes as tau."""

LogitsForm = Literal["whole", "chunked"]
"""How the logits of an update are held: see `logits` of the run."""


@dataclass(frozen=True)
class OptimizerSettings:
    """One optimiser."""

    name: Literal["sgd", "adam"] = "adam"
    """Plain stochastic gradient descent or Adam."""
    learning_rate: Positive = 1e-3
    """Step size at the start."""
    beta1: Fraction = 0.9
    """Adam's decay of the first moment."""
    clip: Annotated[float, Range(above=0, or_infinite=True)] = 5.0
    """Largest global gradient norm; .inf: gradients are not clipped."""


@dataclass(frozen=True)
class ScheduleSettings:
    """Length of a stage and its learning-rate decay."""

    batch_size: Count = 50
    """Sentence pairs (or tokens, see `batch_unit`) of one update."""
    batch_unit: Literal["sentences", "tokens"] = "sentences"
    """What `batch_size` counts."""
    epochs: Natural = 30
    """Largest number of epochs."""
    decay: Annotated[float, Range(above=0, most=1)] = 0.5
    """Factor of the learning rate after an epoch whose selection score is no better than the best so far."""
    max_decays: Natural = 6
    """The stage ends when the learning rate would be decayed once more than this."""
    max_updates: Natural = 0
    """End the stage after this many updates; 0 means no limit."""
    interval: Natural = 0
    """Updates between validations (with selection, decay and checkpoint); 0 means once an epoch."""
    collapse: Fraction = 0.1
    """The stage ends with its best weights when its selection metric falls below this share of its first value. An error must
    not rise above its first value over the share. 0: never."""


@dataclass(frozen=True)
class CheckpointSettings:
    """Checkpoints between validations, which have their own; they change no number of a run."""

    minutes: NotNegative = 10.0
    """Minutes between checkpoints, so what a kill loses at most; 0: none by the clock."""
    updates: Natural = 0
    """Updates between checkpoints; 0: none by their count."""
    keep: Count = 2
    """How many of the newest checkpoints of a stage are kept, beside the selected one. A damaged one is replaced by the one
    before it."""
