"""The critic's loss without its values: exact sums over the vocabulary from the output layer's second moments.

With a linear output layer, ``Q(y_<t, w) = h_t . W_w + b_w``, eq. 18 needs of a row only the value of the drawn token and the
spread over the vocabulary, and the spread is a quadratic form in ``h_t``:

    sum_w [Q_w - mean_w Q]^2  =  h' G h + 2 h' k + c,   G = Z' Z,   k = Z' z,   c = z' z,

where ``Z = W - mean_w W`` and ``z = b - mean_w b``. Nothing cancels: both are centred first. G costs ``2 V H^2`` operations and
its gradient as many, once for all rows; values and their gradient cost ``6 M V H``.

Notation: M rows, V vocabulary, H features.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn.functional import embedding

from softbellman.objectives.actor_critic import penalty_scales
from softbellman.objectives.objective import Objective


def linear_critic_objective(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    actions: Tensor,
    targets: Tensor,
    *,
    sequences: int,
    smoothness: float,
    penalty: Literal["mean", "sum", "published"] = "sum",
) -> Objective:
    """:func:`critic_objective` of ``q = features @ weight.T + bias``, which is never computed.

    Args:
        features: what the output layer reads, Shape: ``[M, H]``.
        weight, bias: the output layer, Shape: ``[V, H]`` and ``[V]``.
        actions: drawn tokens ``y_t``, int64, Shape: ``[M]``.
        targets: ``Qhat_t`` of :func:`td_targets`, Shape: ``[M]``, a constant.
        sequences: number of sequences the loss is averaged over.
        smoothness: weight ``lambda_var``.
        penalty: as there.

    Returns:
        The objective with diagnostics ``td_error`` (sum of absolute errors) and ``td_squared``.
    """
    scale, smoothness = penalty_scales(penalty, smoothness, len(weight))
    taken = (features * embedding(actions, weight)).sum(1) + embedding(actions, bias[:, None]).squeeze(1)
    error = taken - targets.detach()
    squared = error.square().sum()
    loss = squared
    if smoothness:
        loss = loss + smoothness * vocabulary_spread(features, weight, bias).sum()
    detached = error.detach()
    return Objective(
        scale * loss / sequences, {"td_error": detached.abs().sum(), "td_squared": squared.detach()}
    )


def vocabulary_spread(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``sum_w [Q_w - mean_w Q]^2`` of every row. Shape: ``[M, H], [V, H], [V] -> [M]``."""
    # The spread does not change with the means: their gradient is 0.
    centred = weight - weight.mean(0).detach()  # (V, H)
    level = bias - bias.mean().detach()
    # The gradient with respect to G is symmetric, so one of its two equal products is enough.
    half = centred.detach().t() @ centred  # (H, H)
    moments = 2.0 * half - half.detach()
    cross = centred.t() @ level  # (H,)
    return ((features @ moments) * features).sum(1) + 2.0 * (features @ cross) + level.square().sum()
