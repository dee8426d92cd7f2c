"""Objectives on weighted sequences: RAML (eq. 2), VAML (eq. 17), optimal completion distillation.

A source has K sequences with weights that add up to 1, the self-normalised importance weights of the payoff distribution
``P_R(y) = exp(R(y) / tau) / Z`` (eq. 1). RAML raises the likelihood of their tokens,

    -sum_k w_k sum_t log pi(y_t^k | y_<t^k),

VAML gives every one of their prefixes the whole distribution ``P_Q = softmax(Q / tau)`` as target (eq. 3 and 17),

    -sum_k w_k sum_t sum_w P_Q(w | y_<t^k) log pi(w | y_<t^k),

and optimal completion distillation is the same with the exact values of the edit distance on sequences drawn from pi.
"""

from __future__ import annotations

from torch import Tensor

from softbellman.losses import soft_target_cross_entropy, soft_value, token_cross_entropy
from softbellman.objectives.objective import Objective
from softbellman.objectives.states import entries, state_targets


def weighted_likelihood(
    logits: Tensor,
    labels: Tensor,
    weights: Tensor,
    mask: Tensor | None = None,
    *,
    sources: int,
    states: Tensor | None = None,
) -> Objective:
    """RAML: negative log-likelihood of weighted sequences (eq. 2), mean over sources.

    Args:
        logits: actor logits along the sequences, Shape: ``[..., V]``.
        labels: their tokens ``y_t``, int64, Shape: ``[...]``.
        weights: weight of the sequence a row belongs to, a constant, Shape: ``[...]``.
        mask: True at real tokens, Shape: ``[...]``; None when all are.
        sources: number of sources the loss is averaged over.
        states: row of ``logits`` that a packed position reads, where some share one, int64, Shape: ``[M]``; then logits are
            Shape: ``[D, V]``.

    Returns:
        The objective with diagnostics ``cross_entropy`` (weighted nats) beside ``weight``, the sum of the weights of real
        tokens.
    """
    if states is None:
        return _weighted(token_cross_entropy(logits, labels, mask), weights, mask, sources)
    logits, taken = entries(logits, states, labels)
    normalizers = soft_value(logits, tau=1.0)[states]  # (D,) -> (M,)
    return _weighted(normalizers - taken, weights, mask, sources)


def oracle_distillation(
    logits: Tensor,
    q: Tensor,
    weights: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    sources: int,
    tau: float,
    labels: Tensor | None = None,
    oracle_share: float | Tensor = 1.0,
    states: Tensor | None = None,
) -> Objective:
    """VAML: cross entropy of the actor under the oracle's ``softmax(Q / tau)`` (eq. 17), mean over sources.

    Args:
        logits: actor logits along the sequences, Shape: ``[..., V]``.
        q: the oracle's values at the same prefixes, a constant, Shape: ``[..., V]``.
        weights: weight of the sequence a row belongs to, a constant, Shape: ``[...]``; None: 1.
        mask: True at real tokens, Shape: ``[...]``; None when all are.
        sources: number of sources the loss is averaged over.
        tau: temperature of the oracle, above 0.
        labels: tokens of the sequences, int64, Shape: ``[...]``; needed where ``oracle_share`` is not 1.
        oracle_share: part of the target that is the oracle's, one number or one for each row; the rest is the row's label.
        states: row of ``logits`` and ``q`` that a packed position reads, where some share one, int64, Shape: ``[M]``; then
            these two are Shape: ``[D, V]``, and weights are needed.

    Returns:
        The objective with diagnostics ``cross_entropy`` (weighted nats) beside ``weight``, the sum of the weights of real
        tokens.

    Raises:
        ValueError: ``states`` without ``weights``, or without ``labels`` where they have a share.
    """
    if states is not None:
        return _shared_distillation(logits, q, weights, labels, oracle_share, states, sources, tau)
    rows = soft_target_cross_entropy(
        logits, q, tau=tau, mask=mask, targets=labels, oracle_weight=oracle_share
    )
    return _weighted(rows, weights, mask, sources)


def _shared_distillation(
    logits: Tensor,
    q: Tensor,
    weights: Tensor | None,
    labels: Tensor | None,
    oracle_share: float | Tensor,
    states: Tensor,
    sources: int,
    tau: float,
) -> Objective:
    """M positions with D states: one mixture for a state, with the smallest of its labels; others change an entry."""
    if weights is None:
        raise ValueError("weights must be given where states are, got None")
    targets = state_targets(weights, labels, oracle_share, states, len(logits))
    logits, taken = entries(logits, *targets.both())
    rows = soft_target_cross_entropy(
        logits, q, tau=tau, targets=targets.tokens, oracle_weight=targets.oracle_share
    )
    loss = (targets.weights * rows).sum() + targets.correction(taken)
    return Objective(loss / sources, {"cross_entropy": loss.detach(), "weight": weights.sum()})


def _weighted(rows: Tensor, weights: Tensor | None, mask: Tensor | None, sources: int) -> Objective:
    shares = rows.new_ones(rows.shape) if weights is None else weights.to(rows.dtype)
    if mask is not None:
        shares = shares.masked_fill(~mask, 0.0)
    total = (shares * rows).sum()
    return Objective(total / sources, {"cross_entropy": total.detach(), "weight": shares.sum()})
