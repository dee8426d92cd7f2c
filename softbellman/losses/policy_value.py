"""Value of a policy under Q with its entropy (equation 9, the expectation inside equation 19)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from softbellman.core.checks import check_mask, check_not_negative, check_rows, check_same_rows
from softbellman.losses.policy import policy


class PolicyValue(NamedTuple):
    """What a policy is worth at each row: `value` [...] and its `entropy` [...] in nats."""

    value: Tensor
    entropy: Tensor


def policy_value(logits: Tensor, q: Tensor, *, tau: float, mask: Tensor | None = None) -> PolicyValue:
    """`sum_w pi(w) q(w) + tau * H(pi)` with pi = softmax(logits), and the entropy H(pi) (equations 9 and 19).

    Differentiable in logits and in q, through both results.

    Args:
        logits: unnormalised log-probabilities [..., V] of the policy.
        q: action values [..., V] with the dtype and device of logits; `-inf` only where the policy is 0.
        tau: weight of the entropy, at least 0, in the unit of q; 0 leaves the plain expectation.
        mask: bool [...], True for real rows. Masked rows are not read and give 0.

    Returns:
        value [...] in the unit of q and entropy [...] in nats, float64 for float64 logits, else float32. A
        token of probability 0 contributes nothing whatever its q; logits that are `-inf` throughout give 0
        for both.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or device, or tau below 0.

    Example:
        >>> policy_value(torch.zeros(2), torch.tensor([1.0, 3.0]), tau=0.0)
        PolicyValue(value=tensor(2.), entropy=tensor(0.6931))
    """
    check_rows("logits", logits)
    check_same_rows("q", q, "logits", logits)
    check_mask(mask, "logits", logits)
    check_not_negative("tau", tau)
    value, entropy, *_ = policy(logits, q, tau, 0, mask)
    return PolicyValue(value, entropy)
