"""The critic's loss of ERAC along sequences, from the actor's logits to the loss in one pass, Eq. (18) and (19).

Policy value under the target critic, target, error and spread come from one read of each input; backward is one
read and one write of q.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from softbellman.core.checks import (
    check_ids,
    check_mask,
    check_not_negative,
    check_numbers,
    check_temperature,
    statistic_dtype,
)
from softbellman.core.head import Head, Rows, check_row_argument, check_rows_beside
from softbellman.core.launch import launch, row_matrix, several_per_row, vector
from softbellman.core.row_operator import RowOperator, check_reduction
from softbellman.losses.critic import critic_backward, critic_loss
from softbellman.losses.policy import policy_value


class EracCriticLoss(NamedTuple):
    """`loss`, `[..., T]` or reduced, and without a graph what it is made of, `[..., T]` each."""

    loss: Tensor
    td_error: Tensor
    targets: Tensor
    value: Tensor
    entropy: Tensor
    spread: Tensor


def erac_critic_loss(
    logits: Rows,
    target_q: Rows,
    q: Rows,
    actions: Tensor,
    rewards: Tensor,
    mask: Tensor | None = None,
    *,
    tau: float,
    smoothness: float = 0.0,
    terminal: Tensor | None = None,
    reduction: str = "none",
    row_weights: Tensor | None = None,
    inplace_backward: bool = False,
) -> EracCriticLoss:
    """`(q_t(a_t) - target_t)^2 + smoothness sum_w (q_t(w) - mean_w q_t)^2`, `target_t = r_t + V_{t+1}`.

    `V = sum_w pi(w) target_q(w) + tau H(pi)` with pi = softmax(logits); Eq. (19). `V_{t+1}` counts where
    position t + 1 is real, and is 0 after the last real position and after a terminal one; Eq. (6). With
    tau = 0 it is the critic's loss of AC. Differentiable in q through the loss; everything else is a constant.

    Stored rows take one pass over all three inputs. Where one of them is a `Head`, the loss is composed of
    `policy_value`, the targets and `critic_loss`.

    Args:
        logits: unnormalised log-probabilities `[..., T, V]` of the actor; `logits[..., t, :]` is pi(. | y_<t). A
            tensor or a `Head`.
        target_q: action values `[..., T, V]` of the target critic, a tensor with the dtype of logits or a `Head`;
            `-inf` only where pi is 0.
        q: action values `[..., T, V]` of the critic, a tensor with the dtype of logits or a `Head`.
        actions: int64 `[..., T]`, the tokens y_t. Ids outside [0, V) raise on the CPU; on a GPU they are not
            looked for, since that would synchronize.
        rewards: `[..., T]` floating, r_t in the unit of q.
        mask: bool or 0/1 integers `[..., T]`, True for real tokens. Masked positions are not read and give 0.
        tau: weight of the entropy in the unit of q, 0 or between 1e-30 and 1e30.
        smoothness: weight of the spread, at least 0.
        terminal: bool or 0/1 integers `[..., T]`, True where a sequence ends before its row does: sequences packed
            behind each other without padding are the rows `[M, V]` of one.
        reduction: of the loss: "none", or "sum" or "mean" over the real rows.
        row_weights: `[..., T]` floating, what the loss of each row is multiplied by; constants. None: 1.
        inplace_backward: as for `critic_loss`.

    Returns:
        loss, `[..., T]` or a scalar, and spread `[..., T]` in the squared unit of q; td_error = q(a) - target,
        targets and value (`value[..., t]` is V(y_<t)) in the unit of q; entropy in nats. float64 for float64 q,
        else float32. Tokens of probability 0 contribute nothing to value and entropy whatever their target_q,
        tokens whose q is `-inf` nothing to the spread.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or range.

    Example:
        >>> rows, ids = torch.tensor([[1.0, 3.0], [0.0, 4.0]]), torch.tensor([0, 1])  # values 2 and 2 of pi = 1/2
        >>> result = erac_critic_loss(torch.zeros(2, 2), rows, rows, ids, torch.ones(2), tau=0.0, smoothness=0.5)
        >>> result.targets, result.loss
        (tensor([3., 1.]), tensor([ 5., 13.]))
    """
    check_row_argument("logits", logits)
    if logits.dim() < 2:
        raise ValueError(f"logits must have at least two dimensions, got shape {tuple(logits.shape)}")
    check_rows_beside("target_q", target_q, "logits", logits)
    check_rows_beside("q", q, "logits", logits)
    check_ids("actions", actions, "q", q)
    check_numbers("rewards", rewards, "q", q)
    mask = check_mask(mask, "q", q)
    terminal = check_mask(terminal, "q", q, name="terminal", meaning="nothing follows")
    check_temperature("tau", tau, zero=True)
    check_not_negative("smoothness", smoothness)
    how = check_reduction(reduction, row_weights, inplace_backward, "q", q)
    logits, target_q, rewards = logits.detach(), target_q.detach(), rewards.detach()
    if any(isinstance(rows, Head) for rows in (logits, target_q, q)):
        value, entropy = policy_value(logits, target_q, tau=tau, mask=mask)
        targets = rewards.to(value.dtype) + following_values(value, terminal)
        if mask is not None:
            targets = targets.masked_fill(~mask, 0.0)
        options = {"reduction": reduction, "row_weights": row_weights, "inplace_backward": inplace_backward}
        critic = critic_loss(q, actions, targets, mask, smoothness=smoothness, **options)  # type: ignore[arg-type]
        return EracCriticLoss(critic.loss, critic.td_error, targets, value, entropy, critic.spread)
    inputs = (actions, rewards, terminal, tau, smoothness)
    return EracCriticLoss(*ERAC.reduce((q, logits, target_q), inputs, mask, how)[:6])


def following_values(values: Tensor, terminal: Tensor | None) -> Tensor:
    """`V_{t+1}` at t, `[..., T]`: 0 behind the last position and behind a terminal one; Eq. (6)."""
    following = torch.nn.functional.pad(values[..., 1:], (0, 1))
    return following if terminal is None else following.masked_fill(terminal, 0.0)


def erac_forward(
    q: Tensor,
    logits: Tensor,
    target_q: Tensor,
    actions: Tensor,
    rewards: Tensor,
    terminal: Tensor | None,
    tau: float,
    smoothness: float,
    mask: Tensor | None,
) -> tuple[Tensor, ...]:
    """Loss and its parts of rows `[..., T, V]`, and the mean of q in two parts."""
    results = several_per_row(q, 8)
    loss, td_error, targets, value, entropy, spread, mean, mean_low = results
    launch(
        "erac_forward",
        q,
        share_rows=True,
        logits=row_matrix(logits),
        target_q=row_matrix(target_q),
        q=row_matrix(q),
        actions=vector(actions),
        rewards=vector(rewards, statistic_dtype(q.dtype)),
        terminal=vector(terminal),
        steps=q.shape[-2],
        tau=tau,
        smoothness=smoothness,
        mask=vector(mask),
        loss=loss,
        td_error=td_error,
        targets=targets,
        value=value,
        entropy=entropy,
        spread=spread,
        mean=mean,
        mean_low=mean_low,
    )
    return results


def erac_backward(
    grad_loss: Tensor,
    q: Tensor,
    logits: Tensor,
    target_q: Tensor,
    actions: Tensor,
    rewards: Tensor,
    terminal: Tensor | None,
    tau: float,
    smoothness: float,
    mask: Tensor | None,
    td_error: Tensor,
    mean: Tensor,
    mean_low: Tensor,
    grad_q: Tensor,
) -> None:
    """Fill the gradient of q: the critic's, since everything else is a constant."""
    critic_backward(grad_loss, q, actions, rewards, smoothness, mask, td_error, mean, mean_low, grad_q)


ERAC = RowOperator(
    name="erac_critic_loss",
    rows=("q", "logits", "target_q"),
    inputs=("Tensor actions", "Tensor rewards", "Tensor? terminal", "float tau", "float smoothness"),
    results=("loss", "td_error", "targets", "value", "entropy", "spread", "mean", "mean_low"),
    outputs=1,
    saved=("td_error", "mean", "mean_low"),
    differentiable=("q",),
    forward=erac_forward,
    backward=erac_backward,
    chunked=False,  # a position needs the value of the next: heads are composed of other operators
)
