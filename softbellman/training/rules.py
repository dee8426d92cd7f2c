"""The table of rules that tell a broken stage from a normal one, and the measures that they compare with thresholds.

A rule is data: its conditions, what it finds, what to change, and why its thresholds are where they are. docs/algorithms.md
explains each by its name, under "Normal or broken".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from softbellman.training.stages.spec import StageSpec, Trait
from softbellman.training.vitals import QUARTERS


class Measure(NamedTuple):
    """A number of a stage at a validation: its unit, and what it is."""

    unit: str
    meaning: str


_RATIO = "times the start"
_SHARE = "share of the actor's gradient"
_PARTS = ("first", "second", "third", "last")

MEASURES = {
    "bleu": Measure("BLEU, 0 to 100", "validation BLEU of the actor's beam search"),
    "bleu_ratio": Measure(_RATIO, "its change since the start of the stage"),
    "length_ratio": Measure("tokens / reference tokens", "length of the beam search's hypotheses"),
    "length_rise": Measure("tokens / reference tokens", "its rise since the start"),
    "sample_length_ratio": Measure("tokens / reference tokens", "length of drawn sequences"),
    "unended": Measure("share of sequences", "drawn sequences that had not ended at their largest length"),
    "unended_rise": Measure("share of sequences", "its rise since the start"),
    "rank_correlation": Measure(
        "-1 to 1", "agreement of the critic's order of tokens with the payoffs reached"
    ),
    "rank_errors": Measure("standard errors", "the same, over what a random order gives"),
    "choice_gain": Measure("tokens", "payoff gained by the critic's choice over the actor's likeliest token"),
    "choice_gain_errors": Measure("standard errors", "the same, over its own standard error"),
    "possible_choice_gain": Measure("tokens", "payoff gained by the best choice"),
    "td_error": Measure("tokens", "mean absolute TD error, or soft Bellman residual of an oracle"),
    "td_error_ratio": Measure(_RATIO, "its change since the start"),
    **{
        f"td_error_q{part}": Measure("tokens", f"the same in the {_PARTS[part - 1]} quarter of the sentence")
        for part in range(1, QUARTERS + 1)
    },
    "front_residual": Measure(
        "first quarter / last quarter", "how much of the residual has not flown back to the start"
    ),
    "entropy": Measure("nats", "mean entropy of the policy at drawn tokens"),
    "entropy_ratio": Measure(_RATIO, "its change since the start"),
    "value_share": Measure(
        _SHARE, "of the term `sum_w pi Q`, returns included: norm of its gradient over the sum of all"
    ),
    "entropy_share": Measure(_SHARE, "of the term `tau H`"),
    "payoff_share": Measure(
        _SHARE, "where no critic teaches: of all of the loss but the weighted likelihood of the references"
    ),
    "likelihood_share": Measure(_SHARE, "of the weighted likelihood of the references"),
    "entropy_pull": Measure("entropy / value", "ratio of these terms' gradient norms"),
    "oracle_bleu": Measure("BLEU, 0 to 100", "of the learnt oracle's own beam search"),
    "oracle_bleu_ratio": Measure(_RATIO, "its change since the start"),
    "effective_samples": Measure("sequences", "`1 / sum_k w_k^2` of the weights of a source"),
    "skipped_share": Measure("share of updates", "updates skipped since the validation before"),
}
"""What is known of a stage at a validation, in the order of reports."""

Observations = dict[str, float]
"""Measures by name; one that was not logged, or is not finite, is absent."""


class Condition(NamedTuple):
    """A measure on the wrong side of a threshold."""

    measure: str
    side: Literal["above", "below"]
    threshold: float

    def holds(self, seen: Mapping[str, float]) -> bool:
        """Whether the measure is known and on that side."""
        if self.measure not in seen:
            return False
        value = seen[self.measure]
        return value > self.threshold if self.side == "above" else value < self.threshold


@dataclass(frozen=True)
class Rule:
    """One way to be broken.

    Attributes:
        name: as docs/algorithms.md has it.
        trait: of the stages where the rule applies; None: of all.
        conditions: all must hold.
        finding: what then is wrong; measures in braces are put in.
        change: what to change.
        reason: of the thresholds.
        covers: names of rules that say less of the same.
        elsewhere: what to change in a stage that no critic teaches, `{stage}` being its name; empty: the same.
    """

    name: str
    trait: Trait | None
    conditions: tuple[Condition, ...]
    finding: str
    change: str
    reason: str
    covers: tuple[str, ...] = ()
    elsewhere: str = ""

    def remedy(self, stage: StageSpec | None) -> str:
        """What to change in such a stage."""
        if stage is None or not self.elsewhere or stage.has("moving policy"):
            return self.change
        return self.elsewhere.format(stage=stage.name)

    def applies(self, stage: StageSpec | None) -> bool:
        """Whether the rule is of such a stage; of one that nothing is known of the rules of all are."""
        return self.trait is None or (stage is not None and stage.has(self.trait))

    def holds(self, seen: Mapping[str, float]) -> bool:
        """Whether all conditions hold."""
        return all(condition.holds(seen) for condition in self.conditions)


RULES = (
    Rule(
        "skipped updates",
        None,
        (Condition("skipped_share", "above", 0.01),),
        "{skipped_share:.0%} of the updates were skipped, their loss or gradients were not finite",
        "lower the learning rate or the temperature",
        "a single bad batch in an epoch of 100 is an accident, more is a pattern",
    ),
    Rule(
        "falling error, random order",
        "values",
        (Condition("td_error_ratio", "below", 0.9), Condition("rank_errors", "below", 2.0)),
        "the TD error fell to {td_error_ratio:.2f} of the start while the critic orders tokens no better than chance "
        "(rank correlation {rank_correlation:.2f})",
        "do not trust the TD error: set warmup.schedule.epochs to 2 or more, or train the critic longer",
        "a tenth is more than the same draws change by themselves; 2 standard errors as for `random order`",
        covers=("random order",),
    ),
    Rule(
        "random order",
        "values",
        (Condition("rank_errors", "below", 2.0),),
        "the critic orders tokens no better than chance (rank correlation {rank_correlation:.2f})",
        "train it longer (critic.schedule) or set warmup.schedule.epochs to 2 or more, before the joint stage",
        "the mean rank correlation of n states is 0 +- 1 / sqrt(3 n) for a random order of 4 tokens; 2 of these are "
        "exceeded by chance in 2 % of runs",
    ),
    Rule(
        "harmful choice",
        "fixed policy",
        (Condition("choice_gain_errors", "below", -2.0),),
        "the critic's choice gains {choice_gain:.3f} tokens over the actor's likeliest token",
        "train the critic longer (critic.schedule), or raise joint.actor_delay",
        "the joint stage would begin by making the actor worse; 2 standard errors are exceeded by chance in 2 % of runs",
    ),
    Rule(
        "strong entropy",
        "fixed policy",
        (Condition("entropy_pull", "above", 0.5),),
        "the entropy will pull the actor {entropy_pull:.1f} times as hard as the critic's values",
        "lower credit.tau",
        "0.01 before a healthy joint stage on the built-in corpus, 0.8 before a runaway; 1 is where pi = softmax(Q / tau)",
    ),
    Rule(
        "entropy runaway",
        "moving policy",
        (Condition("entropy_ratio", "above", 1.5),),
        "the entropy ran away to {entropy:.2f} nats, {entropy_ratio:.2f} times the start",
        "lower credit.tau or the actor's learning rate, or raise joint.mle_weight",
        "healthy runs on the built-in corpus end at 0.7; runaways reached 1.6 on captions, 5.2 there with tau 0.3",
    ),
    Rule(
        "entropy collapse",
        "moving policy",
        (Condition("entropy_ratio", "below", 0.3),),
        "the entropy collapsed to {entropy:.2f} nats, {entropy_ratio:.2f} of the start",
        "raise credit.tau or joint.mle_weight, or lower the actor's learning rate",
        "healthy runs of AC end at 0.7; below, a source has nearly one sequence, and the critic learns of no other",
    ),
    Rule(
        "endless samples",
        "moving policy",
        (Condition("unended", "above", 0.1), Condition("unended_rise", "above", 0.05)),
        "{unended:.0%} of the drawn sequences do not end within joint.extra_length of the reference",
        "train the critic longer or raise joint.mle_weight: nobody corrects the value of tokens at an end that is never drawn",
        "healthy runs on the built-in corpus leave 1 to 2 % open, those that fell apart 88 % and more",
    ),
    Rule(
        "length drift",
        "actor",
        (Condition("length_ratio", "above", 1.05), Condition("length_rise", "above", 0.03)),
        "translations grew to {length_ratio:.2f} times the references' length",
        "train the critic longer, lower the actor's learning rate or raise joint.mle_weight",
        "BLEU's brevity penalty ends at 1; healthy runs stay within 0.02 of the start, broken ones rose by 0.7 and more",
        elsewhere="lower the learning rate of the {stage} stage, or raise its mle_weight where it has one",
    ),
    Rule(
        "shrinking length",
        "actor",
        (Condition("length_ratio", "below", 0.9), Condition("length_rise", "below", -0.08)),
        "translations shrank to {length_ratio:.2f} times the references' length",
        "look whether the payoff rewards short sentences (docs/payoffs.md), lower the learning rate or raise joint.mle_weight",
        "with BLEU against five captions runs fell from 1.00 to 0.85, their CIDEr-D with them",
        elsewhere="look whether the payoff rewards short sentences (docs/payoffs.md), or lower the learning rate of the "
        "{stage} stage",
    ),
    Rule(
        "few words",
        None,
        (Condition("length_ratio", "below", 0.5),),
        "translations have {length_ratio:.2f} times the references' length",
        "train longer, or with a larger learning rate; look at the hypotheses",
        "trained models of every data set here end at 0.85 to 1.05; untrained ones end their sentences at once",
    ),
    Rule(
        "values unheard",
        "moving policy",
        (Condition("value_share", "below", 0.05),),
        "the critic's values have {value_share:.0%} of the actor's gradient, so that it only repeats maximum likelihood",
        "lower joint.mle_weight, or train the critic until its values differ between tokens",
        "healthy runs on the built-in corpus have half with the weight 0.3",
    ),
    Rule(
        "payoff unheard",
        "actor",
        (Condition("payoff_share", "below", 0.1),),
        "what the payoff teaches has {payoff_share:.1%} of the actor's gradient, so that it only repeats maximum likelihood",
        "lower mle_weight",
        "0.07 in MRT with alpha 0.005 beside the weight 0.1, which learnt the likelihood alone; 0.65 to 0.89 in MRT with "
        "alpha 1, RLOO and SCST",
        elsewhere="lower {stage}.mle_weight, or raise alpha where the risk of candidates has one",
    ),
    Rule(
        "falling oracle",
        "oracle",
        (Condition("oracle_bleu_ratio", "below", 0.95), Condition("td_error_ratio", "below", 0.9)),
        "the oracle's BLEU fell to {oracle_bleu_ratio:.2f} of the start while its residual fell to {td_error_ratio:.2f}",
        "lower oracle.optimizer.learning_rate or train longer; the selected weights are the best so far",
        "as for `falling score` and `falling error, random order`",
    ),
    Rule(
        "one sequence has all the weight",
        "weights",
        (Condition("effective_samples", "below", 1.1),),
        "{effective_samples:.2f} sequences a source have weight: this is maximum likelihood with several times the work",
        "raise augmented.tau",
        "1 is a single sequence; at 1.1 the others have 5 % of the weight",
    ),
    Rule(
        "falling score",
        "actor",
        (Condition("bleu_ratio", "below", 0.95),),
        "validation BLEU fell to {bleu:.2f}, {bleu_ratio:.2f} of the start",
        "lower the actor's learning rate or train its teacher, critic or oracle, longer",
        "a twentieth of the score is seen by eye; how much chance moves it depends on the validation set",
        elsewhere="lower the learning rate of the {stage} stage, raise its mle_weight where it has one, "
        "or train longer what teaches it",
    ),
)
"""All rules, causes before what comes of them: the first that holds makes the sentence."""
