"""Soft value of a row of Q, Eq. (14)."""

from __future__ import annotations

from torch import Tensor

from softbellman.reference.rows import clear_masked, log_sum_exp, widen


def soft_value(q: Tensor, *, tau: float, prior: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    """`V = tau * log sum_w prior(w) exp(q(w) / tau)`, q [..., V] -> [...]; the prior is a constant."""
    scaled = widen(q, mask) / tau
    if prior is not None:
        scaled = scaled + widen(prior.detach().to(scaled.dtype).expand_as(q), mask).log()
    if mask is not None:
        scaled = scaled.masked_fill(~mask.unsqueeze(-1), 0.0)
    return clear_masked(tau * log_sum_exp(scaled), mask)
