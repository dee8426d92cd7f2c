"""Settings of the stages of MLE, AC and ERAC."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from softbellman.config import Range
from softbellman.training.settings.common import (
    AveragedSettings,
    Count,
    EditSettings,
    Fraction,
    Natural,
    NotNegative,
    OptimizerSettings,
    Positive,
    ScheduleSettings,
    Share,
)


@dataclass(frozen=True)
class ActorStageSettings(AveragedSettings):
    """Maximum-likelihood training of the actor."""

    seeded_by: ClassVar[str] = "actor_seed"

    attention: Literal["none", "dot", "mlp"] = "dot"
    """lstm: attention score of the actor. `none` is for captions: the image starts the decoder and is not seen again (one
    feature vector an image leaves no other choice)."""
    dropout: Fraction = 0.3
    """Dropout on the attention output (the published `droph`); of a Transformer on what each part of a layer adds."""
    embedding_dropout: Fraction = 0.0
    """Dropout on the word embeddings of both sides, or on the words' and the image's features."""
    label_smoothing: Fraction = 0.0
    """Share of the target that is spread evenly over the vocabulary, in this stage's loss; 0: the reference's token alone."""
    optimizer: OptimizerSettings = field(
        default_factory=lambda: OptimizerSettings(name="sgd", learning_rate=0.6)
    )
    """Optimiser of the actor."""
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    """Epochs and decay."""


@dataclass(frozen=True)
class WarmUpSettings:
    """Start of the critic: maximum likelihood of the reference, or values of completions.

    Not in the paper. Before any value is learnt the critic's attention learns which reference word comes next, which the TD
    error alone finds slowly. The critic's values then start as scaled logits.
    """

    seeded_by: ClassVar[str] = "reader_seed"

    target: Literal["reference", "completion"] = "reference"
    """What is learnt. `reference`: the reference's next token, at its prefixes. `completion`: softmax(Q / scale) at those of
    edited references, Q being what a suffix of a reference still brings. So the first values are these, up to a constant of
    each state. Of payoff.metric bleu alone (docs/algorithms.md)."""
    edits: EditSettings = field(default_factory=lambda: EditSettings(samples=3, proposal="corrupt"))
    """completion: edited references, each with the same weight."""
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    """Optimiser of the warm-up."""
    schedule: ScheduleSettings = field(default_factory=lambda: ScheduleSettings(epochs=0))
    """Epochs and decay; selection is by the validation loss. 0 epochs: no warm-up, as published."""
    scale: Positive = 0.1
    """The logits are multiplied by this to become the first values; completion: also the temperature of the targets."""


@dataclass(frozen=True)
class CriticStageSettings:
    """Policy evaluation: the critic learns a fixed actor's values, Eq. (18) and (19)."""

    attention: Literal["dot", "mlp"] = "mlp"
    """lstm: attention score of the critic."""
    dropout: Fraction = 0.0
    """Dropout of the critic."""
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    """Optimiser of the critic."""
    schedule: ScheduleSettings = field(default_factory=lambda: ScheduleSettings(epochs=20, max_decays=5))
    """Epochs and decay; selection is by the TD error on the validation set."""
    samples: Count = 2
    """Sequences sampled from the actor for each source."""
    extra_length: Natural = 5
    """A sample may be this much longer than its reference."""


@dataclass(frozen=True)
class JointStageSettings(AveragedSettings):
    """Joint training of actor, Eq. (20), and critic, Eq. (18) and (19)."""

    actor_optimizer: OptimizerSettings = field(
        default_factory=lambda: OptimizerSettings(learning_rate=1e-4, beta1=0.0)
    )
    """Optimiser of the actor; only its learning rate is decayed."""
    critic_optimizer: OptimizerSettings = field(
        default_factory=lambda: OptimizerSettings(learning_rate=1e-4, beta1=0.0)
    )
    """Optimiser of the critic."""
    schedule: ScheduleSettings = field(default_factory=lambda: ScheduleSettings(decay=0.9))
    """Epochs and decay; selection is by `evaluation.select_by` on the validation set."""
    samples: Count = 1
    """Sequences sampled from the actor for each source."""
    extra_length: Natural = 10
    """A sample may be this much longer than its reference."""
    actor_delay: Natural = 0
    """Updates at the start in which the critic alone learns, at this stage's learning rate, and the actor stays."""
    follow: Literal["critic", "target"] = "critic"
    """Whose values the actor follows: the critic's, as published, or the target critic's, an average of past critics and so
    less noisy."""
    return_weight: Share = 0.0
    """Weight, in the actor's gradient, of what the critic's value of a drawn token misses of the return. At 1 the gradient is
    unbiased, whatever the critic, with the entropy and the draws that are the defaults. 0: the critic alone, as published."""
    mle_weight: NotNegative = 0.1
    """Weight of the maximum-likelihood term (lambda_mle)."""


@dataclass(frozen=True)
class CreditSettings:
    """Entropy-regularised Bellman backup of the critic and joint stages, its variants."""

    tau: Annotated[float, Range(least=1e-30, most=1e30, or_zero=True)] = 0.045
    """Temperature: weight of the entropy in the actor's objective and in the critic's target. 0 gives plain AC."""
    future_entropy: bool = True
    """The critic's target contains the entropy of the future; false: critic with temperature 0, actor entropy kept."""
    trace: Share = 0.0
    """Lambda of the critic's targets, which weigh the returns over one and more drawn tokens. 0: the next token's reward and
    value, Eq. (19). 1: the Monte-Carlo return, without any value."""
    prior: Literal["none", "start"] = "none"
    """What keeps the actor near its start. `none`: nothing, the entropy alone is rewarded. `start`: the entropy gives way to
    `-KL(pi, pi_0)` in critic and actor, pi_0 being the actor that the joint stage starts from. With `actor_entropy: exact` and
    `tau` above 0; AC has none."""
    reference_weight: NotNegative = 0.0
    """Weight, in the critic's loss, of the reference's likelihood under `softmax(Q / reference_tau)` at its own prefixes. It
    keeps the order of tokens that the warm-up learnt while the values find their level. 0: none, as published."""
    reference_tau: Positive = 0.1
    """Temperature of that likelihood, in the unit of the payoff; that of the warm-up is its `scale`."""
    smoothness: NotNegative = 0.001
    """Weight of the critic's smoothness penalty (lambda_var); see `penalty`."""
    target_speed: Share = 0.001
    """Share of the critic that flows into the target critic at each update (beta)."""
    actor_entropy: Literal["exact", "normalized", "none"] = "exact"
    """Local entropy in the actor's gradient: `exact` is Eq. (20), `normalized` divides log pi by its L2 norm
    as published, `none` leaves it out."""
    penalty: Literal["mean", "sum", "published"] = "mean"
    """Smoothness of the critic. `mean` weights the variance over V; the published weight 0.001 belongs to it. `sum` weights the
    sum of squares over V, Eq. (18) as printed, and wants a weight about V times smaller. `published` is the authors' code: half
    the squared error, variance over V - 1."""
    mask_padding: bool = True
    """The joint critic's loss leaves padding out; false: padding positions are regressed to 0 as in the published code."""
    sampling_dropout: bool = False
    """Sample and evaluate the policy with dropout on (the published code) instead of the policy as it will act."""
    start_is_candidate: bool = True
    """The actor a joint stage starts from can be selected as its result."""
    forbid_special: bool = True
    """Padding, <bos> and <unk> are never sampled."""

    def __post_init__(self) -> None:
        if self.prior == "none":
            return
        if self.tau == 0:
            raise ValueError(
                f"credit.prior is {self.prior}, but credit.tau is 0, which gives the divergence no weight; say "
                "credit.prior: none, or a tau above 0"
            )
        if self.actor_entropy != "exact":
            raise ValueError(
                f"credit.prior is {self.prior}, but credit.actor_entropy is {self.actor_entropy}; say "
                "credit.prior: none, or credit.actor_entropy: exact"
            )
