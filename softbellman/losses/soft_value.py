"""Soft value of a row of action values, Eq. (14). Forward one read, backward one read and one write."""

from __future__ import annotations

import torch
from torch import Tensor

from softbellman.core.checks import check_mask, check_temperature
from softbellman.core.head import Rows, check_row_argument
from softbellman.core.launch import launch, row_matrix, several_per_row, vector
from softbellman.core.row_operator import RowOperator
from softbellman.core.shards import Exchange, cleared, merge_normalizers
from softbellman.losses.policy import check_prior
from softbellman.losses.token_statistics import token_statistics_forward


def soft_value(q: Rows, *, tau: float, prior: Rows | None = None, mask: Tensor | None = None) -> Tensor:
    """The soft value `V = tau log sum_w exp(q(w) / tau)` of each row; Eq. (14).

    With a prior it is `tau log sum_w pi_0(w) exp(q(w) / tau)`, pi_0 = softmax(prior): the value of the best policy
    when `tau KL(pi || pi_0)` is subtracted. Differentiable in q: the gradient is that best policy.

    Args:
        q: action values `[..., V]`, a tensor or a `Head`.
        tau: temperature in the unit of q, between 1e-30 and 1e30.
        prior: logits `[..., V]` or `[V]` of the prior policy, a tensor with the dtype of q or a `Head`; constants.
            None counts every token once.
        mask: bool or 0/1 integers `[...]`, True for real rows. A masked row is not read; its value and gradient are 0.

    Returns:
        Values `[...]` in the unit of q, float64 for float64 q, else float32. A row that is `-inf` throughout
        has the value `-inf` and a zero gradient.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or range.

    Example:
        >>> soft_value(torch.zeros(2), tau=1.0)  # log 2
        tensor(0.6931)
    """
    check_row_argument("q", q)
    check_temperature("tau", tau)
    prior = check_prior(prior, "q", q)
    mask = check_mask(mask, "q", q)
    return SOFT_VALUE((q, prior), (tau,), mask)[0]


def soft_value_forward(
    q: Tensor, prior: Tensor | None, tau: float, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Soft values of rows `[..., V]`, the normalisers of the gradient's weights and what their rounding does to these."""
    value, normalizer, correction = several_per_row(q, 3)
    launch(
        "soft_value_forward",
        q,
        share_rows=True,
        q=row_matrix(q),
        prior=None if prior is None else row_matrix(prior),
        tau=tau,
        mask=vector(mask),
        value=value,
        normalizer=normalizer,
        correction=correction,
        actions=None,
        gathered=None,
    )
    return value, normalizer, correction


def soft_value_of_shards(
    q: Tensor, prior: Tensor | None, tau: float, mask: Tensor | None, exchange: Exchange
) -> tuple[Tensor, Tensor, Tensor]:
    """What `soft_value_forward` gives, of rows whose columns `[..., V_local]` are spread over processes."""
    value, normalizer, correction = soft_value_forward(q, prior, tau, mask)
    if prior is None:
        rounded, corrections = exchange(value, correction)
        whole = merge_normalizers(rounded, corrections, q, temperature=tau, mask=mask)
        found = cleared(whole.rounded, q, mask)
        return found, found.clone(), whole.correction
    of_prior = token_statistics_forward(prior, None, mask)[2:]
    rounded, corrections, *every = exchange(normalizer, correction, *of_prior)
    whole = merge_normalizers(rounded, corrections, q, temperature=tau, mask=mask)
    exact = whole.exact - tau * merge_normalizers(every[0], every[1], prior, mask=mask).exact
    exact = torch.where(whole.exact == -torch.inf, -torch.inf, exact)
    return cleared(exact, q, mask), cleared(whole.rounded, q, mask), whole.correction


def soft_value_backward(
    grad_value: Tensor | None,
    q: Tensor,
    prior: Tensor | None,
    tau: float,
    mask: Tensor | None,
    normalizer: Tensor,
    correction: Tensor,
    grad_q: Tensor,
) -> None:
    """Fill the gradient of rows `[..., V]`."""
    _soft_value_backward(grad_value, None, q, prior, tau, None, mask, normalizer, correction, grad_q)


def action_soft_value_forward(
    q: Tensor, tau: float, actions: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Soft values of rows `[..., V]`, q at the actions, and what the values' rounding does to the weights."""
    value, gathered, correction = several_per_row(q, 3)
    launch(
        "soft_value_forward",
        q,
        share_rows=True,
        q=row_matrix(q),
        tau=tau,
        mask=vector(mask),
        value=value,
        correction=correction,
        actions=vector(actions),
        gathered=gathered,
    )
    return value, gathered, correction


def action_soft_value_of_shards(
    q: Tensor, tau: float, actions: Tensor, mask: Tensor | None, exchange: Exchange
) -> tuple[Tensor, Tensor, Tensor]:
    """What `action_soft_value_forward` gives, of rows whose columns `[..., V_local]` are spread over processes."""
    rounded, chosen, corrections = exchange(*action_soft_value_forward(q, tau, actions, mask))
    whole = merge_normalizers(rounded, corrections, q, temperature=tau, mask=mask)
    gathered = chosen.amax(0)  # -inf where a process has not the action
    return cleared(whole.rounded, q, mask), cleared(gathered, q, mask), whole.correction


def action_soft_value_backward(
    grad_value: Tensor | None,
    grad_gathered: Tensor | None,
    q: Tensor,
    tau: float,
    actions: Tensor,
    mask: Tensor | None,
    value: Tensor,
    correction: Tensor,
    grad_q: Tensor,
) -> None:
    """Fill the gradient of rows `[..., V]`."""
    _soft_value_backward(grad_value, grad_gathered, q, None, tau, actions, mask, value, correction, grad_q)


def _soft_value_backward(
    grad_value: Tensor | None,
    grad_gathered: Tensor | None,
    q: Tensor,
    prior: Tensor | None,
    tau: float,
    actions: Tensor | None,
    mask: Tensor | None,
    normalizer: Tensor,
    correction: Tensor,
    grad_q: Tensor,
) -> None:
    launch(
        "soft_value_backward",
        q,
        q=row_matrix(q),
        prior=None if prior is None else row_matrix(prior),
        tau=tau,
        mask=vector(mask),
        actions=vector(actions),
        normalizer=normalizer,
        correction=correction,
        grad_value=grad_value,
        grad_gathered=grad_gathered,
        grad_q=row_matrix(grad_q),
    )


SOFT_VALUE = RowOperator(
    name="soft_value",
    rows=("q", "prior?"),
    inputs=("float tau",),
    results=("value", "normalizer", "correction"),
    outputs=1,
    saved=("normalizer", "correction"),
    differentiable=("q",),
    forward=soft_value_forward,
    backward=soft_value_backward,
    sharded=soft_value_of_shards,
)
ACTION_SOFT_VALUE = RowOperator(
    name="action_soft_value",
    rows=("q",),
    inputs=("float tau", "Tensor actions"),
    results=("value", "gathered", "correction"),
    outputs=2,
    saved=("value", "correction"),
    differentiable=("q",),
    forward=action_soft_value_forward,
    backward=action_soft_value_backward,
    sharded=action_soft_value_of_shards,
)


def action_soft_value(
    q: Rows, actions: Tensor, *, tau: float, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The soft value of each row and its q at the action, `[...]` each, from one read; arguments are checked by the caller."""
    value, gathered, _ = ACTION_SOFT_VALUE((q,), (tau, actions), mask)
    return value, gathered
