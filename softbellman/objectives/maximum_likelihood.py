"""Maximum likelihood: token-level negative log-likelihood of the reference."""

from __future__ import annotations

from torch import Tensor

from softbellman.core.head import Rows
from softbellman.losses import token_cross_entropy
from softbellman.objectives.objective import Objective


def maximum_likelihood(
    logits: Rows,
    labels: Tensor,
    mask: Tensor | None = None,
    *,
    sequences: int,
    inplace_backward: bool = False,
) -> Objective:
    """Negative log-likelihood, `-sum_t log pi(y*_t | y*_<t, x*)`, mean over sequences.

    Args:
        logits: actor logits `[..., V]`, a tensor or a `Head`.
        labels: reference tokens, int64, `[...]`.
        mask: True at real tokens, `[...]`; None when all are.
        sequences: number of sequences the loss is averaged over.
        inplace_backward: let the backward pass of a `Head` scale saved gradients in place; it then may run once.

    Returns:
        The objective with diagnostics `nll` (nats).
    """
    total = token_cross_entropy(logits, labels, mask, reduction="sum", inplace_backward=inplace_backward)
    return Objective(total / sequences, {"nll": total.detach()})
