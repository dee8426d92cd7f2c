"""The critic's loss of ERAC along sequences, from the actor's logits to the loss in one pass (equations 18 and 19).

Policy value under the target critic, target, error and spread come from one read of each input; backward is one
read and one write of q.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from softbellman.core.checks import (
    check_ids,
    check_mask,
    check_not_negative,
    check_numbers,
    check_rows,
    check_same_rows,
    statistic_dtype,
)
from softbellman.core.launch import launch, row_matrix, several_per_row, vector
from softbellman.core.operator import register
from softbellman.losses.critic import critic_gradient


class EracCriticLoss(NamedTuple):
    """`loss` [..., T], and without a graph what it is made of, [..., T] each."""

    loss: Tensor
    td_error: Tensor
    targets: Tensor
    value: Tensor
    entropy: Tensor
    spread: Tensor


def erac_critic_loss(
    logits: Tensor,
    target_q: Tensor,
    q: Tensor,
    actions: Tensor,
    rewards: Tensor,
    mask: Tensor | None = None,
    *,
    tau: float,
    smoothness: float = 0.0,
    terminal: Tensor | None = None,
) -> EracCriticLoss:
    """`(q_t(a_t) - target_t)^2 + smoothness * sum_w (q_t(w) - mean_w q_t)^2`, `target_t = r_t + V_{t+1}`.

    `V = sum_w pi(w) target_q(w) + tau * H(pi)` with pi = softmax(logits) (equation 19). `V_{t+1}` counts where
    position t + 1 is real, and is 0 after the last real position and after a terminal one (equation 6). With
    tau = 0 it is the critic's loss of AC. Differentiable in q through the loss; everything else is a constant.

    It is `critic_loss(q, actions, rewards + following policy_value(logits, target_q), ...)`, without the vectors
    in between and, on a GPU, in one launch. It is for training loops that have q whole, as those of a critic whose
    last layer is not linear do, with the rows in the order of the sequences. The stages of this package do not call it:
    with a linear head they compute the critic's loss from features, without q
    (`softbellman.objectives.linear_critic_objective`), and their kept logits lie in the order of drawing.

    Args:
        logits: unnormalised log-probabilities [..., T, V] of the actor at the states y_<t.
        target_q: target critic's values [..., T, V] at the same states, with the dtype and device of logits;
            `-inf` only where the policy is 0.
        q: critic's values [..., T, V], likewise; `q[..., t, :]` is Q(y_<t, .).
        actions: int64 [..., T], the tokens y_t. Ids outside [0, V) raise on the CPU; on a GPU they are not
            looked for, since that would wait for the device.
        rewards: [..., T] floating, r_t in the unit of q.
        mask: bool [..., T], True for real tokens. Masked positions are not read and give 0.
        tau: weight of the entropy, at least 0, in the unit of q.
        smoothness: weight of the spread, at least 0.
        terminal: bool [..., T], True where a sequence ends before its row does: sequences packed behind each
            other without padding are the rows [M, V] of one.

    Returns:
        loss and spread [..., T] in the squared unit of q; td_error = q(a) - target, targets and value
        (`value[..., t]` is V(y_<t)) in the unit of q; entropy in nats. float64 for float64 q, else float32.
        Tokens of probability 0 contribute nothing to value and entropy whatever their target_q, tokens whose q is
        `-inf` nothing to the spread.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or device, an id out of range, tau or
        smoothness below 0.

    Example:
        >>> rows, ids = torch.tensor([[1.0, 3.0], [0.0, 4.0]]), torch.tensor([0, 1])  # values 2 and 2 of pi = 1/2
        >>> result = erac_critic_loss(torch.zeros(2, 2), rows, rows, ids, torch.ones(2), tau=0.0, smoothness=0.5)
        >>> result.targets, result.loss
        (tensor([3., 1.]), tensor([ 5., 13.]))
    """
    check_rows("logits", logits)
    if logits.dim() < 2:
        raise ValueError(f"logits must have at least two dimensions, got shape {tuple(logits.shape)}")
    check_same_rows("target_q", target_q, "logits", logits)
    check_same_rows("q", q, "logits", logits)
    check_ids("actions", actions, "q", q)
    check_numbers("rewards", rewards, "q", q)
    check_mask(mask, "q", q)
    check_mask(terminal, "q", q, name="terminal", meaning="nothing follows")
    check_not_negative("tau", tau)
    check_not_negative("smoothness", smoothness)
    results = _erac(
        logits.detach(), target_q.detach(), q, actions, rewards.detach(), mask, terminal, tau, smoothness
    )
    return EracCriticLoss(*results[:6])


def _forward(
    logits: Tensor,
    target_q: Tensor,
    q: Tensor,
    actions: Tensor,
    rewards: Tensor,
    mask: Tensor | None,
    terminal: Tensor | None,
    tau: float,
    smoothness: float,
) -> tuple[Tensor, ...]:
    loss, td_error, targets, value, entropy, spread, mean, mean_low = results = _results(q)
    launch(
        "erac_forward", q, share_rows=True, logits=row_matrix(logits), target_q=row_matrix(target_q), q=row_matrix(q),
        actions=actions, rewards=vector(rewards, statistic_dtype(q.dtype)), terminal=terminal, steps=q.shape[-2], tau=tau,
        smoothness=smoothness, mask=mask, loss=loss, td_error=td_error, targets=targets, value=value, entropy=entropy,
        mean=mean, mean_low=mean_low, spread=spread,
    )  # fmt: skip
    return results


def _results(q: Tensor) -> tuple[Tensor, ...]:
    return several_per_row(q, 8)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, _, q, actions, _, mask, _, _, ctx.smoothness = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(q, actions, mask, output[1], *output[-2:])


def _autograd(ctx: Any, gradient: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    grad_q = None
    if gradient is not None and ctx.needs_input_grad[2]:
        grad_q = critic_gradient(gradient, *ctx.saved_tensors, ctx.smoothness)
    return None, None, grad_q, None, None, None, None, None, None


_erac = register(
    "erac_critic_loss",
    "(Tensor logits, Tensor target_q, Tensor q, Tensor actions, Tensor rewards, Tensor? mask, Tensor? terminal, "
    "float tau, float smoothness) -> (Tensor loss, Tensor td_error, Tensor targets, Tensor value, Tensor entropy, "
    "Tensor spread, Tensor mean, Tensor mean_low)",
    kernel=_forward,
    fake=lambda logits, target_q, q, *_: _results(q),
    backward=_autograd,
    setup_context=_setup_context,
)
