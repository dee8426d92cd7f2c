"""A policy weighed against action values: its value, Eq. (9) and (19), and the actor's loss over all actions, Eq. (20).

Forward one read of each input, backward one more of each and one write of each gradient.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from softbellman.core.checks import check_choice, check_mask, check_temperature
from softbellman.core.head import Rows, check_row_argument, check_rows_beside
from softbellman.core.launch import launch, row_matrix, several_per_row, vector
from softbellman.core.row_operator import RowOperator, check_reduction

ENTROPY_MODES = ("exact", "normalized", "none")  # by the native core's number


class PolicyValue(NamedTuple):
    """What a policy is worth at each row: `value` `[...]` and its `entropy` `[...]` in nats."""

    value: Tensor
    entropy: Tensor


class ActorLoss(NamedTuple):
    """`loss` to minimise, `[...]` or reduced, and the policy's `entropy` `[...]` in nats."""

    loss: Tensor
    entropy: Tensor


def policy_value(
    logits: Rows, q: Rows, *, tau: float, prior: Rows | None = None, mask: Tensor | None = None
) -> PolicyValue:
    """`sum_w pi(w) q(w) + tau H(pi)` with pi = softmax(logits), and the entropy H(pi); Eq. (9) and (19).

    With a prior the entropy gives way to the divergence from pi_0 = softmax(prior): the value is then
    `sum_w pi(w) [q(w) - tau log(pi(w) / pi_0(w))]`. Differentiable in logits and in q, through both results.

    Args:
        logits: unnormalised log-probabilities `[..., V]` of the policy, a tensor or a `Head`.
        q: action values `[..., V]`, a tensor with the dtype of logits or a `Head`; `-inf` only where the policy is 0.
        tau: weight of the entropy in the unit of q, 0 or between 1e-30 and 1e30; 0 leaves the plain expectation.
        prior: logits `[..., V]` or `[V]` of the prior policy, a tensor or a `Head`, constants; None: no prior.
        mask: bool or 0/1 integers `[...]`, True for real rows. Masked rows are not read and give 0.

    Returns:
        value `[...]` in the unit of q and entropy `[...]` in nats, float64 for float64 logits, else float32. A
        token of probability 0 contributes nothing whatever its q; logits that are `-inf` throughout give 0
        for both.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or range.

    Example:
        >>> policy_value(torch.zeros(2), torch.tensor([1.0, 3.0]), tau=0.0)
        PolicyValue(value=tensor(2.), entropy=tensor(0.6931))
    """
    check_row_argument("logits", logits)
    check_rows_beside("q", q, "logits", logits)
    prior = check_prior(prior, "logits", logits)
    mask = check_mask(mask, "logits", logits)
    check_temperature("tau", tau, zero=True)
    value, entropy, *_ = POLICY((logits, q, prior), (tau, 0), mask)
    return PolicyValue(value, entropy)


def actor_loss(
    logits: Rows,
    q: Rows,
    *,
    tau: float,
    mask: Tensor | None = None,
    entropy: str = "exact",
    prior: Rows | None = None,
    reduction: str = "none",
    row_weights: Tensor | None = None,
    inplace_backward: bool = False,
) -> ActorLoss:
    """`-[sum_w pi(w) q(w) + tau H(pi)]` with pi = softmax(logits), over all V actions; Eq. (20).

    Differentiable in logits through loss and entropy; q and the prior are constants. The gradient of the loss at w
    is `-pi(w) [q(w) - tau log pi(w) - value]`.

    Args:
        logits: unnormalised log-probabilities `[..., V]` of the actor, a tensor or a `Head`.
        q: action values `[..., V]` of the critic, a tensor with the dtype of logits or a `Head`; `-inf` only where
            the actor's logits are.
        tau: weight of the entropy in the unit of q, 0 or between 1e-30 and 1e30.
        mask: bool or 0/1 integers `[...]`, True for real rows. Masked rows are not read and give 0.
        entropy: "exact" as above; "normalized" divides the entropy's weight by `1e-8 + ||log pi||_2`, a constant,
            as the published code does; "none" leaves the entropy out.
        prior: logits `[..., V]` or `[V]` of the prior policy pi_0, a tensor or a `Head`: `log pi` becomes
            `log(pi / pi_0)`; with "exact" alone. None: no prior.
        reduction: of the loss: "none", or "sum" or "mean" over the real rows. With a `Head` a reduced loss takes
            its gradients along in the forward pass, which saves two matmuls; the entropy is then without a graph.
        row_weights: `[...]` floating, what the loss of each row is multiplied by; constants. None: 1.
        inplace_backward: let the backward pass of a reduced head scale the saved gradients in place. It then may
            run once.

    Returns:
        loss in the unit of q, `[...]` or a scalar, and entropy `[...]` in nats; float64 for float64 logits, else
        float32. Logits that are `-inf` throughout give 0 for both.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or range.

    Example:
        >>> actor_loss(torch.zeros(2), torch.tensor([1.0, 3.0]), tau=1.0)
        ActorLoss(loss=tensor(-2.6931), entropy=tensor(0.6931))
    """
    check_row_argument("logits", logits)
    check_rows_beside("q", q, "logits", logits)
    prior = check_prior(prior, "logits", logits)
    mask = check_mask(mask, "logits", logits)
    check_temperature("tau", tau, zero=True)
    mode = check_choice("entropy", entropy, ENTROPY_MODES)
    if prior is not None and mode != 0:
        raise ValueError(f"entropy must be 'exact' where a prior is given, got {entropy!r}")
    how = check_reduction(reduction, row_weights, inplace_backward, "logits", logits)
    value, policy_entropy, *_ = POLICY.reduce((logits, q.detach(), prior), (tau, mode), mask, how)
    return ActorLoss(-value, policy_entropy)


def check_prior(prior: Rows | None, rows_name: str, rows: Rows) -> Rows | None:
    """The logits of a prior beside `rows`, a vector `[V]` being that of every row; constants."""
    if prior is None:
        return None
    if isinstance(prior, Tensor) and prior.dim() == 1 and len(rows.shape) > 1:
        if prior.shape != rows.shape[-1:]:
            allowed = f"{tuple(rows.shape[-1:])} or {tuple(rows.shape)}"
            raise ValueError(f"prior must have shape {allowed}, got {tuple(prior.shape)}")
        prior = prior.expand(rows.shape)
    check_rows_beside("prior", prior, rows_name, rows)
    return prior.detach()


def policy_forward(
    logits: Tensor, q: Tensor, prior: Tensor | None, tau: float, entropy_mode: int, mask: Tensor | None
) -> tuple[Tensor, ...]:
    """Value and entropy of rows `[..., V]`, and what the backward pass needs of a row besides.

    These are the log-normaliser, what its rounding does to the weights, the low part of the value, and the effective
    temperature.
    """
    results = several_per_row(logits, 6)
    value, policy_entropy, log_normalizer, correction, value_low, effective_tau = results
    launch(
        "policy_forward",
        logits,
        share_rows=True,
        logits=row_matrix(logits),
        q=row_matrix(q),
        prior=None if prior is None else row_matrix(prior),
        tau=tau,
        entropy_mode=entropy_mode,
        mask=vector(mask),
        value=value,
        entropy=policy_entropy,
        log_normalizer=log_normalizer,
        correction=correction,
        value_low=value_low,
        effective_tau=effective_tau,
    )
    return results


def policy_backward(
    grad_value: Tensor | None,
    grad_entropy: Tensor | None,
    logits: Tensor,
    q: Tensor,
    prior: Tensor | None,
    tau: float,
    entropy_mode: int,
    mask: Tensor | None,
    value: Tensor,
    entropy: Tensor,
    log_normalizer: Tensor,
    correction: Tensor,
    value_low: Tensor,
    effective_tau: Tensor,
    grad_logits: Tensor | None,
    grad_q: Tensor | None,
) -> None:
    """Fill the gradients of rows `[..., V]`, each a tensor like its rows; None where not wanted."""
    if grad_value is None:
        if grad_q is not None:
            grad_q.zero_()  # the entropy does not depend on q
            grad_q = None
        if grad_logits is None:
            return
    launch(
        "policy_backward",
        logits,
        logits=row_matrix(logits),
        q=row_matrix(q),
        prior=None if prior is None else row_matrix(prior),
        mask=vector(mask),
        value=value,
        entropy=entropy,
        log_normalizer=log_normalizer,
        correction=correction,
        value_low=value_low,
        effective_tau=effective_tau,
        grad_value=grad_value,
        grad_entropy=grad_entropy,
        grad_logits=None if grad_logits is None else row_matrix(grad_logits),
        grad_q=None if grad_q is None else row_matrix(grad_q),
    )


POLICY = RowOperator(
    name="policy",
    rows=("logits", "q", "prior?"),
    inputs=("float tau", "int entropy_mode"),
    results=("value", "entropy", "log_normalizer", "correction", "value_low", "effective_tau"),
    outputs=2,
    saved=("value", "entropy", "log_normalizer", "correction", "value_low", "effective_tau"),
    differentiable=("logits", "q"),
    forward=policy_forward,
    backward=policy_backward,
)
