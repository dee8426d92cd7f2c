"""Entropy-regularised actor-critic (ERAC); with `tau = 0` it is the actor-critic (AC) of the same form.

One sequence `y_1..T` is drawn from the actor. With rewards `r_t = R(y_1..t) - R(y_1..t-1)` (Eq. (13)) and the policy value of
the next state `V(y_1..t) = tau H(pi(.|y_1..t)) + sum_w pi(w|y_1..t) Qbar(y_1..t, w)`:

- critic, Eq. (18)-19:  `sum_t [Q(y_<t, y_t) - (r_t + V(y_1..t))]^2 + lambda_var sum_t sum_w [Q(y_<t, w) - mean_w Q]^2`
- actor,  Eq. (20):     `-sum_t [sum_w pi(w|y_<t) Q(y_<t, w) + tau H(pi(.|y_<t))]`, all V actions, no baseline.

`softbellman.td_targets` makes the targets `r_t + V(y_1..t)` of these, or returns over more steps.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from softbellman.core.head import Rows
from softbellman.losses import actor_loss, critic_loss
from softbellman.objectives.objective import Objective


def critic_objective(
    q: Rows,
    actions: Tensor,
    targets: Tensor,
    mask: Tensor | None = None,
    *,
    sequences: int,
    smoothness: float,
    penalty: Literal["mean", "sum", "published"] = "sum",
    inplace_backward: bool = False,
) -> Objective:
    """Squared TD error and smoothness of the critic (Eq. (18)).

    Args:
        q: critic values `Q(y_<t, .)` `[..., V]`, a tensor or a `Head`.
        actions: drawn tokens `y_t`, int64, `[...]`.
        targets: `Qhat_t` of `softbellman.td_targets`, `[...]`, a constant.
        mask: True at real tokens, `[...]`; None when all are.
        sequences: number of sequences the loss is averaged over.
        smoothness: weight `lambda_var`.
        penalty: `sum` is the equation above; `mean` weights the variance over V, so that the same weight serves any
            vocabulary; `published` is the authors' code, half the squared error and the unbiased variance over V.
        inplace_backward: let the backward pass of a `Head` scale saved gradients in place; it then may run once.

    Returns:
        The objective with diagnostics `td_error` (sum of absolute errors) and `td_squared`.
    """
    scale, smoothness = penalty_scales(penalty, smoothness, q.shape[-1])
    total, error, _ = critic_loss(
        q, actions, targets, mask, smoothness=smoothness, reduction="sum", inplace_backward=inplace_backward
    )
    return Objective(
        scale * total / sequences, {"td_error": error.abs().sum(), "td_squared": error.square().sum()}
    )


def penalty_scales(
    penalty: Literal["mean", "sum", "published"], smoothness: float, vocabulary: int
) -> tuple[float, float]:
    """Factor of the whole loss, and within it of `sum_w [Q_w - mean_w Q]^2`."""
    if penalty == "mean":
        return 1.0, smoothness / vocabulary
    if penalty == "published":
        return 0.5, 2.0 * smoothness / max(vocabulary - 1, 1)
    return 1.0, smoothness


def actor_objective(
    logits: Rows,
    q: Rows,
    mask: Tensor | None = None,
    *,
    sequences: int,
    tau: float,
    entropy: Literal["exact", "normalized", "none"] = "exact",
    prior: Rows | None = None,
    inplace_backward: bool = False,
) -> Objective:
    """Negative expected value and entropy of the policy over the whole vocabulary (Eq. (20)).

    With a prior the divergence from it takes the place of the entropy: `-sum_t [sum_w pi Q - tau KL(pi, pi_0)]`.

    Args:
        logits: actor logits along the drawn sequences `[..., V]`, a tensor or a `Head`.
        q: critic values at the same states `[..., V]`, a tensor or a `Head`, constants.
        mask: True at real tokens, `[...]`; None when all are.
        sequences: number of sequences the loss is averaged over.
        tau: temperature, >= 0.
        entropy: `exact` (Eq. (20)), `normalized` (the published code divides `log pi` by its L2 norm over V) or `none`.
        prior: logits of pi_0 at the same states `[..., V]`, a tensor or a `Head`, constants; with `exact` alone.
        inplace_backward: let the backward pass of a `Head` scale saved gradients in place; it then may run once.

    Returns:
        The objective with diagnostics `entropy` (nats) and `value` (the negated loss rows).
    """
    total, entropies = actor_loss(
        logits,
        q,
        tau=tau,
        mask=mask,
        entropy=entropy,
        prior=prior,
        reduction="sum",
        inplace_backward=inplace_backward,
    )
    return Objective(total / sequences, {"entropy": entropies.detach().sum(), "value": -total.detach()})
