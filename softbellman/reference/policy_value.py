"""Value of a policy under Q with its entropy (equation 9, the expectation inside equation 19)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from softbellman.reference.rows import NEGATIVE_INFINITY, clear_masked, log_softmax, log_sum_exp, widen


class PolicyValue(NamedTuple):
    """What a policy is worth at each row: `value` [...] and its `entropy` [...] in nats."""

    value: Tensor
    entropy: Tensor


def policy_terms(
    logits: Tensor,
    q: Tensor,
    *,
    tau: float,
    mask: Tensor | None,
    entropy: str,
    prior: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`sum_w pi(w) q(w) + effective_tau * H(pi)` and `H(pi)`, the entropy weighted in one of three ways.

    A prior adds `tau * sum_w pi(w) log pi_0(w)` with `pi_0 = softmax(prior)`, a constant.
    """
    policy, log_policy = log_softmax(widen(logits, mask))
    values = widen(q, mask)
    if prior is not None and tau != 0:
        weights = widen(prior.detach(), mask)
        normalizer = log_sum_exp(weights).unsqueeze(-1)
        values = values + tau * (weights - normalizer.masked_fill(normalizer == NEGATIVE_INFINITY, 0.0))
    expected = (policy * values.masked_fill(policy == 0, 0.0)).sum(-1)
    policy_entropy = -(policy * log_policy).sum(-1)
    if entropy == "exact":
        value = expected + tau * policy_entropy
    elif entropy == "normalized":  # the published code divides log pi by its norm over the vocabulary
        value = expected + tau / (1e-8 + log_policy.detach().norm(dim=-1)) * policy_entropy
    else:
        value = expected
    return clear_masked(value, mask), clear_masked(policy_entropy, mask)


def policy_value(
    logits: Tensor, q: Tensor, *, tau: float, prior: Tensor | None = None, mask: Tensor | None = None
) -> PolicyValue:
    """`sum_w pi(w) [q(w) - tau log pi(w)]` with pi = softmax(logits); rows [..., V] -> two of [...].

    With a prior, logits [..., V] of pi_0, it is `sum_w pi(w) [q(w) - tau log(pi(w) / pi_0(w))]`.
    """
    return PolicyValue(*policy_terms(logits, q, tau=tau, mask=mask, entropy="exact", prior=prior))
