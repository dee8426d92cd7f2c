"""Settings of the stages that compare sequences of the actor's own, and of scheduled sampling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from softbellman.config import Range
from softbellman.training.settings.common import (
    AveragedSettings,
    Count,
    Natural,
    NotNegative,
    OptimizerSettings,
    Positive,
    ScheduleSettings,
    Share,
    Temperature,
)

Beam = Annotated[int, Range(least=2, most=4096)]
"""Hypotheses of a search in which the reference must lead the last."""


@dataclass(frozen=True)
class SequenceStageSettings(AveragedSettings):
    """The actor on its own whole sequences, each with one payoff."""

    objective: Literal["policy_gradient", "minimum_risk"] = "policy_gradient"
    """What is descended: `policy_gradient` is REINFORCE with a baseline, `minimum_risk` the expected cost under renormalised
    candidates. The algorithm sets it: `mrt` the second, the others the first."""
    baseline: Literal["none", "batch", "others", "greedy", "learnt"] = "batch"
    """policy_gradient: what is subtracted from a payoff. `batch`: the mean payoff of all other sequences of the update.
    `others`: that of the source's other samples (RLOO). `greedy`: the payoff of the greedy translation (self-critical).
    `learnt`: a linear regression on the decoder's state, for each token. All but `none` lower the variance alone."""
    samples: Count = 5
    """Sequences drawn for each source."""
    alpha: Positive = 0.005
    """minimum_risk: sharpness of the candidates' distribution, a softmax over alpha log p(y); as published."""
    with_reference: bool = True
    """minimum_risk: the reference is one of the candidates, as published."""
    mixer_chunk: Natural = 0
    """policy_gradient: tokens at the end of a sequence that are drawn; those before are the reference's and are trained by
    maximum likelihood (MIXER). 0: whole sequences are drawn."""
    mixer_updates: Count = 1000
    """policy_gradient: updates after which mixer_chunk more tokens are drawn, until whole sequences are."""
    extra_length: Natural = 10
    """A sample may be this much longer than its reference."""
    mle_weight: NotNegative = 0.0
    """Weight of a maximum-likelihood term on the reference."""
    optimizer: OptimizerSettings = field(default_factory=lambda: OptimizerSettings(learning_rate=1e-4))
    """Optimiser of the actor."""
    baseline_optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    """policy_gradient: optimiser of the learnt baseline."""
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    """Epochs and decay; selection is by `evaluation.select_by` on the validation set."""

    def __post_init__(self) -> None:
        if self.objective == "policy_gradient" and self.baseline == "others" and self.samples < 2:
            raise ValueError(
                f"sequence.baseline is others, the mean over a source's other samples, but sequence.samples is {self.samples}; "
                "say at least 2"
            )


@dataclass(frozen=True)
class SearchStageSettings(AveragedSettings):
    """Beam search optimisation: the actor's logits as scores of whole prefixes."""

    beam: Beam = 5
    """Hypotheses of the search in training; the search of validation and test has `evaluation.beam`, published: one less."""
    start_beam: Beam = 2
    """Hypotheses at the start: the beam grows by one every `beam_updates` updates."""
    beam_updates: Count = 1000
    """Updates after which the beam grows."""
    margin: Positive = 1.0
    """By how much the reference's score must lead; published: 1."""
    cost: Literal["bleu", "constant"] = "bleu"
    """Weight of a violation. `bleu`: 1 - sentence BLEU of what was said since the search began anew, as published for
    translation, with `payoff.smoothing`. `constant`: 1."""
    optimizer: OptimizerSettings = field(default_factory=lambda: OptimizerSettings(learning_rate=1e-4))
    """Optimiser of the actor."""
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    """Epochs and decay; selection is by `evaluation.select_by` on the validation set."""

    def __post_init__(self) -> None:
        if self.start_beam > self.beam:
            raise ValueError(
                f"search.start_beam must be at most search.beam, {self.beam}, got {self.start_beam}"
            )


@dataclass(frozen=True)
class ProfessorStageSettings(AveragedSettings):
    """Professor forcing of LSTMs: states after own words as after the reference's."""

    start: Literal["scratch", "actor"] = "scratch"
    """Weights at the start: new ones, as published, or those of the maximum-likelihood actor."""
    samples: Count = 1
    """Sequences drawn for each source."""
    extra_length: Natural = 10
    """A sample may be this much longer than its reference."""
    weight: NotNegative = 1.0
    """Weight of the adversarial loss beside the likelihood; published: 1."""
    teacher: bool = False
    """The states after references are moved towards those after own words, too (the published optional term)."""
    hidden: Count = 128
    """Width of the discriminator: of each direction of its GRU, and of the layer behind it."""
    discriminator_below: Share = 0.99
    """The discriminator learns where its accuracy in the update before was below this; published: 0.99."""
    generator_above: Share = 0.75
    """The actor follows it where its accuracy in the update before was above this; published: 0.75."""
    optimizer: OptimizerSettings = field(default_factory=lambda: OptimizerSettings(learning_rate=1e-3))
    """Optimiser of the actor; only its learning rate is decayed."""
    discriminator_optimizer: OptimizerSettings = field(
        default_factory=lambda: OptimizerSettings(learning_rate=1e-3)
    )
    """Optimiser of the discriminator."""
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    """Epochs and decay; selection is by `evaluation.select_by` on the validation set."""


@dataclass(frozen=True)
class ScheduledStageSettings(AveragedSettings):
    """Scheduled sampling: the decoder reads words of its own among the reference's."""

    start: Literal["scratch", "actor"] = "scratch"
    """Weights at the start: new ones, as published, or those of the maximum-likelihood actor."""
    decay: Literal["linear", "exponential", "inverse_sigmoid"] = "inverse_sigmoid"
    """How the share of the reference's words falls with the update i. `linear`: 1 - i / updates. `exponential`:
    exp(-i / updates). `inverse_sigmoid`: k / (k + exp(i / k)), k being such that it is a half after `updates`."""
    updates: Count = 5000
    """Updates of the decay: see `decay`."""
    least: Share = 0.25
    """The share does not fall below this."""
    optimizer: OptimizerSettings = field(default_factory=lambda: OptimizerSettings(learning_rate=1e-3))
    """Optimiser of the actor."""
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    """Epochs and decay; selection is by `evaluation.select_by` on the validation set."""


@dataclass(frozen=True)
class InterpolatedStageSettings(AveragedSettings):
    """Interpolation: the next token is the actor's, the payoff's or the reference's.

    The shares move on a straight line within `updates`; the published code moves them by 0.06 whenever a validation falls.
    """

    start: Literal["scratch", "actor"] = "scratch"
    """Weights at the start: new ones, as published, or those of the maximum-likelihood actor."""
    own: Share = 0.04
    """Probability, at the start, that the actor says the next token."""
    own_end: Share = 0.1
    """The same after `updates`."""
    increments: Share = 0.0
    """Probability, at the start, that a token drawn from softmax(r / tau) is the next one, r being what it adds to the payoff.
    What is left of 1 is the reference's, whose token at the same position is taken."""
    increments_end: Share = 0.24
    """The same after `updates`."""
    updates: Count = 5000
    """Updates in which the shares move."""
    tau: Temperature = 0.1
    """Temperature of the increments, in the unit of the payoff; tau log V should stay below what a token adds, about 1.
    Published: 1, with BLEU in [0, 1], which is nearly uniform over the vocabulary."""
    early_end: NotNegative = 1.0
    """What an end token loses before the reference's end, in the unit of the payoff; published: 1."""
    extra_length: Natural = 10
    """A sequence may be this much longer than its reference."""
    optimizer: OptimizerSettings = field(default_factory=lambda: OptimizerSettings(learning_rate=1e-3))
    """Optimiser of the actor."""
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    """Epochs and decay; selection is by `evaluation.select_by` on the validation set."""

    def __post_init__(self) -> None:
        for end in ("", "_end"):
            own, increments = getattr(self, f"own{end}"), getattr(self, f"increments{end}")
            if own + increments > 1.0 or own == 1.0:
                raise ValueError(
                    f"own{end} must be below 1, and with increments{end} at most 1, got {own} and {increments}"
                )
