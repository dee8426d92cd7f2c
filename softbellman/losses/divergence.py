"""Divergences of two distributions over the vocabulary, row by row.

Forward one read of each input, backward one more of each and one write of each gradient.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from softbellman.core.checks import check_choice, check_mask, check_number, check_temperature
from softbellman.core.head import Rows, check_row_argument, check_rows_beside
from softbellman.core.row_operator import check_reduction
from softbellman.losses.divergence_kernels import DIVERGENCE
from softbellman.losses.divergence_of_shards import KINDS
from softbellman.losses.several_teachers import sum_of_divergences


def divergence(
    logits: Rows,
    other: Rows | Sequence[Rows],
    *,
    kind: str = "forward_kl",
    beta: float = 0.5,
    temperature: float = 1.0,
    other_temperature: float | Sequence[float] | None = None,
    other_weights: Sequence[float] | None = None,
    mask: Tensor | None = None,
    reduction: str = "none",
    row_weights: Tensor | None = None,
    inplace_backward: bool = False,
) -> Tensor:
    """The divergence of `p = softmax(logits / temperature)` and `o = softmax(other / other_temperature)`, row by row.

    "forward_kl" is `KL(o || p)`, the loss of distillation from a teacher o; "reverse_kl" is `KL(p || o)`; "jsd" is the
    generalised Jensen-Shannon divergence `beta KL(o || m) + (1 - beta) KL(p || m)` with `m = beta o + (1 - beta) p`.
    All are summed in terms of at least 0, so nothing cancels: a divergence of 1e-9 keeps its digits. Differentiable in
    logits, and in other where it requires a gradient; detach a teacher's.

    Of a list of up to four distributions it is `sum_k weight_k D(p, o_k)`, differentiable in logits alone. A `Head` of the
    student is then multiplied out once for all.

    Args:
        logits: unnormalised log-probabilities `[..., V]` of p, a tensor or a `Head`.
        other: those of o, a tensor with the dtype of logits or a `Head`; or a list of these.
        kind: "forward_kl", "reverse_kl" or "jsd".
        beta: weight of o in the mixture of "jsd", above 0 and below 1.
        temperature: of p, between 1e-30 and 1e30. Gradients are those of the divergence, without a factor of its square.
        other_temperature: of o; None takes that of p. A number for each, or one for all, where other is a list.
        other_weights: of the divergences where other is a list, numbers of at least 0; None: their mean.
        mask: bool or 0/1 integers `[...]`, True for real rows. Masked rows are not read and give 0.
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
    number = check_choice("kind", kind, KINDS)
    check_number("beta", beta)
    if not 0.0 < beta < 1.0:
        raise ValueError(f"beta must lie between 0 and 1, both excluded, got {beta}")
    check_temperature("temperature", temperature)
    mask = check_mask(mask, "logits", logits)
    how = check_reduction(reduction, row_weights, inplace_backward, "logits", logits)
    if isinstance(other, (list, tuple)):
        of_others = other_weights, number, beta, temperature, other_temperature
        return sum_of_divergences(logits, other, *of_others, mask, how)
    check_rows_beside("other", other, "logits", logits)  # type: ignore[arg-type]
    if other_weights is not None:
        raise ValueError(f"other_weights must be None unless other is a list, got {other_weights!r}")
    if other_temperature is None:
        other_temperature = temperature
    check_temperature("other_temperature", other_temperature)  # type: ignore[arg-type]
    inputs = (number, beta, temperature, other_temperature)
    return DIVERGENCE.reduce((logits, other), inputs, mask, how)[0]  # type: ignore[arg-type]
