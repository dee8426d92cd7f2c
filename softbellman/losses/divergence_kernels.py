"""The kernels of the divergence, and its description.

Forward one read of each input, backward one more of each and one write of each gradient.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from softbellman.core.launch import launch, row_matrix, several_per_row, vector
from softbellman.core.row_operator import RowOperator
from softbellman.losses.divergence_of_shards import divergence_of_shards


def divergence_forward(
    logits: Tensor,
    other: Tensor,
    kind: int,
    beta: float,
    temperature: float,
    other_temperature: float,
    mask: Tensor | None,
) -> tuple[Tensor, ...]:
    """The divergences of rows `[..., V]`, and what the backward pass needs of a row besides.

    A normaliser is `temperature log sum_w exp(logits / temperature)`, rounded; its correction is what the weights
    `exp((logits - log_normalizer) / temperature)` have to be multiplied by. `mixture_divergence` is `KL(second, m)` of
    "jsd", the second being p for beta up to 1/2 and o above; else 0.
    """
    results = several_per_row(logits, 6)
    names = DIVERGENCE.results
    launch(
        "divergence_forward",
        logits,
        share_rows=True,
        logits=row_matrix(logits),
        other=row_matrix(other),
        kind=kind,
        beta=beta,
        temperature=temperature,
        other_temperature=other_temperature,
        mask=vector(mask),
        **dict(zip(names, results, strict=True)),
    )
    return results


def divergence_backward(
    grad_divergence: Tensor,
    logits: Tensor,
    other: Tensor,
    kind: int,
    beta: float,
    temperature: float,
    other_temperature: float,
    mask: Tensor | None,
    divergence: Tensor,
    log_normalizer: Tensor,
    correction: Tensor,
    other_log_normalizer: Tensor,
    other_correction: Tensor,
    mixture_divergence: Tensor,
    grad_logits: Tensor | None,
    grad_other: Tensor | None,
) -> None:
    """Fill the gradients of rows `[..., V]`, each a tensor like its rows; None where not wanted."""
    launch(
        "divergence_backward",
        logits,
        logits=row_matrix(logits),
        other=row_matrix(other),
        kind=kind,
        beta=beta,
        temperature=temperature,
        other_temperature=other_temperature,
        mask=vector(mask),
        divergence=divergence,
        log_normalizer=log_normalizer,
        correction=correction,
        other_log_normalizer=other_log_normalizer,
        other_correction=other_correction,
        mixture_divergence=mixture_divergence,
        grad_divergence=grad_divergence,
        grad_logits=None if grad_logits is None else row_matrix(grad_logits),
        grad_other=None if grad_other is None else row_matrix(grad_other),
    )


DIVERGENCE = RowOperator(
    name="divergence",
    rows=("logits", "other"),
    inputs=("int kind", "float beta", "float temperature", "float other_temperature"),
    results=(
        "divergence",
        "log_normalizer",
        "correction",
        "other_log_normalizer",
        "other_correction",
        "mixture_divergence",
    ),
    outputs=1,
    saved=(
        "divergence",
        "log_normalizer",
        "correction",
        "other_log_normalizer",
        "other_correction",
        "mixture_divergence",
    ),
    differentiable=("logits", "other"),
    forward=divergence_forward,
    backward=divergence_backward,
    sharded=partial(divergence_of_shards, divergence_forward),
)
