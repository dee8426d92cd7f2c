"""The kernels of `divergence`: two distributions over the vocabulary compared row by row."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from softbellman.core.launch import launch, new_gradient, row_matrix, several_per_row

KINDS = ("forward_kl", "reverse_kl", "jsd")


class DivergenceRows(NamedTuple):
    """What each row gets, [...] in the statistic type; all but the first serve the backward pass.

    The normaliser of a row is `temperature * log sum_w exp(logits / temperature)`, rounded; its correction is what the
    weights `exp((logits - log_normalizer) / temperature)` have to be multiplied by. `mixture_divergence` is the KL
    divergence of the mixture from the distribution that makes the larger part of it (kind "jsd", else 0).
    """

    divergence: Tensor
    log_normalizer: Tensor
    correction: Tensor
    other_log_normalizer: Tensor
    other_correction: Tensor
    mixture_divergence: Tensor


def divergence_rows(
    logits: Tensor,
    other: Tensor,
    kind: str,
    beta: float,
    temperature: float,
    other_temperature: float,
    mask: Tensor | None,
) -> DivergenceRows:
    """The divergences `[...]` of rows `[..., V]`, and what their backward pass needs."""
    results = DivergenceRows(*several_per_row(logits, len(DivergenceRows._fields)))
    launch(
        "divergence_forward",
        logits,
        share_rows=True,
        logits=row_matrix(logits),
        other=row_matrix(other),
        kind=KINDS.index(kind),
        beta=beta,
        temperature=temperature,
        other_temperature=other_temperature,
        mask=mask,
        **results._asdict(),
    )
    return results


def divergence_row_gradients(
    grad_divergence: Tensor,
    logits: Tensor,
    other: Tensor,
    kind: str,
    beta: float,
    temperature: float,
    other_temperature: float,
    mask: Tensor | None,
    saved: DivergenceRows,
    *,
    want_logits: bool = True,
    want_other: bool = False,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients `[..., V]` of logits and other; a row of infinite divergence gets zeros."""
    grad_logits = new_gradient(logits) if want_logits else None
    grad_other = new_gradient(other) if want_other else None
    launch(
        "divergence_backward",
        logits,
        logits=row_matrix(logits),
        other=row_matrix(other),
        kind=KINDS.index(kind),
        beta=beta,
        temperature=temperature,
        other_temperature=other_temperature,
        mask=mask,
        **saved._asdict(),
        grad_divergence=grad_divergence,
        grad_logits=None if grad_logits is None else row_matrix(grad_logits),
        grad_other=None if grad_other is None else row_matrix(grad_other),
    )
    return grad_logits, grad_other
