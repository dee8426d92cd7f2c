"""Soft values and soft Bellman residuals from hidden states (equations 14 to 16)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from softbellman.core.checks import (
    check_ids,
    check_mask,
    check_numbers,
    check_positive,
    check_vocabulary_vector,
    statistic_dtype,
)
from softbellman.core.launch import per_row, vector
from softbellman.core.operator import register, register_backward
from softbellman.losses.linear._arguments import check_chunk_rows, check_head
from softbellman.losses.linear._head import Head, HeadGradients, empty_gradients
from softbellman.losses.linear._passes import backward_pass, forward_pass, needed, no_gradients, select
from softbellman.losses.linear._rows import RealRows, choose_chunk_rows
from softbellman.losses.soft_value import value_backward, value_forward


def linear_soft_value(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    tau: float,
    prior: Tensor | None = None,
    mask: Tensor | None = None,
    chunk_rows: int | None = None,
) -> Tensor:
    """`soft_value(hidden @ weight.T + bias, tau=tau, ...)` without the action values of more than a chunk.

    Differentiable in hidden, weight and bias (equation 14).

    Args:
        hidden: hidden states [..., H].
        weight: output embeddings [V, H] with the dtype and device of hidden.
        bias: [V] like weight, or None; `-inf` removes a token.
        tau: temperature, above 0, in the unit of the action values.
        prior: weights of the tokens [V], not negative; a constant. None weighs every token 1.
        mask: bool [...], True for real rows. Masked rows are not read and give 0.
        chunk_rows: rows whose action values exist at one time; None chooses (docs/linear.md).

    Returns:
        Values [...] in the unit of the action values, float64 for float64 hidden, else float32.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or device, tau not above 0, chunk_rows
        below 1.

    Example:
        >>> linear_soft_value(torch.zeros(4), torch.ones(2, 4), tau=1.0)  # log 2
        tensor(0.6931)
    """
    head = check_head(hidden, weight, bias)
    check_positive("tau", tau)
    check_vocabulary_vector("prior", prior, "weight", weight.t(), boolean=False)
    check_mask(mask, "hidden", hidden)
    value: Tensor = _soft_value(*head, tau, prior, None, mask, check_chunk_rows(chunk_rows))[0]
    return value


def linear_soft_bellman_residual(
    hidden: Tensor,
    weight: Tensor,
    actions: Tensor,
    rewards: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    tau: float,
    terminal: Tensor | None = None,
    chunk_rows: int | None = None,
) -> Tensor:
    """`soft_bellman_residual(hidden @ weight.T + bias, ...)` without the action values of more than a chunk.

    Differentiable in hidden, weight, bias (through the chosen value and the soft value of the next position) and in
    rewards (equation 16).

    Args:
        hidden: hidden states [B, T, H]; `hidden[:, t]` gives Q(y_<t, .).
        weight: output embeddings [V, H] with the dtype and device of hidden.
        actions: int64 [B, T], the tokens y_t. Ids outside [0, V) raise on the CPU; on a GPU they are not
            looked for, since that would wait for the device.
        rewards: [B, T] floating, r_t in the unit of the action values.
        bias: [V] like weight, or None; `-inf` removes a token.
        mask: bool [B, T], True for real tokens. Masked positions are not read and give 0.
        tau: temperature, above 0, in the unit of the action values.
        terminal: bool [B, T], True where a sequence ends before its row does.
        chunk_rows: rows whose action values exist at one time; None chooses (docs/linear.md).

    Returns:
        Residuals [B, T], float64 for float64 hidden, else float32. Where the chosen value and its target are
        both `-inf` the residual is 0.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or device, an id out of range, tau not
        above 0, chunk_rows below 1.

    Example:
        >>> hidden, weight = torch.zeros(1, 2, 4), torch.ones(2, 4)
        >>> actions = torch.zeros(1, 2, dtype=torch.int64)
        >>> linear_soft_bellman_residual(hidden, weight, actions, torch.ones(1, 2), tau=1.0)
        tensor([[-1.6931, -1.0000]])
    """
    head = check_head(hidden, weight, bias)
    if hidden.dim() != 3:
        raise ValueError(f"hidden must have 3 dimensions, got shape {tuple(hidden.shape)}")
    check_ids("actions", actions, "hidden", hidden)
    check_numbers("rewards", rewards, "hidden", hidden)
    check_mask(mask, "hidden", hidden)
    check_mask(terminal, "hidden", hidden, name="terminal", meaning="nothing follows")
    check_positive("tau", tau)
    value, _, chosen = _soft_value(*head, tau, None, actions, mask, check_chunk_rows(chunk_rows))
    following = value[:, 1:]  # 0 in masked rows
    if terminal is not None:
        following = following.masked_fill(terminal[:, :-1], 0.0)
    target = rewards.to(value.dtype) + torch.nn.functional.pad(following, (0, 1))
    residual: Tensor = (chosen - target).masked_fill((chosen == target) & chosen.isinf(), 0.0)
    return residual if mask is None else residual.masked_fill(~mask, 0.0)


class _ValueRows:
    def __init__(self, tau: float, prior: Tensor | None, actions: Tensor | None) -> None:
        self.tau, self.prior, self.actions = tau, prior, actions
        self.results = 2 if actions is None else 3  # value, correction, chosen

    def _arguments(
        self, rows: RealRows, part: slice
    ) -> tuple[float, Tensor | None, Tensor | None, Tensor | None]:
        actions = None if self.actions is None else rows.take(self.actions, part)
        return self.tau, self.prior, actions, rows.real(part)

    def forward(self, rows: RealRows, part: slice, *logits: Tensor) -> Sequence[Tensor]:
        (q,) = logits
        return value_forward(q, *self._arguments(rows, part))[: self.results]

    def backward(
        self,
        rows: RealRows,
        part: slice,
        upstream: Sequence[Tensor | None],
        saved: Sequence[Tensor],
        heads: Sequence[Head],
        *logits: Tensor,
    ) -> None:
        (q,), (head,), (value, correction) = logits, heads, saved
        grad_value, grad_chosen = upstream
        arguments = self._arguments(rows, part)
        value_backward(grad_value, grad_chosen, q, value, correction, *arguments, into=head.gradient())

    def unit(self, rows: RealRows, part: slice, like: Tensor) -> Sequence[Tensor | None]:
        raise NotImplementedError("values are not summed")


def _prepare(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    tau: float,
    prior: Tensor | None,
    actions: Tensor | None,
    mask: Tensor | None,
    chunk_rows: int,
) -> tuple[_ValueRows, Head, RealRows, int]:
    rows = RealRows(hidden, mask)
    chunk = choose_chunk_rows(rows.count, weight, chunk_rows)
    kernel = _ValueRows(
        tau, vector(prior, statistic_dtype(hidden.dtype)), rows.ids("actions", actions, weight.shape[0])
    )
    return kernel, Head(hidden, weight, bias, rows, chunk), rows, chunk


def _forward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    kernel, head, rows, chunk = _prepare(*inputs)
    value, correction, *chosen = forward_pass(kernel, (head,), rows, chunk)
    shape = inputs[0].shape[:-1]
    return value.view(shape), correction.view(shape), chosen[0].view(shape) if chosen else value.new_empty(0)


def _backward(
    grad_value: Tensor | None, grad_chosen: Tensor | None, *arguments: Any
) -> tuple[Tensor, Tensor, Tensor]:
    *inputs, value, correction, wanted = arguments
    kernel, head, rows, chunk = _prepare(*inputs)
    gradients = HeadGradients(head, wanted)
    backward_pass(kernel, (head,), rows, chunk, (grad_value, grad_chosen), (value, correction), (gradients,))
    return gradients.rounded(inputs[0])


def _fake(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    hidden, actions = inputs[0], inputs[5]
    value = per_row(hidden)
    return value, per_row(hidden), value.new_empty(0) if actions is None else per_row(hidden)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.chunk_rows = inputs
    ctx.tau = tensors.pop(3)
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*(output[1:] if inputs[5] is None else output[1:2]))
    ctx.save_for_backward(*tensors, *output[:2])


def _autograd(
    ctx: Any, grad_value: Tensor | None, _: Tensor | None, grad_chosen: Tensor | None
) -> tuple[Tensor | None, ...]:
    wanted, gradients = needed(ctx, 0), no_gradients()
    if wanted and not (grad_value is None and grad_chosen is None):
        *head, prior, actions, mask, value, correction = ctx.saved_tensors
        grad_chosen = None if actions is None else grad_chosen
        others = (prior, actions, mask, ctx.chunk_rows, value, correction, wanted)
        computed = _soft_value_backward(grad_value, grad_chosen, *head, ctx.tau, *others)
        gradients = select(computed, wanted)
    return (*gradients, *([None] * 5))


_INPUTS = (
    "Tensor hidden, Tensor weight, Tensor? bias, float tau, Tensor? prior, Tensor? actions, Tensor? mask, "
    "int chunk_rows"
)
_soft_value_backward = register_backward(
    "linear_soft_value_backward",
    f"(Tensor? grad_value, Tensor? grad_chosen, {_INPUTS}, Tensor value, Tensor correction, int wanted) "
    "-> (Tensor grad_hidden, Tensor grad_weight, Tensor grad_bias)",
    kernel=_backward,
    fake=lambda *arguments: empty_gradients(arguments[2], arguments[3], arguments[-1]),
)
_soft_value = register(
    "linear_soft_value",
    f"({_INPUTS}) -> (Tensor value, Tensor correction, Tensor chosen)",
    kernel=_forward,
    fake=_fake,
    backward=_autograd,
    setup_context=_setup_context,
)
