"""Settings of the stages of RAML, VAML and optimal completion distillation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from softbellman.training.settings.common import (
    AveragedSettings,
    Count,
    EditSettings,
    Fraction,
    Natural,
    NotNegative,
    OptimizerSettings,
    ScheduleSettings,
    Share,
    Temperature,
)


@dataclass(frozen=True)
class OracleStageSettings:
    """Soft Q-learning of the oracle that reads the reference, Eq. (16) and (6)."""

    seeded_by: ClassVar[str] = "reader_seed"

    kind: Literal["learnt", "completion"] = "learnt"
    """Whose values VAML distils. `learnt`: those of a Q-network, as published. `completion`: those of the best completion by a
    suffix of a reference, which nothing has to learn; of payoff.metric bleu alone (docs/algorithms.md)."""
    attention: Literal["dot", "mlp"] = "dot"
    """lstm: attention score of the Q-network."""
    dropout: Fraction = 0.1
    """Dropout of the Q-network."""
    tau: Temperature = 0.1
    """Temperature of the soft values and of the targets softmax(Q / tau), in the unit of the payoff. tau log V should stay
    below what a token earns, about 1. Published: 0.4, with 20 % of the targets from the oracle."""
    edits: EditSettings = field(default_factory=lambda: EditSettings(samples=6, proposal="corrupt"))
    """Off-policy sequences the residual is minimised on, each with the same weight."""
    bootstrap_after_end: bool = False
    """The value of the end token is bootstrapped from a padding state, as in the published code, instead of being 0."""
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    """Optimiser of the Q-network."""
    schedule: ScheduleSettings = field(default_factory=lambda: ScheduleSettings(max_decays=4))
    """Epochs and decay; selection is by `evaluation.select_by` of the oracle's own beam search on the validation set."""


@dataclass(frozen=True)
class AugmentedStageSettings(AveragedSettings):
    """The actor on weighted edited references: RAML, Eq. (2), and VAML, Eq. (17)."""

    start: Literal["scratch", "actor"] = "scratch"
    """Weights at the start: new ones, as published, or those of the maximum-likelihood actor."""
    edits: EditSettings = field(default_factory=EditSettings)
    """Sequences an update trains on."""
    tau: Temperature = 0.1
    """RAML: temperature of the payoff distribution, in the unit of the payoff; as for the oracle, tau log V should stay below
    1. VAML takes the oracle's."""
    weights: Literal["corrected", "published"] = "corrected"
    """Weights of the sequences. `corrected`: self-normalised importance weights exp(R / tau) / q(y). `published`: softmax over
    the samples of the plain score, about [0, 1], with neither the temperature nor the density of the proposal."""
    drop_below: Share = 1e-4
    """Sequences of a smaller weight are left out, the others' weights scaled up: most of the work where one sequence has nearly
    all the weight. 0 keeps all; at most 1 over the number of samples."""
    oracle_share: Share = 1.0
    """VAML: share of the oracle's targets, the rest goes to the sequence's own next token. Eq. (17): 1; published:
    0.2."""
    mixing: Literal["expected", "bernoulli"] = "expected"
    """The share is the weight of the two parts in every token, or the probability that a token takes the oracle's."""
    optimizer: OptimizerSettings = field(
        default_factory=lambda: OptimizerSettings(name="sgd", learning_rate=0.6)
    )
    """Optimiser of the actor."""
    schedule: ScheduleSettings = field(default_factory=lambda: ScheduleSettings(batch_size=42))
    """Epochs and decay; selection is by `evaluation.select_by` on the validation set."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.drop_below * max(self.edits.samples, 1) <= 1.0:
            raise ValueError(f"drop_below must lie between 0 and 1 / edits.samples, got {self.drop_below}")


@dataclass(frozen=True)
class CompletionStageSettings(AveragedSettings):
    """Optimal completion distillation: the values of the best completion as target."""

    payoff: Literal["edit_distance", "bleu"] = "edit_distance"
    """Whose completions. `edit_distance`: the best of all, as published. `bleu`: the best by a suffix of a reference, with BLEU
    as in `payoff` (docs/algorithms.md)."""
    start: Literal["scratch", "actor"] = "actor"
    """Weights at the start: those of the maximum-likelihood actor, or new ones."""
    tau: Temperature = 0.05
    """Temperature of the targets, in tokens of edit distance or in the unit of the payoff; towards 0 they become uniform over
    the optimal tokens. Of the edit distance a wrong token keeps exp(-1 / tau), so V exp(-1 / tau) should be small."""
    states: Literal["samples", "edits"] = "samples"
    """Where the prefixes come from: the actor's own samples, as published, or edited references."""
    samples: Count = 1
    """Sequences sampled from the actor for each source."""
    extra_length: Natural = 10
    """A sample may be this much longer than its reference."""
    edits: EditSettings = field(default_factory=lambda: EditSettings(samples=5, proposal="corrupt"))
    """Edited references, each with the same weight."""
    mle_weight: NotNegative = 0.0
    """Weight of a maximum-likelihood term on the reference."""
    optimizer: OptimizerSettings = field(default_factory=lambda: OptimizerSettings(learning_rate=2e-4))
    """Optimiser of the actor."""
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    """Epochs and decay; selection is by `evaluation.select_by` on the validation set."""
