"""The losses that are compared, each a few lines on heads. What they have in common is `training.py`.

Notation: B prompts, K samples of a prompt, N = B K, T steps, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from softbellman import (
    Head,
    actor_loss,
    divergence,
    soft_target_cross_entropy,
    token_cross_entropy,
    token_objective,
)
from softbellman.objectives import mean_of_others
from sorting.task import Pairs, completion_values, token_rewards

TAU = 0.1
"""Temperature of targets, entropies and divergences, in tokens of the payoff."""


@dataclass(frozen=True)
class Samples:
    """Answers that the policy drew, and what a loss may look at.

    Attributes:
        policy: the head before each token, `[N, T, V]`.
        tokens, mask: `[N, T]`.
        pairs: the B prompts.
        start: the head of what training began from, `[N, T, V]`, a constant, for the arms that stay near it.
        critic: action values that were learnt, `[N, T, V]`, for the arms that have them.
    """

    policy: Head
    tokens: Tensor
    mask: Tensor
    pairs: Pairs
    start: Head | None = None
    critic: Head | None = None

    @property
    def grouped(self) -> Tensor:
        """The tokens, `[B, K, T]`."""
        return self.tokens.view(len(self.pairs.prompts), -1, self.tokens.shape[-1])

    def exact_values(self, answers: Tensor) -> Tensor:
        """Exact action values where `answers` are the right strings, `[N, T, V]`."""
        return completion_values(self.grouped, answers, self.policy.shape[-1]).flatten(0, 1)


def likelihood(policy: Head, labels: Tensor) -> Tensor:
    """Supervised fine-tuning (SFT)."""
    return token_cross_entropy(policy, labels, reduction="mean")


def leave_one_out(samples: Samples) -> Tensor:
    """RLOO: the payoff of the whole answer less the mean of the prompt's other answers weighs all its tokens."""
    payoffs = token_rewards(samples.grouped, samples.pairs.answers).sum(-1)  # [B, K]
    advantages = (payoffs - mean_of_others(payoffs)).view(-1, 1).expand_as(samples.tokens)  # [N, T]
    return token_objective(
        samples.policy, samples.tokens, log_prob_weights=-advantages, mask=samples.mask, reduction="mean"
    ).objective


def leave_one_out_near_the_start(samples: Samples) -> Tensor:
    """RLOO, and the divergence from the start over the whole vocabulary."""
    assert samples.start is not None
    kept = divergence(samples.policy, samples.start, kind="reverse_kl", mask=samples.mask, reduction="mean")
    return leave_one_out(samples) + TAU * kept


def learnt_credit(samples: Samples) -> Tensor:
    """ERAC's actor, Eq. (20), with a critic that was learnt; near the start the divergence takes the place of the entropy."""
    assert samples.critic is not None
    return _follow(samples, samples.critic)


def exact_credit(samples: Samples) -> Tensor:
    """The same with exact values in place of the critic's."""
    return _follow(samples, samples.exact_values(samples.pairs.answers))


def _follow(samples: Samples, values: Head | Tensor) -> Tensor:
    return actor_loss(
        samples.policy, values, tau=TAU, prior=samples.start, mask=samples.mask, reduction="mean"
    ).loss


def exact_targets(samples: Samples) -> Tensor:
    """Cross entropy to `softmax(Q / tau)`, Q exact: the whole vocabulary at each state that the policy reached."""
    values = samples.exact_values(samples.pairs.answers)
    return soft_target_cross_entropy(samples.policy, values, tau=TAU, mask=samples.mask, reduction="mean")


def targets_of_one_label(samples: Samples) -> Tensor:
    """The same towards the labeller's string alone: not exact where others are right, too."""
    values = samples.exact_values(samples.pairs.labels[:, None])
    return soft_target_cross_entropy(samples.policy, values, tau=TAU, mask=samples.mask, reduction="mean")


class Arm(NamedTuple):
    """A way to go on from the start.

    Attributes:
        title: in the table.
        loss: of samples; None for the likelihood of the labels.
        near_start: whether its loss has the divergence from the start.
        has_critic: whether a critic is learnt beside it.
        for_several: only where several strings are right.
    """

    title: str
    loss: Callable[[Samples], Tensor] | None
    near_start: bool = False
    has_critic: bool = False
    for_several: bool = False


ARMS = (
    Arm("SFT continued", None),
    Arm("RLOO", leave_one_out),
    Arm("RLOO + KL", leave_one_out_near_the_start, near_start=True),
    Arm("ERAC, learnt critic", learnt_credit, has_critic=True),
    Arm("ERAC + KL, learnt critic", learnt_credit, near_start=True, has_critic=True),
    Arm("exact values", exact_credit),
    Arm("exact values + KL", exact_credit, near_start=True),
    Arm("exact targets, one label", targets_of_one_label, for_several=True),
    Arm("exact targets", exact_targets),
)
