"""A policy from hidden states weighed against action values from other hidden states (equations 9, 19 and 20)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from softbellman.core.checks import check_choice, check_mask, check_not_negative
from softbellman.core.launch import per_row
from softbellman.core.operator import register, register_backward
from softbellman.losses.actor import ActorLoss
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
from softbellman.losses.policy import ENTROPY_MODES, RESULTS, policy_row_gradients, policy_row_terms
from softbellman.losses.policy_value import PolicyValue


def linear_policy_value(
    hidden: Tensor,
    weight: Tensor,
    q_hidden: Tensor,
    q_weight: Tensor,
    bias: Tensor | None = None,
    q_bias: Tensor | None = None,
    *,
    tau: float,
    mask: Tensor | None = None,
    chunk_rows: int | None = None,
) -> PolicyValue:
    """`policy_value` of the logits of one head under the action values of another (equations 9 and 19).

    Differentiable in both heads through both results. Neither logits nor action values exist for more than a chunk.

    Args:
        hidden: hidden states [..., H] of the policy.
        weight: its output embeddings [V, H].
        q_hidden: hidden states [..., H'] of the critic; H' may differ from H.
        q_weight: its output embeddings [V, H'].
        bias: [V] of the policy, or None; `-inf` forbids a token.
        q_bias: [V] of the critic, or None; `-inf` only where the policy's is.
        tau: weight of the entropy, at least 0, in the unit of the action values.
        mask: bool [...], True for real rows. Masked rows are not read and give 0.
        chunk_rows: rows whose logits exist at one time; None chooses (docs/linear.md).

    Returns:
        value [...] in the unit of the action values and entropy [...] in nats, float64 for float64 hidden, else
        float32.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or device, tau below 0, chunk_rows below 1.

    Example:
        >>> hidden, weight = torch.ones(1), torch.tensor([[1.0], [3.0]])
        >>> linear_policy_value(0 * hidden, weight, hidden, weight, tau=0.0)
        PolicyValue(value=tensor(2.), entropy=tensor(0.6931))
    """
    head, critic = check_head(hidden, weight, bias), check_head(q_hidden, q_weight, q_bias, prefix="q_")
    check_second_head(head, critic)
    check_mask(mask, "hidden", hidden)
    check_not_negative("tau", tau)
    value, entropy, *_ = _policy(*head, *critic, tau, 0, mask, check_chunk_rows(chunk_rows), 0)
    return PolicyValue(value, entropy)


def linear_actor_loss(
    hidden: Tensor,
    weight: Tensor,
    q_hidden: Tensor,
    q_weight: Tensor,
    bias: Tensor | None = None,
    q_bias: Tensor | None = None,
    *,
    tau: float,
    mask: Tensor | None = None,
    entropy: str = "exact",
    reduction: str = "none",
    chunk_rows: int | None = None,
) -> ActorLoss:
    """`actor_loss` of the logits of one head under the action values of another, over all V actions (equation 20).

    Differentiable in hidden, weight and bias; the critic (q_hidden, q_weight, q_bias) is a constant. Neither logits nor
    action values exist for more than a chunk of rows.

    Args:
        hidden: hidden states [..., H] of the actor.
        weight: its output embeddings [V, H].
        q_hidden: hidden states [..., H'] of the critic; H' may differ from H.
        q_weight: its output embeddings [V, H'].
        bias: [V] of the actor, or None; `-inf` forbids a token.
        q_bias: [V] of the critic, or None; `-inf` only where the actor's is.
        tau: weight of the entropy, at least 0, in the unit of the action values.
        mask: bool [...], True for real rows. Masked rows are not read and give 0.
        entropy: "exact", "normalized" or "none", as for `actor_loss`.
        reduction: of the loss: "none", or "sum" or "mean" over the real rows, which saves the backward pass two matrix
            products and leaves the entropy without a graph.
        chunk_rows: rows whose logits exist at one time; None chooses (docs/linear.md).

    Returns:
        loss, [...] or a scalar, in the unit of the action values and entropy [...] in nats; float64 for float64
        hidden, else float32.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or device, tau below 0, an unknown entropy or
        reduction, chunk_rows below 1.

    Example:
        >>> hidden, weight = torch.ones(1), torch.tensor([[1.0], [3.0]])
        >>> linear_actor_loss(0 * hidden, weight, hidden, weight, tau=1.0)
        ActorLoss(loss=tensor(-2.6931), entropy=tensor(0.6931))
    """
    head, critic = check_head(hidden, weight, bias), check_head(q_hidden, q_weight, q_bias, prefix="q_")
    check_second_head(head, critic)
    check_mask(mask, "hidden", hidden)
    check_not_negative("tau", tau)
    mode = check_choice("entropy", entropy, ENTROPY_MODES)
    chunk = check_chunk_rows(chunk_rows)
    taken = check_reduction(reduction, head)
    results = _policy(*head, *critic.detach(), tau, mode, mask, chunk, taken)
    value, policy_entropy = results[:2]
    if reduction == "none":
        return ActorLoss(-value, policy_entropy)
    return ActorLoss(-reduced(results[RESULTS:], reduction, hidden, mask), policy_entropy.detach())


class _PolicyRows:
    results = RESULTS

    def __init__(self, tau: float, entropy_mode: int, want_logits: bool, want_q: bool) -> None:
        self.tau, self.entropy_mode = tau, entropy_mode
        self.want_logits, self.want_q = want_logits, want_q

    def forward(self, rows: RealRows, part: slice, *logits: Tensor) -> Sequence[Tensor]:
        policy, q = logits
        return policy_row_terms(policy, q, self.tau, self.entropy_mode, rows.real(part))

    def backward(
        self,
        rows: RealRows,
        part: slice,
        upstream: Sequence[Tensor | None],
        saved: Sequence[Tensor],
        heads: Sequence[Head],
        *logits: Tensor,
    ) -> None:
        policy, q = logits
        grad_value, grad_entropy = upstream
        value, entropy, log_normalizer, correction, value_low, effective_tau = saved
        policy_row_gradients(
            *(grad_value, grad_entropy, policy, q, rows.real(part)),
            *(value, entropy, log_normalizer, correction, value_low, effective_tau),
            want_logits=self.want_logits,
            want_q=self.want_q,
            into=(
                heads[0].gradient() if self.want_logits else policy,  # else not written
                heads[1].gradient() if self.want_q else q,
            ),
        )

    def unit(self, rows: RealRows, part: slice, like: Tensor) -> Sequence[Tensor | None]:
        return torch.ones_like(like), None


def _prepare(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    q_hidden: Tensor,
    q_weight: Tensor,
    q_bias: Tensor | None,
    tau: float,
    entropy_mode: int,
    mask: Tensor | None,
    chunk_rows: int,
    *,
    want_logits: bool = True,
    want_q: bool = False,
) -> tuple[_PolicyRows, list[Head], RealRows, int]:
    rows = RealRows(hidden, mask)
    chunk = choose_chunk_rows(rows.count, weight, chunk_rows, heads=2)
    heads = [Head(hidden, weight, bias, rows, chunk), Head(q_hidden, q_weight, q_bias, rows, chunk)]
    return _PolicyRows(tau, entropy_mode, want_logits, want_q), heads, rows, chunk


def _forward(*arguments: Any) -> tuple[Tensor, ...]:
    *inputs, taken = arguments
    hidden = inputs[0]
    kernel, heads, rows, chunk = _prepare(*inputs)
    gradients = HeadGradients(heads[0], taken)
    results = forward_pass(kernel, heads, rows, chunk, gradients if taken else None)
    shaped = [result.view(hidden.shape[:-1]) for result in results]
    return *shaped, results[0].sum(), *gradients.wide(hidden)


def _backward(grad_value: Tensor | None, grad_entropy: Tensor | None, *arguments: Any) -> tuple[Tensor, ...]:
    *others, wanted, q_wanted = arguments
    inputs, saved = others[:-RESULTS], others[-RESULTS:]
    kernel, heads, rows, chunk = _prepare(*inputs, want_logits=wanted != 0, want_q=q_wanted != 0)
    gradients = HeadGradients(heads[0], wanted), HeadGradients(heads[1], q_wanted)
    upstream = (grad_value, grad_entropy)
    collecting = [collected if collected.wanted else None for collected in gradients]
    backward_pass(kernel, heads, rows, chunk, upstream, saved, collecting)
    return *gradients[0].rounded(inputs[0]), *gradients[1].rounded(inputs[3])


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    (value, entropy, *statistics), total, gradients = output[:RESULTS], output[RESULTS], output[RESULTS + 1 :]
    *heads, ctx.tau, ctx.entropy_mode, mask, ctx.chunk_rows, ctx.taken = inputs
    ctx.set_materialize_grads(False)
    constants = (value, entropy) if ctx.taken else (total,)
    ctx.mark_non_differentiable(*constants, *statistics, *gradients)
    if ctx.taken:
        ctx.save_for_backward(*inputs[:3], *gradients)
    else:
        ctx.save_for_backward(*heads, mask, value, entropy, *statistics)


def _autograd(ctx: Any, *arriving: Tensor | None) -> tuple[Tensor | None, ...]:
    wanted, q_wanted = needed(ctx, 0), needed(ctx, 3)
    gradients, q_gradients = no_gradients(), no_gradients()
    grad_value, grad_entropy = arriving[:2]
    if grad_value is None:
        q_wanted = 0  # the entropy does not depend on q
    if ctx.taken:
        gradients = sum_gradients(ctx, arriving[RESULTS], wanted)
    elif not (grad_value is None and grad_entropy is None) and (wanted or q_wanted):
        *heads, mask = ctx.saved_tensors[:-RESULTS]
        computed = _policy_backward(
            *(grad_value, grad_entropy, *heads, ctx.tau, ctx.entropy_mode, mask, ctx.chunk_rows),
            *(*ctx.saved_tensors[-RESULTS:], wanted, q_wanted),
        )
        gradients, q_gradients = select(computed[:3], wanted), select(computed[3:], q_wanted)
    return (*gradients, *q_gradients, *([None] * 5))


def _fake_backward(*arguments: Any) -> tuple[Tensor, ...]:
    hidden, weight, _, q_hidden, q_weight = arguments[2:7]
    return (
        *empty_gradients(hidden, weight, arguments[-2]),
        *empty_gradients(q_hidden, q_weight, arguments[-1]),
    )


_INPUTS = (
    "Tensor hidden, Tensor weight, Tensor? bias, Tensor q_hidden, Tensor q_weight, Tensor? q_bias, float tau, "
    "int entropy_mode, Tensor? mask, int chunk_rows"
)
_SAVED = "Tensor value, Tensor entropy, Tensor log_normalizer, Tensor correction, Tensor value_low, Tensor effective_tau"
_policy_backward = register_backward(
    "linear_policy_backward",
    f"(Tensor? grad_value, Tensor? grad_entropy, {_INPUTS}, {_SAVED}, int wanted, int q_wanted) "
    "-> (Tensor grad_hidden, Tensor grad_weight, Tensor grad_bias, "
    "Tensor grad_q_hidden, Tensor grad_q_weight, Tensor grad_q_bias)",
    kernel=_backward,
    fake=_fake_backward,
)
_policy = register(
    "linear_policy",
    f"({_INPUTS}, int taken) -> ({_SAVED}, Tensor total, Tensor grad_hidden, Tensor grad_weight, Tensor grad_bias)",
    kernel=_forward,
    fake=lambda *arguments: (
        *(per_row(arguments[0]) for _ in range(RESULTS)),
        empty_sum(arguments[0]),
        *empty_gradients(arguments[0], arguments[1], arguments[-1], wide=True),
    ),
    backward=_autograd,
    setup_context=_setup_context,
)
