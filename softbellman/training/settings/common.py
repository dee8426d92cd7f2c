"""Settings of several stages: an optimiser and a schedule, the form of the logits, edited references."""

from __future__ import annotations

from dataclasses import dataclass, field
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

    name: Literal["sgd", "adam", "adamw"] = "adam"
    """Plain stochastic gradient descent, Adam, or Adam with weight decay of its own (AdamW)."""
    learning_rate: Positive = 1e-3
    """Step size at the start."""
    beta1: Fraction = 0.9
    """Adam's decay of the first moment."""
    beta2: Fraction = 0.999
    """Adam's decay of the second moment; Transformers are often trained with 0.98."""
    weight_decay: NotNegative = 0.0
    """adamw: weights shrink by this times the learning rate at each update, all but vectors: biases and norms stay."""
    clip: Annotated[float, Range(above=0, or_infinite=True)] = 5.0
    """Largest global gradient norm; .inf: gradients are not clipped."""

    def __post_init__(self) -> None:
        if self.weight_decay and self.name != "adamw":
            raise ValueError(f"weight_decay is of adamw alone, got {self.weight_decay} with {self.name}")
        if self.beta2 != OptimizerSettings.beta2 and self.name == "sgd":
            raise ValueError(f"beta2 is of adam and adamw, got {self.beta2} with sgd")


@dataclass(frozen=True)
class ScheduleSettings:
    """Length of a stage and its learning rates."""

    batch_size: Count = 50
    """Sentence pairs (or tokens, see `batch_unit`) of one update."""
    batch_unit: Literal["sentences", "tokens"] = "sentences"
    """What `batch_size` counts."""
    accumulate: Count = 1
    """Parts in which the batch of an update is computed, one after another; their gradients add up. The update is that of the
    whole batch within rounding, with a part of its memory; only the masks of dropout are others."""
    epochs: Natural = 30
    """Largest number of epochs."""
    kind: Literal["plateau", "inverse_sqrt", "cosine", "constant"] = "plateau"
    """How the learning rate goes on from `learning_rate`, which it has at the end of the warm-up. `plateau`: decayed after a
    validation that brought nothing. `inverse_sqrt`: with the inverse square root of the updates. `cosine`: along half a cosine
    down to the share `floor` at `max_updates`. `constant`: as it is."""
    warmup_updates: Natural = 0
    """Updates at the start in which the learning rate grows in a straight line; 0: none."""
    floor: Share = 0.0
    """cosine: share of the learning rate that is left at the end."""
    decay: Annotated[float, Range(above=0, most=1)] = 0.5
    """plateau: factor of the learning rate after an epoch whose selection score is no better than the best so far."""
    max_decays: Natural = 6
    """plateau: the stage ends when the learning rate would be decayed once more than this."""
    patience: Natural = 0
    """The stage ends after so many validations in a row that are no better than the best so far; 0: it does not."""
    max_updates: Natural = 0
    """End the stage after this many updates; 0 means no limit."""
    interval: Natural = 0
    """Updates between validations (with selection, decay and checkpoint); 0 means once an epoch."""
    select: Literal["best", "last"] = "best"
    """The weights a stage ends with: the `best` of its validations, or the `last`. BLEU of a small validation set is noisy, and
    the best of many validations may be an early one by chance."""
    collapse: Fraction = 0.1
    """The stage ends with its best weights when its selection metric falls below this share of its first value. An error must
    not rise above its first value over the share. 0: never."""

    def __post_init__(self) -> None:
        if self.kind != "cosine":
            if self.floor:
                raise ValueError(f"floor is of kind cosine alone, got {self.floor} with {self.kind}")
        elif self.max_updates <= self.warmup_updates:
            raise ValueError(
                f"kind cosine needs max_updates above warmup_updates, {self.warmup_updates}, got {self.max_updates}"
            )


@dataclass(frozen=True)
class AveragedSettings:
    """What all stages have in common that train the actor."""

    average: Fraction = 0.0
    """Decay of an average of the actor's weights, moved after each update: validation, selection and the result are those of
    the average. 0.99 averages over about 100 updates, 0.999 over 1,000. 0: no average, as published."""


@dataclass(frozen=True)
class StageSettings(AveragedSettings):
    """A stage of your own; a dataclass that derives from this one adds keys. `average` is for stages that train the actor."""

    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    """Its optimiser."""
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    """Epochs and decay."""


@dataclass(frozen=True)
class CheckpointSettings:
    """Checkpoints between validations, which have their own; they change no number."""

    minutes: NotNegative = 10.0
    """Minutes between checkpoints, so what a kill loses at most; 0: none by the clock."""
    updates: Natural = 0
    """Updates between checkpoints; 0: none by their count."""
    keep: Count = 2
    """How many of the newest checkpoints of a stage are kept, beside the selected one. A damaged one is replaced by the one
    before it."""


@dataclass(frozen=True)
class LoggingSettings:
    """Where the records of metrics.jsonl go besides (docs/extending.md)."""

    to: tuple[str, ...] = ()
    """Loggers: `tensorboard`, `wandb`, `mlflow`, each an extra of the same name, or one of your own, MODULE:OBJECT or
    FILE.py:OBJECT. One that fails is left out with a warning, and the run goes on."""
    project: str = "softbellman"
    """wandb: the project; mlflow: the experiment. Your own gets it, too."""

    def __post_init__(self) -> None:
        for name in self.to:
            if name not in LOGGERS and ":" not in name:
                raise ValueError(
                    f"logging.to must be of {', '.join(LOGGERS)}, MODULE:OBJECT or FILE.py:OBJECT, got {name!r}"
                )


LOGGERS = ("tensorboard", "wandb", "mlflow")
"""The loggers that have a name of their own."""


@dataclass(frozen=True)
class EditSettings:
    """Edited references: how they are drawn (docs/payoffs.md has the proposals and their densities)."""

    samples: Count = 5
    """Sequences for each reference, the reference itself included where it is kept."""
    keep_reference: bool = True
    """The first of the sequences is the reference itself; the others are drawn."""
    proposal: Literal["ngram", "corrupt", "hamming", "edit"] = "ngram"
    """How edits are drawn. `ngram`: one n-gram is replaced. `corrupt`: each token with probability `rate`. `hamming`: as many
    tokens as a distance drawn with weight exp(-distance / temperature) says. `edit`: insertions and deletions too."""
    max_order: Count = 4
    """ngram: longest n-gram."""
    rate: Share = 0.2
    """corrupt: probability that a token is replaced."""
    temperature: Temperature = 0.15
    """hamming and edit: temperature of the distance, in tokens."""
    max_distance: Natural = 0
    """hamming and edit: largest distance; 0: the length of the longest reference, for `edit` 16 at most."""
