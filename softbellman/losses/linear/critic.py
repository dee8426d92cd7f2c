"""Critic regression from hidden states (equation 18 and the smoothness term)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from softbellman.core.checks import check_ids, check_mask, check_not_negative, check_numbers, statistic_dtype
from softbellman.core.launch import per_row
from softbellman.core.operator import register, register_backward
from softbellman.losses.critic import RESULTS, CriticLoss, critic_backward, critic_forward
from softbellman.losses.linear._arguments import check_chunk_rows, check_head, check_reduction, reduced
from softbellman.losses.linear._head import Head, HeadGradients, empty_gradients
from softbellman.losses.linear._passes import (
    backward_pass,
    empty_sum,
    forward_pass,
    needed,
    no_gradients,
    select,
    sum_gradients,
)
from softbellman.losses.linear._rows import RealRows, choose_chunk_rows


def linear_critic_loss(
    hidden: Tensor,
    weight: Tensor,
    actions: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    smoothness: float = 0.0,
    reduction: str = "none",
    chunk_rows: int | None = None,
) -> CriticLoss:
    """`critic_loss(hidden @ weight.T + bias, actions, targets, mask)` without the action values of more than a chunk.

    Differentiable in hidden, weight and bias through the loss (equation 18); targets are constants, td_error and
    spread are reported without a graph.

    Args:
        hidden: hidden states [..., H] of the critic.
        weight: output embeddings [V, H] with the dtype and device of hidden.
        actions: int64 [...], the tokens taken. Ids outside [0, V) raise on the CPU; on a GPU they are not
            looked for, since that would wait for the device.
        targets: [...] floating, the regression targets of equation 19 in the unit of the action values.
        bias: [V] like weight, or None; `-inf` removes a token from the mean and the spread.
        mask: bool [...], True for real rows. Masked rows are not read and give 0.
        smoothness: weight of the spread, at least 0.
        reduction: of the loss: "none", or "sum" or "mean" over the real rows, which saves the backward pass a
            matrix product.
        chunk_rows: rows whose action values exist at one time; None chooses (docs/linear.md).

    Returns:
        loss [...] or a scalar, and td_error and spread [...]; float64 for float64 hidden, else float32.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or device, an id out of range, smoothness
        below 0, an unknown reduction, chunk_rows below 1.

    Example:
        >>> hidden, weight = torch.ones(1), torch.tensor([[1.0], [3.0]])
        >>> linear_critic_loss(hidden, weight, torch.tensor(1), torch.tensor(2.5), smoothness=0.5)
        CriticLoss(loss=tensor(1.2500), td_error=tensor(0.5000), spread=tensor(2.))
    """
    head = check_head(hidden, weight, bias)
    check_ids("actions", actions, "hidden", hidden)
    check_numbers("targets", targets, "hidden", hidden)
    check_mask(mask, "hidden", hidden)
    check_not_negative("smoothness", smoothness)
    chunk = check_chunk_rows(chunk_rows)
    taken = check_reduction(reduction, head)
    results = _critic(*head, actions, targets.detach(), smoothness, mask, chunk, taken)
    loss, td_error, _, _, spread = results[:RESULTS]
    if reduction != "none":
        loss = reduced(results[RESULTS:], reduction, hidden, mask)
    return CriticLoss(loss, td_error, spread)


class _CriticRows:
    results = RESULTS

    def __init__(self, actions: Tensor, targets: Tensor, smoothness: float) -> None:
        self.actions, self.targets, self.smoothness = actions, targets, smoothness

    def forward(self, rows: RealRows, part: slice, *logits: Tensor) -> Sequence[Tensor]:
        (q,) = logits
        actions, targets = rows.take(self.actions, part), rows.take(self.targets, part)
        return critic_forward(q, actions, targets, rows.real(part), self.smoothness)

    def backward(
        self,
        rows: RealRows,
        part: slice,
        upstream: Sequence[Tensor | None],
        saved: Sequence[Tensor],
        heads: Sequence[Head],
        *logits: Tensor,
    ) -> None:
        (q,), (gradient,), (head,) = logits, upstream, heads
        td_error, mean, mean_low = (
            saved if len(saved) == 3 else saved[1:4]
        )  # or all that the forward pass gave
        actions = rows.take(self.actions, part)
        assert gradient is not None
        critic_backward(
            gradient, q, actions, rows.real(part), td_error, mean, mean_low, self.smoothness, head.gradient()
        )

    def unit(self, rows: RealRows, part: slice, like: Tensor) -> Sequence[Tensor | None]:
        return (torch.ones_like(like),)


def _prepare(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    actions: Tensor,
    targets: Tensor,
    smoothness: float,
    mask: Tensor | None,
    chunk_rows: int,
) -> tuple[_CriticRows, Head, RealRows, int]:
    rows = RealRows(hidden, mask)
    chunk = choose_chunk_rows(rows.count, weight, chunk_rows)
    ids, goals = (
        rows.ids("actions", actions, weight.shape[0]),
        rows.numbers(targets, statistic_dtype(hidden.dtype)),
    )
    assert ids is not None and goals is not None
    return _CriticRows(ids, goals, smoothness), Head(hidden, weight, bias, rows, chunk), rows, chunk


def _forward(*arguments: Any) -> tuple[Tensor, ...]:
    *inputs, taken = arguments
    hidden = inputs[0]
    kernel, head, rows, chunk = _prepare(*inputs)
    gradients = HeadGradients(head, taken)
    results = forward_pass(kernel, (head,), rows, chunk, gradients if taken else None)
    shaped = [result.view(hidden.shape[:-1]) for result in results]
    return *shaped, results[0].sum(), *gradients.wide(hidden)


def _backward(gradient: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    *inputs, td_error, mean, mean_low, wanted = arguments
    kernel, head, rows, chunk = _prepare(*inputs)
    gradients = HeadGradients(head, wanted)
    backward_pass(kernel, (head,), rows, chunk, (gradient,), (td_error, mean, mean_low), (gradients,))
    return gradients.rounded(inputs[0])


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    loss, td_error, mean, mean_low, spread, total, *gradients = output
    hidden, weight, bias, actions, targets, ctx.smoothness, mask, ctx.chunk_rows, ctx.taken = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(loss if ctx.taken else total, td_error, mean, mean_low, spread, *gradients)
    if ctx.taken:
        ctx.save_for_backward(*inputs[:3], *gradients)
    else:
        ctx.save_for_backward(hidden, weight, bias, actions, targets, mask, td_error, mean, mean_low)


def _autograd(ctx: Any, *arriving: Tensor | None) -> tuple[Tensor | None, ...]:
    wanted, gradients = needed(ctx, 0), no_gradients()
    if ctx.taken:
        gradients = sum_gradients(ctx, arriving[RESULTS], wanted)
    elif arriving[0] is not None and wanted:
        *inputs, mask, td_error, mean, mean_low = ctx.saved_tensors
        others = (mask, ctx.chunk_rows, td_error, mean, mean_low, wanted)
        computed = _critic_backward(arriving[0], *inputs, ctx.smoothness, *others)
        gradients = select(computed, wanted)
    return (*gradients, *([None] * 6))


_INPUTS = (
    "Tensor hidden, Tensor weight, Tensor? bias, Tensor actions, Tensor targets, float smoothness, Tensor? mask, "
    "int chunk_rows"
)
_critic_backward = register_backward(
    "linear_critic_loss_backward",
    f"(Tensor gradient, {_INPUTS}, Tensor td_error, Tensor mean, Tensor mean_low, int wanted) "
    "-> (Tensor grad_hidden, Tensor grad_weight, Tensor grad_bias)",
    kernel=_backward,
    fake=lambda *arguments: empty_gradients(arguments[1], arguments[2], arguments[-1]),
)
_critic = register(
    "linear_critic_loss",
    f"({_INPUTS}, int taken) -> (Tensor loss, Tensor td_error, Tensor mean, Tensor mean_low, Tensor spread, Tensor total, "
    "Tensor grad_hidden, Tensor grad_weight, Tensor grad_bias)",
    kernel=_forward,
    fake=lambda *arguments: (
        *(per_row(arguments[0]) for _ in range(RESULTS)),
        empty_sum(arguments[0]),
        *empty_gradients(arguments[0], arguments[1], arguments[-1], wide=True),
    ),
    backward=_autograd,
    setup_context=_setup_context,
)
