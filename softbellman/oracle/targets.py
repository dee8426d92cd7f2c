"""From action values to token targets, Eq. (3), how far two targets are apart, and what every oracle can say of a prefix."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from softbellman.losses import soft_value

INFINITY = float("inf")


def check_tau(tau: float) -> float:
    """A finite temperature of at least 0."""
    if isinstance(tau, bool) or not isinstance(tau, (int, float)):
        raise TypeError(f"tau must be a Python number, got {type(tau).__name__}")
    if not 0.0 <= tau < INFINITY:
        raise ValueError(f"tau must be a finite number of at least 0, got {tau}")
    return float(tau)


def maximal_actions(q: Tensor) -> Tensor:
    """0 where an action's value is the largest of its row, `-inf` elsewhere: the oracle of the limit tau -> 0.

    `soft_target_cross_entropy(logits, maximal_actions(q), tau=1.0)` is the cross entropy under the uniform distribution over
    the maximal actions. A row that is `-inf` throughout stays so.

    Args:
        q: action values, `[..., V]`.

    Example:
        >>> maximal_actions(torch.tensor([1.0, 3.0, 3.0]))
        tensor([-inf, 0., 0.])
    """
    maximal = (q == q.amax(-1, keepdim=True)) & (q > -INFINITY)
    return torch.zeros_like(q).masked_fill(~maximal, -INFINITY)


def target_distribution(q: Tensor, tau: float) -> Tensor:
    """`softmax(q / tau)`, Eq. (3), at tau = 0 uniform over the maximal actions.

    Args:
        q: action values, `[..., V]`; `-inf` for an action that cannot be taken.
        tau: at least 0.

    Returns:
        Probabilities, `[..., V]`, float64 for float64 values, else float32; zeros where a row is `-inf` throughout.

    Example:
        >>> target_distribution(torch.tensor([0.0, 1.0, 1.0]), 0.0)
        tensor([0.0000, 0.5000, 0.5000])
    """
    wide = q if q.dtype == torch.float64 else q.float()
    logits = wide / tau if check_tau(tau) > 0 else maximal_actions(wide)
    return torch.softmax(logits, -1).masked_fill(wide.amax(-1, keepdim=True) == -INFINITY, 0.0)


def total_variation(first: Tensor, second: Tensor) -> Tensor:
    """Half the summed absolute difference of two distributions `[..., V]`, in [0, 1]."""
    return (first - second).abs().sum(-1) / 2


def kullback_leibler(first: Tensor, second: Tensor) -> Tensor:
    """`sum_w p log(p / q)` of distributions p = `first` and q = `second` `[..., V]`, in nats; `inf` where q misses p."""
    divergence: Tensor = torch.special.xlogy(first, first).sum(-1) - torch.special.xlogy(first, second).sum(
        -1
    )
    return divergence


class TokenOracle(ABC):
    """An oracle that can be asked about any prefix.

    Args:
        vocabulary: V.
        eos_id: the action that ends a sequence.
        tau: temperature, at least 0.
    """

    def __init__(self, *, vocabulary: int, eos_id: int, tau: float) -> None:
        self.vocabulary, self.eos_id, self.tau = vocabulary, eos_id, check_tau(tau)

    @abstractmethod
    def q(self, prefix: Sequence[int]) -> Tensor:
        """`Q(prefix, .)`, float64, `[V]`; `-inf` for an action that cannot be taken."""

    def value(self, prefix: Sequence[int]) -> float:
        """`V(prefix)`, Eq. (14): the payoff still to come, with the entropy bonus of the policy that earns it."""
        return float(state_value(self.q(prefix), self.tau))

    def policy(self, prefix: Sequence[int]) -> Tensor:
        """`softmax(Q(prefix, .) / tau)`, Eq. (3), float64, `[V]`."""
        return target_distribution(self.q(prefix), self.tau)

    def log_probability(self, sequence: Sequence[int]) -> float:
        """Of these actions one after the other, in nats; the sequence is complete where it ends with `eos_id`.

        For a complete sequence this is `log P_R`, Eq. (1), by Proposition 1.
        """
        total = 0.0
        for t, token in enumerate(sequence):
            probability = float(self.policy(sequence[:t])[token])
            if probability == 0.0:
                return -INFINITY
            total += math.log(probability)
        return total


class CompletionOracle(TokenOracle):
    """An oracle whose values are maxima over completions, whatever the temperature is."""

    @abstractmethod
    def values(self, hypothesis: Tensor) -> Tensor:
        """Q in every state of a hypothesis with its end, float64. `[1, T]` -> `[1, T, V]`."""

    def along(self, hypothesis: Sequence[int]) -> Tensor:
        """Q in every state of a hypothesis (its tokens, without the end): float64, `[len(hypothesis) + 1, V]`.

        Row t is the state before token t, the last row the one behind all tokens.
        """
        if self.eos_id in hypothesis:
            raise ValueError(f"hypothesis must not hold the end token {self.eos_id}, got {list(hypothesis)}")
        return self.values(torch.tensor([[*hypothesis, self.eos_id]]))[0]

    def q(self, prefix: Sequence[int]) -> Tensor:
        """`Q(prefix, .)`, float64, `[V]`."""
        return self.along(prefix)[-1]

    def value(self, prefix: Sequence[int]) -> float:
        """The largest payoff still to come."""
        return float(self.q(prefix).max())


def state_value(q: Tensor, tau: float) -> Tensor:
    """`tau log sum_w exp(q / tau)`, at tau = 0 the maximum: `[..., V] -> [...]`."""
    return soft_value(q, tau=tau) if tau > 0 else q.amax(-1)
