"""The kernel shared by `policy_value` and `actor_loss`: a policy weighed against Q in one read of each."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from softbellman.core.launch import launch, new_gradient, row_matrix, several_per_row
from softbellman.core.operator import register, register_backward

ENTROPY_MODES = ("exact", "normalized", "none")
RESULTS = 6  # numbers that a row gets


def policy_row_terms(
    logits: Tensor, q: Tensor, tau: float, entropy_mode: int, mask: Tensor | None
) -> tuple[Tensor, ...]:
    """Value and entropy [...] of rows [..., V], and what the backward pass needs of a row besides: log-normaliser, what
    its rounding does to the weights, the low part of the value, effective temperature."""
    value, entropy, log_normalizer, correction, value_low, effective_tau = results = _results(logits)
    launch(
        "policy_forward", logits, share_rows=True, logits=row_matrix(logits), q=row_matrix(q), tau=tau,
        entropy_mode=entropy_mode, mask=mask, value=value, entropy=entropy, log_normalizer=log_normalizer,
        correction=correction, value_low=value_low, effective_tau=effective_tau,
    )  # fmt: skip
    return results


def _results(logits: Tensor) -> tuple[Tensor, ...]:
    return several_per_row(logits, RESULTS)


def policy_row_gradients(
    grad_value: Tensor | None,
    grad_entropy: Tensor | None,
    logits: Tensor,
    q: Tensor,
    mask: Tensor | None,
    value: Tensor,
    entropy: Tensor,
    log_normalizer: Tensor,
    correction: Tensor,
    value_low: Tensor,
    effective_tau: Tensor,
    want_logits: bool,
    want_q: bool,
    into: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Gradients of the logits and of q, written `into` contiguous tensors where given (on the CPU their own)."""
    grad_logits, grad_q = into or (
        new_gradient(rows) if wanted else rows.new_empty(0)
        for rows, wanted in ((logits, want_logits), (q, want_q))
    )
    launch(
        "policy_backward", logits, logits=row_matrix(logits), q=row_matrix(q), mask=mask, value=value, entropy=entropy,
        log_normalizer=log_normalizer, correction=correction, value_low=value_low, effective_tau=effective_tau,
        grad_value=grad_value, grad_entropy=grad_entropy, grad_logits=row_matrix(grad_logits) if want_logits else None,
        grad_q=row_matrix(grad_q) if want_q else None,
    )  # fmt: skip
    return grad_logits, grad_q


def _gradients(rows: Tensor, wanted: bool) -> Tensor:
    return rows.new_empty(rows.shape if wanted else (0,))


def _fake_backward(*arguments: Any) -> tuple[Tensor, Tensor]:
    logits, q, want_logits, want_q = arguments[2], arguments[3], arguments[-2], arguments[-1]
    return _gradients(logits, want_logits), _gradients(q, want_q)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    logits, q, _, _, mask = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[2:])
    ctx.save_for_backward(logits, q, mask, *output)


def _autograd(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
    grad_value, grad_entropy = gradients[:2]
    want_logits, want_q = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
    want_q = want_q and grad_value is not None  # the entropy does not depend on q
    if not (want_logits or want_q) or (grad_value is None and grad_entropy is None):
        return None, None, None, None, None
    logits, q, mask, *statistics = ctx.saved_tensors
    grad_logits, grad_q = policy_backward(
        grad_value, grad_entropy, logits, q, mask, *statistics, want_logits, want_q
    )
    return grad_logits if want_logits else None, grad_q if want_q else None, None, None, None


policy_backward = register_backward(
    "policy_backward",
    "(Tensor? grad_value, Tensor? grad_entropy, Tensor logits, Tensor q, Tensor? mask, Tensor value, "
    "Tensor entropy, Tensor log_normalizer, Tensor correction, Tensor value_low, Tensor effective_tau, "
    "bool want_logits, bool want_q) -> (Tensor grad_logits, Tensor grad_q)",
    kernel=policy_row_gradients,
    fake=_fake_backward,
)
policy = register(
    "policy",
    "(Tensor logits, Tensor q, float tau, int entropy_mode, Tensor? mask) "
    "-> (Tensor value, Tensor entropy, Tensor log_normalizer, Tensor correction, Tensor value_low, "
    "Tensor effective_tau)",
    kernel=policy_row_terms,
    fake=lambda logits, *_: _results(logits),
    backward=_autograd,
    setup_context=_setup_context,
)
