"""Objectives on weighted sequences: RAML (Eq. (2)), VAML (Eq. (17)), optimal completion distillation.

A source has K sequences with weights that add up to 1, the self-normalised importance weights of the payoff distribution
`P_R(y) = exp(R(y) / tau) / Z` (Eq. (1)). RAML raises the likelihood of their tokens,

    -sum_k w_k sum_t log pi(y_t^k | y_<t^k),

VAML gives every one of their prefixes the whole distribution `P_Q = softmax(Q / tau)` as target (Eq. (3) and 17),

    -sum_k w_k sum_t sum_w P_Q(w | y_<t^k) log pi(w | y_<t^k),

and optimal completion distillation is the same with the values of the best completions on sequences drawn from pi.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from softbellman.core.chunks import choose_chunk_rows
from softbellman.core.head import Head, Rows
from softbellman.core.masks import boolean_mask
from softbellman.losses import soft_target_cross_entropy, token_cross_entropy
from softbellman.objectives.objective import Objective
from softbellman.objectives.states import entries, state_targets


def weighted_likelihood(
    logits: Rows,
    labels: Tensor,
    weights: Tensor,
    mask: Tensor | None = None,
    *,
    sources: int,
    states: Tensor | None = None,
    inplace_backward: bool = False,
) -> Objective:
    """RAML: negative log-likelihood of weighted sequences (Eq. (2)), mean over sources.

    Args:
        logits: actor logits along the sequences `[..., V]`, a tensor or a `Head`.
        labels: their tokens `y_t`, int64, `[...]`.
        weights: weight of the sequence a row belongs to, a constant, `[...]`.
        mask: True at real tokens, `[...]`; None when all are.
        sources: number of sources the loss is averaged over.
        states: row of `logits` that a packed position reads, where some share one, int64, `[M]`; then logits are
            `[D, V]`.
        inplace_backward: let the backward pass of a `Head` scale saved gradients in place; it then may run once.

    Returns:
        The objective with diagnostics `cross_entropy` (weighted nats) beside `weight`, the sum of the weights of real
        tokens.
    """
    targets, correction = None, None
    if states is not None:
        targets = state_targets(weights, labels, 0.0, states, logits.shape[0])
        logits, correction = entries(logits, *targets.both())
        labels = labels if targets.tokens is None else targets.tokens
    row_weights = weights if targets is None else targets.weights
    total = token_cross_entropy(
        logits, labels, mask, reduction="sum", row_weights=row_weights, inplace_backward=inplace_backward
    )
    if targets is not None and correction is not None:
        total = total + targets.correction(correction)
    return _weighted(total, weights, mask, sources)


def oracle_distillation(
    logits: Rows,
    q: Rows,
    weights: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    sources: int,
    tau: float,
    labels: Tensor | None = None,
    oracle_share: float | Tensor = 1.0,
    states: Tensor | None = None,
    inplace_backward: bool = False,
) -> Objective:
    """VAML: cross entropy of the actor under the oracle's `softmax(Q / tau)` (Eq. (17)), mean over sources.

    Args:
        logits: actor logits along the sequences `[..., V]`, a tensor or a `Head`.
        q: the oracle's values at the same prefixes `[..., V]`, a tensor or a `Head`, constants.
        weights: weight of the sequence a row belongs to, a constant, `[...]`; None: 1.
        mask: True at real tokens, `[...]`; None when all are.
        sources: number of sources the loss is averaged over.
        tau: temperature of the oracle, above 0.
        labels: tokens of the sequences, int64, `[...]`; needed where `oracle_share` is not 1.
        oracle_share: part of the target that is the oracle's, one number or one for each row; the rest is the row's label.
        states: row of `logits` and `q` that a packed position reads, where some share one, int64, `[M]`; then
            these two are `[D, V]`, and weights are needed.
        inplace_backward: let the backward pass of a `Head` scale saved gradients in place; it then may run once.

    Returns:
        The objective with diagnostics `cross_entropy` (weighted nats) beside `weight`, the sum of the weights of real
        tokens.

    Raises:
        ValueError: `states` without `weights`, or without `labels` where they have a share.
    """
    targets, correction = None, None
    if states is not None:
        if weights is None:
            raise ValueError("weights must be given where states are, got None")
        targets = state_targets(weights, labels, oracle_share, states, logits.shape[0])
        logits, correction = entries(logits, *targets.both())
        labels, oracle_share = targets.tokens, targets.oracle_share
    total = soft_target_cross_entropy(
        logits,
        q,
        tau=tau,
        mask=mask,
        targets=labels,
        oracle_weight=oracle_share,
        reduction="sum",
        row_weights=weights if targets is None else targets.weights,
        inplace_backward=inplace_backward,
    )
    if targets is not None and correction is not None:
        total = total + targets.correction(correction)
    if weights is None:
        weights = total.new_ones(logits.shape[:-1])
    return _weighted(total, weights, mask, sources)


def known_distillation(
    logits: Rows,
    values: Callable[[slice], Tensor],
    weights: Tensor | None = None,
    *,
    sources: int,
    tau: float,
    labels: Tensor | None = None,
    oracle_share: float | Tensor = 1.0,
    states: Tensor | None = None,
) -> Objective:
    """`oracle_distillation` under action values that no network gives but a function of the rows.

    Of a `Head`, logits and values of a chunk are made in the forward and once more in the backward pass.

    Args:
        logits: actor logits `[M, V]`, a tensor or a `Head`.
        values: action values `[C, V]` of a slice of C of the M rows, constants, the same at every call.
        weights, labels, oracle_share, states: as in `oracle_distillation`.
        sources: number of sources the loss is averaged over.
        tau: temperature of the oracle, above 0.

    Raises:
        ValueError: as `oracle_distillation`.
    """
    if states is None:
        return _distil_rows(logits, values, (weights, labels, oracle_share), sources, tau)
    if weights is None:
        raise ValueError("weights must be given where states are, got None")
    targets = state_targets(weights, labels, oracle_share, states, logits.shape[0])
    rows, taken = entries(logits, *targets.both())
    mixture = targets.weights, targets.tokens, targets.oracle_share
    found = _distil_rows(rows, values, mixture, sources, tau)
    correction = targets.correction(taken)
    total = found.diagnostics["cross_entropy"] + correction.detach()
    return Objective(found.loss + correction / sources, {**found.diagnostics, "cross_entropy": total})


def _distil_rows(
    logits: Rows,
    values: Callable[[slice], Tensor],
    mixture: tuple[Tensor | None, Tensor | None, float | Tensor],
    sources: int,
    tau: float,
) -> Objective:
    """`known_distillation` of rows with the weight, the label and the oracle's share of each."""
    weights, labels, share = mixture

    weights, labels, share = mixture

    def distil(rows: Tensor, part: slice) -> Objective:
        return oracle_distillation(
            rows,
            values(part).to(rows.dtype),
            None if weights is None else weights[part],
            sources=sources,
            tau=tau,
            labels=None if labels is None else labels[part],
            oracle_share=share[part] if isinstance(share, Tensor) else share,
        )

    if not isinstance(logits, Head):
        return distil(logits, slice(0, len(logits)))

    def distil_chunk(hidden: Tensor, weight: Tensor, bias: Tensor | None, part: slice) -> tuple[Tensor, ...]:
        chunk = replace(logits, hidden=hidden[part], weight=weight, bias=bias)
        found = distil(chunk.logits(), part)
        return found.loss, found.diagnostics["cross_entropy"], found.diagnostics["weight"]

    count = len(logits.hidden)
    size = choose_chunk_rows(count, logits.weight, logits.chunk_rows or 0, heads=2)
    parts = [
        checkpoint(
            *(distil_chunk, logits.hidden, logits.weight, logits.bias, slice(first, first + size)),
            use_reentrant=False,
            preserve_rng_state=False,
        )
        for first in range(0, max(count, 1), size)
    ]
    loss, cross_entropy, weight = (torch.stack(sums).sum() for sums in zip(*parts, strict=True))
    return Objective(loss, {"cross_entropy": cross_entropy, "weight": weight})


def _weighted(total: Tensor, weights: Tensor, mask: Tensor | None, sources: int) -> Objective:
    real = weights if mask is None else weights.masked_fill(~boolean_mask("mask", mask), 0.0)
    diagnostics = {"cross_entropy": total.detach(), "weight": real.to(total.dtype).sum()}
    return Objective(total / sources, diagnostics)
