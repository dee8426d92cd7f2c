"""Value of a policy under Q with its entropy (Eq. (9), the expectation inside Eq. (19))."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from softbellman.reference.rows import clear_masked, log_softmax, widen


class PolicyValue(NamedTuple):
    """What a policy is worth at each row: `value` [...] and its `entropy` [...] in nats."""

    value: Tensor
    entropy: Tensor


def policy_terms(
    logits: Tensor, q: Tensor, *, tau: float, mask: Tensor | None, entropy: str
) -> tuple[Tensor, Tensor]:
    """`sum_w pi(w) q(w) + effective_tau * H(pi)` and `H(pi)`, the entropy weighted in one of three ways."""
    policy, log_policy = log_softmax(widen(logits, mask))
    expected = (policy * widen(q, mask).masked_fill(policy == 0, 0.0)).sum(-1)
    policy_entropy = -(policy * log_policy).sum(-1)
    if entropy == "exact":
        value = expected + tau * policy_entropy
    elif entropy == "normalized":  # the published code divides log pi by its norm over the vocabulary
        value = expected + tau / (1e-8 + log_policy.detach().norm(dim=-1)) * policy_entropy
    else:
        value = expected
    return clear_masked(value, mask), clear_masked(policy_entropy, mask)


def policy_value(logits: Tensor, q: Tensor, *, tau: float, mask: Tensor | None = None) -> PolicyValue:
    """`sum_w pi(w) [q(w) - tau log pi(w)]` with pi = softmax(logits); rows [..., V] -> two of [...]."""
    return PolicyValue(*policy_terms(logits, q, tau=tau, mask=mask, entropy="exact"))
