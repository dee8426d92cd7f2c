"""Critic regression with the variance penalty over the vocabulary, Eq. (18) and the smoothness term.

The chosen value, the mean and the spread come from one read of q; backward is one read and one write.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from softbellman.core.checks import check_ids, check_mask, check_not_negative, check_numbers, statistic_dtype
from softbellman.core.head import Head, Rows, check_row_argument
from softbellman.core.launch import launch, row_matrix, several_per_row, vector
from softbellman.core.row_operator import Reduction, RowOperator, check_reduction, reduced
from softbellman.losses.second_moments import moments_pay, moments_terms


class CriticLoss(NamedTuple):
    """`loss`, `[...]` or reduced, and its parts without a graph: `td_error` `[...]` and `spread` `[...]`."""

    loss: Tensor
    td_error: Tensor
    spread: Tensor


def critic_loss(
    q: Rows,
    actions: Tensor,
    targets: Tensor,
    mask: Tensor | None = None,
    *,
    smoothness: float = 0.0,
    reduction: str = "none",
    row_weights: Tensor | None = None,
    inplace_backward: bool = False,
) -> CriticLoss:
    """`(q(a) - target)^2 + smoothness sum_w (q(w) - mean_w q)^2` for each row; Eq. (18) and the smoothness term.

    Differentiable in q through the loss; targets are constants, td_error and spread are reported without a
    graph.

    A `Head` without softcap and with more rows than hidden units is never multiplied out: its spread is a quadratic
    form in the hidden states, whose matrix, the second moments of the output layer, costs `2 V H^2` operations once
    for all rows. The result is exact, within rounding. Other heads are formed a chunk of rows at a time.

    Args:
        q: action values `[..., V]`, a tensor or a `Head`.
        actions: int64 `[...]`, the tokens taken. Ids outside [0, V) raise on the CPU; on a GPU they are not
            looked for, since that would synchronize.
        targets: `[...]` floating, the regression targets of Eq. (19) in the unit of q.
        mask: bool or 0/1 integers `[...]`, True for real rows. Masked rows are not read and give 0.
        smoothness: weight of the spread, at least 0.
        reduction: of the loss: "none", or "sum" or "mean" over the real rows. With a chunked `Head` a reduced loss
            takes its gradients along in the forward pass, which saves a matmul.
        row_weights: `[...]` floating, what the loss of each row is multiplied by; constants. None: 1.
        inplace_backward: let the backward pass of a reduced head scale the saved gradients in place. It then may
            run once.

    Returns:
        loss in the squared unit of q, `[...]` or a scalar; td_error = q(a) - target and spread `[...]`; float64 for
        float64 q, else float32. Tokens whose q is `-inf` take no part in the mean or in the spread.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or range.

    Example:
        >>> critic_loss(torch.tensor([1.0, 3.0]), torch.tensor(1), torch.tensor(2.5), smoothness=0.5)
        CriticLoss(loss=tensor(1.2500), td_error=tensor(0.5000), spread=tensor(2.))
    """
    check_row_argument("q", q)
    check_ids("actions", actions, "q", q)
    check_numbers("targets", targets, "q", q)
    mask = check_mask(mask, "q", q)
    check_not_negative("smoothness", smoothness)
    how = check_reduction(reduction, row_weights, inplace_backward, "q", q)
    targets = targets.detach()
    if isinstance(q, Head) and moments_pay(q):
        return _from_moments(q, actions, targets, mask, smoothness, how)
    loss, td_error, spread, *_ = CRITIC.reduce((q,), (actions, targets, smoothness), mask, how)
    return CriticLoss(loss, td_error, spread)


def _from_moments(
    q: Head, actions: Tensor, targets: Tensor, mask: Tensor | None, smoothness: float, how: Reduction
) -> CriticLoss:
    error, spread = moments_terms(q.cast(), actions, targets, mask, needs_spread_gradient=smoothness > 0)
    loss = error.square()
    if smoothness > 0:
        loss = loss + smoothness * spread
    return CriticLoss(reduced(loss, how, mask), error.detach(), spread.detach())


def critic_forward(
    q: Tensor, actions: Tensor, targets: Tensor, smoothness: float, mask: Tensor | None
) -> tuple[Tensor, ...]:
    """Loss, td_error and spread of rows `[..., V]`, and their mean in two parts."""
    results = several_per_row(q, 5)
    loss, td_error, spread, mean, mean_low = results
    launch(
        "critic_forward",
        q,
        share_rows=True,
        q=row_matrix(q),
        actions=vector(actions),
        targets=vector(targets, statistic_dtype(q.dtype)),
        smoothness=smoothness,
        mask=vector(mask),
        loss=loss,
        td_error=td_error,
        spread=spread,
        mean=mean,
        mean_low=mean_low,
    )
    return results


def critic_backward(
    grad_loss: Tensor,
    q: Tensor,
    actions: Tensor,
    targets: Tensor,
    smoothness: float,
    mask: Tensor | None,
    td_error: Tensor,
    mean: Tensor,
    mean_low: Tensor,
    grad_q: Tensor,
) -> None:
    """Fill the gradient of q, a tensor like it."""
    launch(
        "critic_backward",
        q,
        q=row_matrix(q),
        actions=vector(actions),
        smoothness=smoothness,
        mask=vector(mask),
        td_error=td_error,
        mean=mean,
        mean_low=mean_low,
        grad_loss=grad_loss,
        grad_q=row_matrix(grad_q),
    )


CRITIC = RowOperator(
    name="critic_loss",
    rows=("q",),
    inputs=("Tensor actions", "Tensor targets", "float smoothness"),
    results=("loss", "td_error", "spread", "mean", "mean_low"),
    outputs=1,
    saved=("td_error", "mean", "mean_low"),
    differentiable=("q",),
    forward=critic_forward,
    backward=critic_backward,
)
