"""The divergence from or to a teacher of which only some log-probabilities are known."""

from __future__ import annotations

import torch
from torch import Tensor

from softbellman.reference.rows import NEGATIVE_INFINITY, reduce_rows, statistic_dtype, widen

DIRECTIONS = ("forward", "reverse")
TAILS = ("bucket", "renormalise", "drop")


def sparse_divergence(
    logits: Tensor,
    ids: Tensor,
    log_probs: Tensor,
    *,
    direction: str = "forward",
    tail: str = "bucket",
    mask: Tensor | None = None,
    reduction: str = "none",
    row_weights: Tensor | None = None,
    inplace_backward: bool = False,
) -> Tensor:
    """Divergence of softmax(logits) [..., V] and a teacher known at ids [..., K], row by row -> [...].

    One row after another, with the tokens that are compared in a list; an entry whose log-probability is `-inf` is absent.
    """
    if direction not in DIRECTIONS or tail not in TAILS:
        raise ValueError(
            f"direction must be one of {DIRECTIONS} and tail of {TAILS}, got {direction!r}, {tail!r}"
        )
    eps = 16 * torch.finfo(statistic_dtype(log_probs.dtype)).eps
    values = widen(logits, mask)
    rows = values.reshape(-1, values.shape[-1])
    real = [True] * len(rows) if mask is None else (mask != 0).reshape(-1).tolist()
    known, teacher = (
        ids.reshape(-1, ids.shape[-1]),
        log_probs.detach().to(values.dtype).reshape(-1, ids.shape[-1]),
    )
    found = [
        _row(row, known[n], teacher[n], direction, tail, eps) if real[n] else row.sum() * 0.0
        for n, row in enumerate(rows)
    ]
    losses = torch.stack(found).view(values.shape[:-1]) if found else values.sum(-1)
    return reduce_rows(losses, mask, reduction, row_weights, inplace_backward)


def _row(logits: Tensor, ids: Tensor, log_probs: Tensor, direction: str, tail: str, eps: float) -> Tensor:
    """The divergence of one row, logits [V], from ids [K] and log_probs [K]; infinite ones and 0 have no graph."""
    there = log_probs != NEGATIVE_INFINITY
    ids, log_q = ids[there], log_probs[there]
    log_p = logits[ids]
    others = torch.ones_like(logits, dtype=torch.bool)
    others[ids] = False
    none = logits.new_zeros(())
    if tail == "renormalise":
        if not len(ids) or (direction == "reverse" and bool((log_p == NEGATIVE_INFINITY).all())):
            return none
        possible = log_p[log_p != NEGATIVE_INFINITY]
        log_q = log_q - log_q.logsumexp(0)
        log_p = log_p - possible.logsumexp(0) if len(possible) else log_p
    else:
        possible = logits != NEGATIVE_INFINITY
        if not bool(possible.any()):
            return none
        normalizer = logits[possible].logsumexp(0)
        log_p = log_p - normalizer
        rest = others & possible
        missing = 1 - log_q.exp().sum()
        if tail == "bucket" and bool(rest.any()):
            log_p = torch.cat([log_p, (logits[rest].logsumexp(0) - normalizer)[None]])
            log_q = torch.cat([log_q, missing.clamp(min=eps).log()[None]])
        elif tail == "bucket" and bool(missing > eps) and direction == "forward":
            return none + float("inf")
    if direction == "forward":
        if bool(((log_p == NEGATIVE_INFINITY) & (log_q > NEGATIVE_INFINITY)).any()):
            return none + float("inf")
        return (log_q.exp() * (log_q - log_p)).sum()
    possible = log_p != NEGATIVE_INFINITY
    return (log_p[possible].exp() * (log_p[possible] - log_q[possible])).sum()
