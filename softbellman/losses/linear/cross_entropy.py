"""Cross-entropies from hidden states: against a token, an oracle's softmax, or a mixture of both (equation 17)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from softbellman.core.checks import (
    check_fraction,
    check_ids,
    check_mask,
    check_numbers,
    check_positive,
    statistic_dtype,
)
from softbellman.core.launch import per_row
from softbellman.core.operator import register, register_backward
from softbellman.losses.cross_entropy import RESULTS, distillation_backward, distillation_forward
from softbellman.losses.linear._arguments import (
    check_chunk_rows,
    check_head,
    check_reduction,
    check_second_head,
    reduced,
)
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


def linear_token_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    reduction: str = "none",
    row_weights: Tensor | None = None,
    chunk_rows: int | None = None,
) -> Tensor:
    """`token_cross_entropy(hidden @ weight.T + bias, targets, mask)` without the logits of more than a chunk.

    Differentiable in hidden, weight and bias.

    Args:
        hidden: hidden states [..., H].
        weight: output embeddings [V, H] with the dtype and device of hidden.
        targets: int64 [...]. Ids outside [0, V) raise on the CPU; on a GPU they are not looked for, since
            that would wait for the device.
        bias: [V] like weight, or None; `-inf` forbids a token.
        mask: bool [...], True for real rows. Masked rows are not read and give 0.
        reduction: "none", or "sum" or "mean" over the real rows, which saves the backward pass a matrix product.
        row_weights: [...] floating, what each row counts in a reduced loss; constants. None: 1.
        chunk_rows: rows whose logits exist at one time; None chooses (docs/linear.md).

    Returns:
        Negative log-likelihoods in nats, [...] or a scalar; float64 for float64 hidden, else float32.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or device, an id out of range, an unknown
        reduction, chunk_rows below 1.

    Example:
        >>> hidden, weight = torch.zeros(3, 4), torch.ones(2, 4)
        >>> linear_token_cross_entropy(hidden, weight, torch.tensor([0, 1, 1]), reduction="mean")  # log 2
        tensor(0.6931)
    """
    head = check_head(hidden, weight, bias)
    check_ids("targets", targets, "hidden", hidden)
    check_mask(mask, "hidden", hidden)
    chunk = check_chunk_rows(chunk_rows)
    taken, weights = check_reduction(reduction, head), _row_weights(row_weights, reduction, hidden)
    results = _cross_entropy(*head, None, None, None, 1.0, targets, None, mask, weights, chunk, taken)
    loss: Tensor = results[0]
    return loss if reduction == "none" else reduced(results[RESULTS:], reduction, hidden, mask)


def linear_soft_target_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    q_hidden: Tensor,
    q_weight: Tensor,
    bias: Tensor | None = None,
    q_bias: Tensor | None = None,
    *,
    tau: float,
    mask: Tensor | None = None,
    targets: Tensor | None = None,
    oracle_weight: float | Tensor = 1.0,
    reduction: str = "none",
    row_weights: Tensor | None = None,
    chunk_rows: int | None = None,
) -> Tensor:
    """`soft_target_cross_entropy` of the logits of one head under the action values of another (equation 17).

    Differentiable in hidden, weight and bias; the oracle (q_hidden, q_weight, q_bias) and its weight are
    constants. Neither the logits nor the action values exist for more than a chunk of rows.

    Args:
        hidden: hidden states [..., H] of the policy.
        weight: its output embeddings [V, H].
        q_hidden: hidden states [..., H'] of the oracle; H' may differ from H.
        q_weight: its output embeddings [V, H'].
        bias: [V] of the policy, or None; `-inf` forbids a token.
        q_bias: [V] of the oracle, or None.
        tau: temperature of the oracle, above 0, in the unit of its action values.
        mask: bool [...], True for real rows. Masked rows are not read and give 0.
        targets: int64 [...], needed unless oracle_weight is 1. Ids outside [0, V) raise on the CPU.
        oracle_weight: alpha in [0, 1], one number or a tensor [...] (whose range is not looked at).
        reduction: "none", or "sum" or "mean" over the real rows, which saves the backward pass two matrix products.
        row_weights: [...] floating, what each row counts in a reduced loss; constants. None: 1.
        chunk_rows: rows whose logits exist at one time; None chooses (docs/linear.md).

    Returns:
        Cross-entropies in nats, [...] or a scalar; float64 for float64 hidden, else float32.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or device, an id out of range, tau not
        above 0, targets missing, an unknown reduction, chunk_rows below 1.

    Example:
        >>> hidden, weight = torch.zeros(1, 4), torch.ones(2, 4)
        >>> linear_soft_target_cross_entropy(hidden, weight, hidden, weight, tau=0.4)  # log 2
        tensor([0.6931])
    """
    head, oracle = check_head(hidden, weight, bias), check_head(q_hidden, q_weight, q_bias, prefix="q_")
    check_second_head(head, oracle)
    check_positive("tau", tau)
    check_mask(mask, "hidden", hidden)
    if targets is not None:
        check_ids("targets", targets, "hidden", hidden)
    if isinstance(oracle_weight, Tensor):
        check_numbers("oracle_weight", oracle_weight, "hidden", hidden)
        alpha: Tensor | None = oracle_weight.detach()
    else:
        check_fraction("oracle_weight", oracle_weight)
        alpha = None
        if oracle_weight != 1.0:
            alpha = hidden.new_full(hidden.shape[:-1], oracle_weight, dtype=statistic_dtype(hidden.dtype))
    if alpha is not None and targets is None:
        raise ValueError("targets must be given unless oracle_weight is 1, got None")
    chunk = check_chunk_rows(chunk_rows)
    taken, weights = check_reduction(reduction, head), _row_weights(row_weights, reduction, hidden)
    results = _cross_entropy(*head, *oracle.detach(), tau, targets, alpha, mask, weights, chunk, taken)
    loss: Tensor = results[0]
    return loss if reduction == "none" else reduced(results[RESULTS:], reduction, hidden, mask)


def _row_weights(row_weights: Tensor | None, reduction: str, hidden: Tensor) -> Tensor | None:
    if row_weights is None:
        return None
    check_numbers("row_weights", row_weights, "hidden", hidden)
    if reduction == "none":
        raise ValueError("row_weights must be None unless the loss is reduced: multiply the rows themselves")
    return row_weights.detach()


class _CrossEntropyRows:
    results = RESULTS

    def __init__(
        self, tau: float, targets: Tensor | None, alpha: Tensor | None, row_weights: Tensor | None
    ) -> None:
        self.tau, self.targets, self.alpha, self.row_weights = tau, targets, alpha, row_weights

    def _arguments(
        self, rows: RealRows, part: slice
    ) -> tuple[float, Tensor | None, Tensor | None, Tensor | None]:
        targets = None if self.targets is None else rows.take(self.targets, part)
        alpha = None if self.alpha is None else rows.take(self.alpha, part)
        return self.tau, targets, alpha, rows.real(part)

    def forward(self, rows: RealRows, part: slice, *logits: Tensor) -> Sequence[Tensor]:
        policy, oracle = logits if len(logits) == 2 else (logits[0], None)
        return distillation_forward(policy, oracle, *self._arguments(rows, part))

    def backward(
        self,
        rows: RealRows,
        part: slice,
        upstream: Sequence[Tensor | None],
        saved: Sequence[Tensor],
        heads: Sequence[Head],
        *logits: Tensor,
    ) -> None:
        policy, oracle = logits if len(logits) == 2 else (logits[0], None)
        (gradient,) = upstream
        assert gradient is not None
        log_normalizer, correction, oracle_log_normalizer, oracle_correction = saved[-(RESULTS - 1) :]
        distillation_backward(
            *(gradient, policy, oracle, *self._arguments(rows, part)),
            *(log_normalizer, correction, oracle_log_normalizer, oracle_correction),
            into=heads[0].gradient(),
        )

    def unit(self, rows: RealRows, part: slice, like: Tensor) -> Sequence[Tensor | None]:
        return (torch.ones_like(like) if self.row_weights is None else rows.take(self.row_weights, part),)

    def total(self, loss: Tensor) -> Tensor:
        """The sum over rows [N], weighted where there are weights."""
        return loss.sum() if self.row_weights is None else loss.mul(self.row_weights).sum()


def _prepare(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    q_hidden: Tensor | None,
    q_weight: Tensor | None,
    q_bias: Tensor | None,
    tau: float,
    targets: Tensor | None,
    oracle_weight: Tensor | None,
    mask: Tensor | None,
    row_weights: Tensor | None,
    chunk_rows: int,
) -> tuple[_CrossEntropyRows, list[Head], RealRows, int]:
    rows, vocabulary = RealRows(hidden, mask), weight.shape[0]
    chunk = choose_chunk_rows(rows.count, weight, chunk_rows, heads=1 if q_hidden is None else 2)
    heads = [Head(hidden, weight, bias, rows, chunk)]
    if q_hidden is not None and q_weight is not None:
        heads.append(Head(q_hidden, q_weight, q_bias, rows, chunk))
    numbers = statistic_dtype(hidden.dtype)
    alpha, weights = rows.numbers(oracle_weight, numbers), rows.numbers(row_weights, numbers)
    if weights is not None and mask is not None:
        weights = weights.masked_fill(~mask.reshape(-1), 0.0)
    kernel = _CrossEntropyRows(tau, rows.ids("targets", targets, vocabulary), alpha, weights)
    return kernel, heads, rows, chunk


def _forward(*arguments: Any) -> tuple[Tensor, ...]:
    *inputs, taken = arguments
    hidden = inputs[0]
    kernel, heads, rows, chunk = _prepare(*inputs)
    gradients = HeadGradients(heads[0], taken)
    results = forward_pass(kernel, heads, rows, chunk, gradients if taken else None)
    shaped = [result.view(hidden.shape[:-1]) for result in results]
    return *shaped, kernel.total(results[0]), *gradients.wide(hidden)


def _backward(gradient: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    inputs, saved, wanted = arguments[:-RESULTS], arguments[-RESULTS:-1], arguments[-1]
    kernel, heads, rows, chunk = _prepare(*inputs)
    gradients = HeadGradients(heads[0], wanted)
    backward_pass(kernel, heads, rows, chunk, (gradient,), saved, (gradients,))
    return gradients.rounded(inputs[0])


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    loss, normalizers, total, gradients = (
        output[0],
        output[1:RESULTS],
        output[RESULTS],
        output[RESULTS + 1 :],
    )
    *tensors, ctx.chunk_rows, ctx.taken = inputs
    ctx.tau = tensors.pop(6)
    ctx.set_materialize_grads(False)
    constant = loss if ctx.taken else total
    ctx.mark_non_differentiable(constant, *normalizers, *gradients)
    if ctx.taken:
        ctx.save_for_backward(*inputs[:3], *gradients)
    else:
        ctx.save_for_backward(*tensors, *normalizers)


def _autograd(ctx: Any, *arriving: Tensor | None) -> tuple[Tensor | None, ...]:
    wanted, gradients = needed(ctx, 0), no_gradients()
    if ctx.taken:
        gradients = sum_gradients(ctx, arriving[RESULTS], wanted)
    elif arriving[0] is not None and wanted:
        saved = ctx.saved_tensors
        *heads, targets, oracle_weight, mask, _ = saved[: -(RESULTS - 1)]
        others = (targets, oracle_weight, mask, None, ctx.chunk_rows, *saved[-(RESULTS - 1) :], wanted)
        computed = _cross_entropy_backward(arriving[0], *heads, ctx.tau, *others)
        gradients = select(computed, wanted)
    return (*gradients, *([None] * 10))


_HEADS = (
    "Tensor hidden, Tensor weight, Tensor? bias, Tensor? q_hidden, Tensor? q_weight, Tensor? q_bias, float tau, "
    "Tensor? targets, Tensor? oracle_weight, Tensor? mask, Tensor? row_weights, int chunk_rows"
)
_SAVED = "Tensor log_normalizer, Tensor correction, Tensor oracle_log_normalizer, Tensor oracle_correction"
_cross_entropy_backward = register_backward(
    "linear_cross_entropy_backward",
    f"(Tensor gradient, {_HEADS}, {_SAVED}, int wanted) -> (Tensor grad_hidden, Tensor grad_weight, Tensor grad_bias)",
    kernel=_backward,
    fake=lambda *arguments: empty_gradients(arguments[1], arguments[2], arguments[-1]),
)
_cross_entropy = register(
    "linear_cross_entropy",
    f"({_HEADS}, int taken) -> (Tensor loss, {_SAVED}, Tensor total, "
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
