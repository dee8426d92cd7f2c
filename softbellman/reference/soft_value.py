"""Soft value of a row of Q, Eq. (14)."""

from __future__ import annotations

from torch import Tensor

from softbellman.reference.rows import NEGATIVE_INFINITY, clear_masked, log_sum_exp, widen


def soft_value(q: Tensor, *, tau: float, prior: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    """`V = tau * log sum_w pi_0(w) exp(q(w) / tau)`, q [..., V] -> [...].

    The prior holds logits [..., V] of `pi_0 = softmax(prior)`, a constant; without one every token weighs 1.
    """
    scaled = widen(q, mask) / tau
    if prior is None:
        return clear_masked(tau * log_sum_exp(scaled), mask)
    weights = widen(prior.detach(), mask)
    normalizer = log_sum_exp(weights)
    value = tau * (
        log_sum_exp(scaled + weights) - normalizer.masked_fill(normalizer == NEGATIVE_INFINITY, 0.0)
    )
    return clear_masked(value, mask)
