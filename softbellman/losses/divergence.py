"""Divergences of two distributions over the vocabulary, row by row.

Forward one read of each input, backward one more of each and one write of each gradient.
"""

from __future__ import annotations

from torch import Tensor

from softbellman.core.checks import check_choice, check_mask, check_number, check_temperature
from softbellman.core.head import Rows, check_row_argument, check_rows_beside
from softbellman.core.launch import launch, row_matrix, several_per_row, vector
from softbellman.core.row_operator import RowOperator, check_reduction

KINDS = ("forward_kl", "reverse_kl", "jsd")  # by the native core's number


def divergence(
    logits: Rows,
    other: Rows,
    *,
    kind: str = "forward_kl",
    beta: float = 0.5,
    temperature: float = 1.0,
    other_temperature: float | None = None,
    mask: Tensor | None = None,
    reduction: str = "none",
    row_weights: Tensor | None = None,
    inplace_backward: bool = False,
) -> Tensor:
    """The divergence of `p = softmax(logits / temperature)` and `o = softmax(other / other_temperature)`, row by row.

    "forward_kl" is `KL(o || p)`, the loss of distillation from a teacher o; "reverse_kl" is `KL(p || o)`; "jsd" is the
    generalised Jensen-Shannon divergence `beta KL(o || m) + (1 - beta) KL(p || m)` with `m = beta o + (1 - beta) p`.
    All are summed in terms of at least 0, so nothing cancels. Differentiable in logits, and in other where it requires
    a gradient; detach a teacher's.

    Args:
        logits: unnormalised log-probabilities `[..., V]` of p, a tensor or a `Head`.
        other: those of o, a tensor with the dtype of logits or a `Head`.
        kind: "forward_kl", "reverse_kl" or "jsd".
        beta: weight of o in the mixture of "jsd", above 0 and below 1.
        temperature: of p, between 1e-30 and 1e30. Gradients are those of the divergence, without a factor of its square.
        other_temperature: of o; None takes that of p.
        mask: bool `[...]`, True for real rows. Masked rows are not read and give 0.
        reduction: "none", or "sum" or "mean" over the real rows. With a `Head` a reduced divergence takes its gradients
            along in the forward pass, which saves two matmuls.
        row_weights: `[...]` floating, what the divergence of each row is multiplied by; constants. None: 1.
        inplace_backward: let the backward pass of a reduced head scale the saved gradients in place. It then may
            run once.

    Returns:
        Divergences in nats, `[...]` or a scalar; float64 for float64 logits, else float32. `inf`, with a zero gradient,
        where a KL meets a token that its second distribution rules out; 0 where either row is `-inf` throughout.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or range.

    Example:
        >>> divergence(torch.zeros(2), torch.tensor([0.0, -torch.inf]))  # log 2
        tensor(0.6931)
    """
    check_row_argument("logits", logits)
    check_rows_beside("other", other, "logits", logits)
    number = check_choice("kind", kind, KINDS)
    check_number("beta", beta)
    if not 0.0 < beta < 1.0:
        raise ValueError(f"beta must lie between 0 and 1, both excluded, got {beta}")
    check_temperature("temperature", temperature)
    if other_temperature is None:
        other_temperature = temperature
    check_temperature("other_temperature", other_temperature)
    check_mask(mask, "logits", logits)
    how = check_reduction(reduction, row_weights, inplace_backward, "logits", logits)
    inputs = (number, beta, temperature, other_temperature)
    return DIVERGENCE.reduce((logits, other), inputs, mask, how)[0]


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
)
