"""Maximum likelihood: token-level negative log-likelihood of the reference."""

from __future__ import annotations

from torch import Tensor

from softbellman.core.head import Rows
from softbellman.losses import token_cross_entropy
from softbellman.objectives.objective import Objective


def maximum_likelihood(
    logits: Rows, labels: Tensor, mask: Tensor | None = None, *, sequences: int
) -> Objective:
    """Negative log-likelihood, `-sum_t log pi(y*_t | y*_<t, x*)`, mean over sequences.

    Args:
        logits: actor logits `[..., V]`, a tensor or a `Head`.
        labels: reference tokens, int64, `[...]`.
        mask: True at real tokens, `[...]`; None when all are.
        sequences: number of sequences the loss is averaged over.

    Returns:
        The objective with diagnostics `nll` (nats).
    """
    total = token_cross_entropy(logits, labels, mask, reduction="sum")
    return Objective(total / sequences, {"nll": total.detach()})
