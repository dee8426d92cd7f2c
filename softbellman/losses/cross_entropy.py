"""Cross-entropies of the policy against a token, a Q-function's softmax, or a mixture of both (equation 17).

One read of each input; backward reads them once more and writes the gradient of the logits.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from softbellman.core.checks import (
    check_fraction,
    check_ids,
    check_mask,
    check_numbers,
    check_positive,
    check_rows,
    check_same_rows,
    statistic_dtype,
)
from softbellman.core.launch import launch, new_gradient, row_matrix, several_per_row, vector
from softbellman.core.operator import register, register_backward

RESULTS = 5  # numbers that a row gets: loss, two log-normalisers and what their rounding does to the weights


def soft_target_cross_entropy(
    logits: Tensor,
    q: Tensor,
    *,
    tau: float,
    mask: Tensor | None = None,
    targets: Tensor | None = None,
    oracle_weight: float | Tensor = 1.0,
) -> Tensor:
    """`-sum_w [alpha softmax(q / tau)(w) + (1 - alpha) 1(w = target)] log pi(w)` (equation 17 at alpha = 1).

    Differentiable in logits; q and alpha, the oracle_weight, are constants. alpha = 1 is VAML, alpha = 0 is
    RAML or maximum likelihood, and alpha drawn per token (or its mean) is the authors' mixture of the two.

    Args:
        logits: unnormalised log-probabilities [..., V] of the policy pi.
        q: action values [..., V] of the oracle with the dtype and device of logits.
        tau: temperature of the oracle, above 0, in the unit of q.
        mask: bool [...], True for real rows. Masked rows are not read and give 0.
        targets: int64 [...], needed unless oracle_weight is 1. Ids outside [0, V) raise on the CPU; on a GPU
            they are not looked for, since that would wait for the device.
        oracle_weight: alpha in [0, 1], one number or a tensor [...] (whose range is not looked at).

    Returns:
        Cross-entropies [...] in nats, float64 for float64 logits, else float32. Logits that are `-inf`
        throughout give 0; a q that is `-inf` throughout is an oracle without an opinion, whose part of the
        sum is 0.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or device, an id out of range, tau not
            above 0, targets missing.

    Example:
        >>> logits = torch.tensor([0.0, 1.0]).log()  # the policy is sure of token 1
        >>> soft_target_cross_entropy(logits, torch.tensor([-torch.inf, 5.0]), tau=0.4)
        tensor(0.)
    """
    check_rows("logits", logits)
    check_same_rows("q", q, "logits", logits)
    check_positive("tau", tau)
    check_mask(mask, "logits", logits)
    if targets is not None:
        check_ids("targets", targets, "logits", logits)
    if isinstance(oracle_weight, Tensor):
        check_numbers("oracle_weight", oracle_weight, "logits", logits)
        weight: Tensor | None = oracle_weight
    else:
        check_fraction("oracle_weight", oracle_weight)
        weight = None
        if oracle_weight != 1.0:
            weight = logits.new_full(logits.shape[:-1], oracle_weight, dtype=statistic_dtype(logits.dtype))
    if weight is not None and targets is None:
        raise ValueError("targets must be given unless oracle_weight is 1, got None")
    loss: Tensor = _distillation(logits, q, tau, targets, weight, mask)[0]
    return loss


def token_cross_entropy(logits: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """`-log pi(target)` with pi = softmax(logits): the loss of maximum likelihood, one row at a time.

    Args:
        logits: unnormalised log-probabilities [..., V].
        targets: int64 [...]. Ids outside [0, V) raise on the CPU; on a GPU they are not looked for, since
            that would wait for the device.
        mask: bool [...], True for real rows. Masked rows are not read and give 0.

    Returns:
        Negative log-likelihoods [...] in nats, float64 for float64 logits, else float32; `inf` for a target
        whose logit is `-inf`, 0 for logits that are `-inf` throughout.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or device, an id out of range.

    Example:
        >>> token_cross_entropy(torch.zeros(2), torch.tensor(0))  # log 2
        tensor(0.6931)
    """
    check_rows("logits", logits)
    check_ids("targets", targets, "logits", logits)
    check_mask(mask, "logits", logits)
    loss: Tensor = _distillation(logits, None, 1.0, targets, None, mask)[0]
    return loss


def distillation_forward(
    logits: Tensor,
    q: Tensor | None,
    tau: float,
    targets: Tensor | None,
    oracle_weight: Tensor | None,
    mask: Tensor | None,
) -> tuple[Tensor, ...]:
    """Loss and the two log-normalisers [...] of rows [..., V]."""
    loss, log_normalizer, correction, oracle_log_normalizer, oracle_correction = results = _results(logits)
    launch(
        "cross_entropy_forward", logits, share_rows=True, logits=row_matrix(logits),
        q=None if q is None else row_matrix(q), tau=tau, targets=targets,
        oracle_weight=vector(oracle_weight, statistic_dtype(logits.dtype)), mask=mask, loss=loss,
        log_normalizer=log_normalizer, correction=correction, oracle_log_normalizer=oracle_log_normalizer,
        oracle_correction=oracle_correction,
    )  # fmt: skip
    return results


def _results(logits: Tensor) -> tuple[Tensor, ...]:
    return several_per_row(logits, RESULTS)


def distillation_backward(
    gradient: Tensor,
    logits: Tensor,
    q: Tensor | None,
    tau: float,
    targets: Tensor | None,
    oracle_weight: Tensor | None,
    mask: Tensor | None,
    log_normalizer: Tensor,
    correction: Tensor,
    oracle_log_normalizer: Tensor,
    oracle_correction: Tensor,
    into: Tensor | None = None,
) -> Tensor:
    """Gradient of the logits, written `into` a contiguous tensor where given (on the CPU the logits' own)."""
    grad_logits = new_gradient(logits) if into is None else into
    launch(
        "cross_entropy_backward", logits, logits=row_matrix(logits), q=None if q is None else row_matrix(q), tau=tau,
        targets=targets, oracle_weight=vector(oracle_weight, statistic_dtype(logits.dtype)), mask=mask,
        log_normalizer=log_normalizer, correction=correction, oracle_log_normalizer=oracle_log_normalizer,
        oracle_correction=oracle_correction, grad_loss=gradient, grad_logits=row_matrix(grad_logits),
    )  # fmt: skip
    return grad_logits


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    logits, q, ctx.tau, targets, oracle_weight, mask = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(logits, q, targets, oracle_weight, mask, *output[1:])


def _autograd(ctx: Any, gradient: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    grad_logits = None
    if gradient is not None and ctx.needs_input_grad[0]:
        logits, q, *others = ctx.saved_tensors
        grad_logits = _distillation_backward(gradient, logits, q, ctx.tau, *others)
    return grad_logits, None, None, None, None, None


_distillation_backward = register_backward(
    "distillation_backward",
    "(Tensor gradient, Tensor logits, Tensor? q, float tau, Tensor? targets, Tensor? oracle_weight, "
    "Tensor? mask, Tensor log_normalizer, Tensor correction, Tensor oracle_log_normalizer, Tensor oracle_correction) "
    "-> Tensor",
    kernel=distillation_backward,
    fake=lambda gradient, logits, *_: logits.new_empty(logits.shape),
)
_distillation = register(
    "distillation",
    "(Tensor logits, Tensor? q, float tau, Tensor? targets, Tensor? oracle_weight, Tensor? mask) "
    "-> (Tensor loss, Tensor log_normalizer, Tensor correction, Tensor oracle_log_normalizer, "
    "Tensor oracle_correction)",
    kernel=distillation_forward,
    fake=lambda logits, *_: _results(logits),
    backward=_autograd,
    setup_context=_setup_context,
)
