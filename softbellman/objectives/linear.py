"""The objectives from features and output layers: the logits of a few rows exist at a time (``softbellman.losses.linear``).

Each is the objective of its name without ``linear_`` on ``logits = features @ weight.T + bias``, and on action values made the
same way: equations, diagnostics and errors are the same, only rounding differs. The critic's loss needs no values and has a
file of its own.

``chunk_rows`` are the rows whose logits exist at one time; None: a twentieth of them, at least 64 (docs/linear.md).

Notation: M rows, V vocabulary, H features; a second network may have another H.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from softbellman.losses import (
    linear_actor_loss,
    linear_soft_bellman_residual,
    linear_soft_target_cross_entropy,
    linear_soft_value,
    linear_token_cross_entropy,
)
from softbellman.losses.linear import choose_chunk_rows
from softbellman.objectives.augmented import oracle_distillation
from softbellman.objectives.objective import Objective
from softbellman.objectives.soft_q import residual_objective, shared_residual
from softbellman.objectives.states import linear_entries, state_targets


def linear_maximum_likelihood(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    labels: Tensor,
    *,
    sequences: int,
    chunk_rows: int | None = None,
) -> Objective:
    """:func:`maximum_likelihood` of a linear head.

    Args:
        features: what the output layer reads, Shape: ``[M, H]``.
        weight, bias: the output layer, Shape: ``[V, H]`` and ``[V]``.
        labels, sequences: as there, Shape: ``[M]``.
    """
    total = linear_token_cross_entropy(features, weight, labels, bias, reduction="sum", chunk_rows=chunk_rows)
    return Objective(total / sequences, {"nll": total.detach()})


def linear_weighted_likelihood(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    labels: Tensor,
    weights: Tensor,
    *,
    sources: int,
    states: Tensor | None = None,
    chunk_rows: int | None = None,
) -> Objective:
    """:func:`weighted_likelihood` of a linear head (RAML, eq. 2).

    Args:
        features: what the output layer reads, Shape: ``[M, H]``, with ``states`` ``[D, H]``.
        weight, bias: the output layer, Shape: ``[V, H]`` and ``[V]``.
        labels, weights, sources, states: as there, Shape: ``[M]``.
    """
    targets = None if states is None else state_targets(weights, labels, 0.0, states, len(features))
    total = linear_token_cross_entropy(
        features,
        weight,
        labels if targets is None or targets.tokens is None else targets.tokens,
        bias,
        reduction="sum",
        row_weights=weights if targets is None else targets.weights,
        chunk_rows=chunk_rows,
    )
    if targets is not None:
        total = total + targets.correction(linear_entries(features, weight, bias, *targets.both()))
    return _weighted(total, weights, sources)


def linear_oracle_distillation(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    q_features: Tensor,
    q_weight: Tensor,
    q_bias: Tensor,
    weights: Tensor | None = None,
    *,
    sources: int,
    tau: float,
    labels: Tensor | None = None,
    oracle_share: float | Tensor = 1.0,
    states: Tensor | None = None,
    chunk_rows: int | None = None,
) -> Objective:
    """:func:`oracle_distillation` of a linear head under the action values of another (VAML, eq. 17).

    Args:
        features: what the actor's output layer reads, Shape: ``[M, H]``, with ``states`` ``[D, H]``.
        weight, bias: the output layer, Shape: ``[V, H]`` and ``[V]``.
        q_features, q_weight, q_bias: the same of the oracle, constants, Shape: ``[M, H']`` or ``[D, H']``, ``[V, H']`` and
            ``[V]``.
        weights, sources, tau, labels, oracle_share, states: as there, Shape: ``[M]``.

    Raises:
        ValueError: as there.
    """
    row_weights, targets = weights, None
    if states is not None:
        if weights is None:
            raise ValueError("weights must be given where states are, got None")
        targets = state_targets(weights, labels, oracle_share, states, len(features))
        row_weights, labels, oracle_share = targets.weights, targets.tokens, targets.oracle_share
    total = linear_soft_target_cross_entropy(
        features,
        weight,
        q_features,
        q_weight,
        bias,
        q_bias,
        tau=tau,
        targets=labels,
        oracle_weight=oracle_share,
        reduction="sum",
        row_weights=row_weights,
        chunk_rows=chunk_rows,
    )
    if targets is not None:
        total = total + targets.correction(linear_entries(features, weight, bias, *targets.both()))
    return _weighted(total, features.new_ones(len(features)) if weights is None else weights, sources)


def linear_known_distillation(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    values: Callable[[slice], Tensor],
    *,
    sources: int,
    tau: float,
    chunk_rows: int | None = None,
) -> Objective:
    """:func:`oracle_distillation` of a linear head under action values that no network gives but a function of the rows.

    Logits and values of a chunk are made in the forward and once more in the backward pass.

    Args:
        features: what the actor's output layer reads, Shape: ``[M, H]``.
        weight, bias: the output layer, Shape: ``[V, H]`` and ``[V]``.
        values: action values of a slice of C of the M rows, constants, the same at every call, Shape: ``[C, V]``.
        sources, tau: as there.
    """

    def distil(features: Tensor, weight: Tensor, bias: Tensor, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        found = oracle_distillation(
            linear(features[part], weight, bias), values(part).to(weight.dtype), sources=sources, tau=tau
        )
        return found.loss, found.diagnostics["cross_entropy"], found.diagnostics["weight"]

    size = chunk_rows or choose_chunk_rows(len(features), weight, heads=2)
    parts = [
        checkpoint(
            *(distil, features, weight, bias, slice(first, first + size)),
            use_reentrant=False,
            preserve_rng_state=False,
        )
        for first in range(0, max(len(features), 1), size)
    ]
    loss, cross_entropy, count = (torch.stack(sums).sum() for sums in zip(*parts, strict=True))
    return Objective(loss, {"cross_entropy": cross_entropy, "weight": count})


def linear_soft_q_objective(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    actions: Tensor,
    rewards: Tensor,
    *,
    sequences: int,
    tau: float,
    terminal: Tensor,
    counted: Tensor | None = None,
    states: Tensor | None = None,
    chunk_rows: int | None = None,
) -> Objective:
    """:func:`soft_q_objective` of the packed rows of a linear head (eq. 16).

    Args:
        features: what the output layer reads, the rows of one sequence behind those of another, Shape: ``[M, H]``, with
            ``states`` in any order, ``[D, H]``.
        weight, bias: the output layer, Shape: ``[V, H]`` and ``[V]``.
        actions, rewards, sequences, tau, terminal, counted, states: as there, Shape: ``[M]``.
    """
    if states is not None:
        values = linear_soft_value(features, weight, bias, tau=tau, chunk_rows=chunk_rows)[states]
        taken = linear_entries(features, weight, bias, states, actions)
        return residual_objective(shared_residual(taken, values, rewards, terminal), counted, sequences)
    residual = linear_soft_bellman_residual(
        features[None],  # (M, H) -> (1, M, H)
        weight,
        actions[None],
        rewards[None],
        bias,
        tau=tau,
        terminal=terminal[None],
        chunk_rows=chunk_rows,
    )
    return residual_objective(residual.squeeze(0), counted, sequences)


def linear_actor_objective(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    q_features: Tensor,
    q_weight: Tensor,
    q_bias: Tensor,
    *,
    sequences: int,
    tau: float,
    entropy: Literal["exact", "normalized", "none"] = "exact",
    chunk_rows: int | None = None,
) -> Objective:
    """:func:`actor_objective` of a linear head under the action values of another (eq. 20).

    Args:
        features: what the actor's output layer reads, Shape: ``[M, H]``.
        weight, bias: the output layer, ``-inf`` in the bias of tokens that are never drawn, Shape: ``[V, H]`` and ``[V]``.
        q_features, q_weight, q_bias: the same of the critic, constants, Shape: ``[M, H']``, ``[V, H']`` and ``[V]``.
        sequences, tau, entropy: as there.
    """
    total, entropies = linear_actor_loss(
        features,
        weight,
        q_features,
        q_weight,
        bias,
        q_bias,
        tau=tau,
        entropy=entropy,
        reduction="sum",
        chunk_rows=chunk_rows,
    )
    return Objective(total / sequences, {"entropy": entropies.sum(), "value": -total.detach()})


def _weighted(total: Tensor, weights: Tensor, sources: int) -> Objective:
    return Objective(
        total / sources, {"cross_entropy": total.detach(), "weight": weights.to(total.dtype).sum()}
    )
