"""Maximum likelihood: token-level negative log-likelihood of the reference."""

from __future__ import annotations

from torch import Tensor

from softbellman.losses import token_cross_entropy
from softbellman.objectives.objective import Objective


def maximum_likelihood(
    logits: Tensor, labels: Tensor, mask: Tensor | None = None, *, sequences: int
) -> Objective:
    """Negative log-likelihood, ``-sum_t log pi(y*_t | y*_<t, x*)``, mean over sequences.

    Args:
        logits: actor logits, Shape: ``[..., V]``.
        labels: reference tokens, int64, Shape: ``[...]``.
        mask: True at real tokens, Shape: ``[...]``; None when all are.
        sequences: number of sequences the loss is averaged over.

    Returns:
        The objective with diagnostics ``nll`` (nats).
    """
    nll = token_cross_entropy(logits, labels, mask)
    total = nll.sum()
    return Objective(total / sequences, {"nll": total.detach()})
