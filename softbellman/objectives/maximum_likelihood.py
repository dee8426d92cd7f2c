"""Maximum likelihood: token-level negative log-likelihood of the reference, with smoothed labels where asked for."""

from __future__ import annotations

import torch
from torch import Tensor

from softbellman.core.head import Head, Rows
from softbellman.core.masks import boolean_mask
from softbellman.losses import token_cross_entropy
from softbellman.objectives.objective import Objective


def maximum_likelihood(
    logits: Rows,
    labels: Tensor,
    mask: Tensor | None = None,
    *,
    sequences: int,
    smoothing: float = 0.0,
    inplace_backward: bool = False,
) -> Objective:
    """Negative log-likelihood, `-sum_t log pi(y*_t | y*_<t, x*)`, mean over sequences.

    With label smoothing e each token's loss is `-(1 - e) log pi(y*_t) - e / V sum_w log pi(w)`: the cross entropy with a target
    of which the share e is spread evenly over all V words. The logits are held once, as without it: the even part is the
    softmax of a vector of V zeros, which the fused cross entropy reads for every row.

    Args:
        logits: actor logits `[..., V]`, a tensor or a `Head`.
        labels: reference tokens, int64, `[...]`.
        mask: True at real tokens, `[...]`; None when all are.
        sequences: number of sequences the loss is averaged over.
        smoothing: e, from 0 to below 1.
        inplace_backward: let the backward pass of a `Head` scale saved gradients in place; it then may run once.

    Returns:
        The objective with diagnostics `nll` (nats), without the smoothing.
    """
    if not smoothing:
        total = token_cross_entropy(logits, labels, mask, reduction="sum", inplace_backward=inplace_backward)
        return Objective(total / sequences, {"nll": total.detach()})
    total = token_cross_entropy(
        logits,
        labels,
        mask,
        label_smoothing=smoothing,
        reduction="sum",
        inplace_backward=inplace_backward,
    )
    with torch.no_grad():
        nll = _without_smoothing(logits, labels, mask, total.detach(), smoothing)
    return Objective(total / sequences, {"nll": nll})


def _without_smoothing(
    logits: Rows, labels: Tensor, mask: Tensor | None, total: Tensor, smoothing: float
) -> Tensor:
    """The negative log-likelihood for the log.

    Logits that are held are read once more. Those of a head are not formed again: the smoothed loss differs from it by
    `e (logit(y*) - mean_w logit(w))`, and the mean of the logits is the logit of the mean output embedding.
    """
    plain = isinstance(logits, Head) and logits.scale == 1.0 and logits.softcap is None
    if not isinstance(logits, Head) or not plain or logits.vocabulary is not None:
        rows = logits.detach()
        return token_cross_entropy(rows, labels, mask, reduction="sum")
    if mask is not None:
        mask = boolean_mask("mask", mask)
        labels = labels.masked_fill(~mask, 0)
    hidden, weight, bias = logits.hidden, logits.weight, logits.bias
    gap = (hidden * (weight.mean(0) - weight[labels])).sum(-1)
    if bias is not None:
        gap = gap + bias.mean() - bias[labels]
    if mask is not None:
        gap = gap.masked_fill(~mask, 0.0)
    return total + smoothing * gap.sum()
