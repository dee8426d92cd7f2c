"""Cross entropies of the policy against a token, a softmax of action values, or a mixture of both; Eq. (17).

Forward one read of each input; backward reads them once more and writes the gradient of the logits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from softbellman.core.checks import (
    check_fraction,
    check_ids,
    check_mask,
    check_numbers,
    check_temperature,
    statistic_dtype,
)
from softbellman.core.head import Rows, check_row_argument, check_rows_beside
from softbellman.core.launch import launch, row_matrix, several_per_row, vector
from softbellman.core.row_operator import RowOperator, check_reduction
from softbellman.core.shards import Exchange, cleared, counted, merge_normalizers
from softbellman.losses.targets import real_targets


def soft_target_cross_entropy(
    logits: Rows,
    q: Rows,
    *,
    tau: float,
    mask: Tensor | None = None,
    targets: Tensor | None = None,
    oracle_weight: float | Tensor = 1.0,
    reduction: str = "none",
    row_weights: Tensor | None = None,
    inplace_backward: bool = False,
) -> Tensor:
    """`-sum_w [alpha softmax(q / tau)(w) + (1 - alpha) 1(w = target)] log pi(w)`; Eq. (17) at alpha = 1.

    Differentiable in logits; q and alpha, the oracle_weight, are constants. alpha = 1 is VAML, alpha = 0 is
    RAML or maximum likelihood. alpha drawn per token, or its mean, is the authors' mixture of the two.

    Args:
        logits: unnormalised log-probabilities `[..., V]` of the policy pi, a tensor or a `Head`.
        q: action values `[..., V]` of the oracle, a tensor with the dtype of logits or a `Head`.
        tau: temperature of the oracle in the unit of q, between 1e-30 and 1e30.
        mask: bool or 0/1 integers `[...]`, True for real rows. Masked rows are not read and give 0.
        targets: int64 `[...]`, needed unless oracle_weight is 1. Ids outside [0, V) raise on the CPU; on a GPU
            they are not looked for, since that would synchronize.
        oracle_weight: alpha in [0, 1], one number or a tensor `[...]` (whose range is not looked at).
        reduction: "none", or "sum" or "mean" over the real rows. With a `Head` a reduced loss takes its gradients
            along in the forward pass, which saves two matmuls.
        row_weights: `[...]` floating, what the loss of each row is multiplied by; constants. None: 1.
        inplace_backward: let the backward pass of a reduced head scale the saved gradients in place. It then may
            run once.

    Returns:
        Cross entropies in nats, `[...]` or a scalar; float64 for float64 logits, else float32. Logits that are
        `-inf` throughout give 0; a q that is `-inf` throughout is an oracle without an opinion, whose part of the
        sum is 0.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or range, targets missing.

    Example:
        >>> logits = torch.tensor([0.0, 1.0]).log()  # the policy is sure of token 1
        >>> soft_target_cross_entropy(logits, torch.tensor([-torch.inf, 5.0]), tau=0.4)
        tensor(0.)
    """
    check_row_argument("logits", logits)
    check_rows_beside("q", q, "logits", logits)
    check_temperature("tau", tau)
    mask = check_mask(mask, "logits", logits)
    if targets is not None:
        check_ids("targets", targets, "logits", logits)
    alpha: Tensor | None = None
    if isinstance(oracle_weight, Tensor):
        check_numbers("oracle_weight", oracle_weight, "logits", logits)
        alpha = oracle_weight.detach()
    else:
        check_fraction("oracle_weight", oracle_weight)
        if oracle_weight != 1.0:
            like = logits if isinstance(logits, Tensor) else logits.hidden
            alpha = like.new_full(logits.shape[:-1], oracle_weight, dtype=statistic_dtype(like.dtype))
    if alpha is not None and targets is None:
        raise ValueError("targets must be given unless oracle_weight is 1, got None")
    how = check_reduction(reduction, row_weights, inplace_backward, "logits", logits)
    return CROSS_ENTROPY.reduce((logits, q.detach()), (tau, targets, alpha), mask, how)[0]


def token_cross_entropy(
    logits: Rows,
    targets: Tensor,
    mask: Tensor | None = None,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "none",
    row_weights: Tensor | None = None,
    inplace_backward: bool = False,
) -> Tensor:
    """`-log pi(target)` with pi = softmax(logits): the loss of maximum likelihood, one row at a time.

    With label smoothing e it is `-(1 - e) log pi(target) - e / V sum_w log pi(w)`: the share e of the target is spread evenly
    over the vocabulary, padding of a `Head` excepted. A token whose logit is `-inf` then gives `inf`.

    Args:
        logits: unnormalised log-probabilities `[..., V]`, a tensor or a `Head`.
        targets: int64 `[...]`. Ids outside [0, V) raise on the CPU; on a GPU they are not looked for, since
            that would synchronize.
        mask: bool or 0/1 integers `[...]`, True for real rows. Masked rows are not read and give 0.
        ignore_index: a row with this target is masked; None: no such target.
        label_smoothing: e in [0, 1].
        reduction: "none", or "sum" or "mean" over the real rows. With a `Head` a reduced loss takes its gradients
            along in the forward pass, which saves a matmul.
        row_weights: `[...]` floating, what the loss of each row is multiplied by; constants. None: 1.
        inplace_backward: let the backward pass of a reduced head scale the saved gradients in place. It then may
            run once.

    Returns:
        Negative log-likelihoods in nats, `[...]` or a scalar; float64 for float64 logits, else float32. `inf` for a
        target whose logit is `-inf`, 0 for logits that are `-inf` throughout.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or range.

    Example:
        >>> token_cross_entropy(torch.zeros(2), torch.tensor(0))  # log 2
        tensor(0.6931)
    """
    check_row_argument("logits", logits)
    mask = check_mask(mask, "logits", logits)
    targets, mask = real_targets(targets, mask, ignore_index, "logits", logits)
    check_fraction("label_smoothing", label_smoothing)
    how = check_reduction(reduction, row_weights, inplace_backward, "logits", logits)
    if label_smoothing == 0.0:
        return CROSS_ENTROPY.reduce((logits, None), (1.0, targets, None), mask, how)[0]
    even = _even_rows(logits)
    share = even.new_full(logits.shape[:-1], label_smoothing, dtype=statistic_dtype(even.dtype))
    return CROSS_ENTROPY.reduce((logits, even), (1.0, targets, share), mask, how)[0]


def _even_rows(logits: Rows) -> Tensor:
    """Logits `[..., V]` of the even distribution over the vocabulary without its padding: one row, repeated."""
    if isinstance(logits, Tensor):
        return logits.new_zeros(logits.shape[-1]).expand(logits.shape)
    head = logits.cast()
    columns, tokens = logits.shape[-1], head.vocabulary
    if head.shards is not None:
        columns, tokens = head.shards.columns, head.shards.own_tokens(head.vocabulary)
    row = head.weight.detach().new_zeros(columns)
    if tokens is not None:
        row[tokens:] = -torch.inf
    return row.expand(*logits.shape[:-1], columns)


def cross_entropy_forward(
    logits: Tensor,
    q: Tensor | None,
    tau: float,
    targets: Tensor | None,
    oracle_weight: Tensor | None,
    mask: Tensor | None,
) -> tuple[Tensor, ...]:
    """Loss and the two log-normalisers of rows `[..., V]`, and what the rounding of these does to the weights."""
    results = several_per_row(logits, 5)
    loss, log_normalizer, correction, oracle_log_normalizer, oracle_correction = results
    launch(
        "cross_entropy_forward",
        logits,
        share_rows=True,
        logits=row_matrix(logits),
        q=None if q is None else row_matrix(q),
        tau=tau,
        targets=vector(targets),
        oracle_weight=vector(oracle_weight, statistic_dtype(logits.dtype)),
        mask=vector(mask),
        loss=loss,
        log_normalizer=log_normalizer,
        correction=correction,
        oracle_log_normalizer=oracle_log_normalizer,
        oracle_correction=oracle_correction,
    )
    return results


def cross_entropy_of_shards(
    logits: Tensor,
    q: Tensor | None,
    tau: float,
    targets: Tensor | None,
    oracle_weight: Tensor | None,
    mask: Tensor | None,
    exchange: Exchange,
) -> tuple[Tensor, ...]:
    """What `cross_entropy_forward` gives, of rows whose columns `[..., V_local]` are spread over processes.

    The two parts of the loss are put together apart: for a process that has not the target its part is infinite.
    """
    own = cross_entropy_forward(logits, q, tau, targets if q is None else None, None, mask)
    loss, *normalizers = own
    of_target = loss
    if q is not None and targets is not None:
        chosen = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1).double()  # (C, V), (C,) -> (C,)
        of_target = (normalizers[0].double() - chosen) - normalizers[1].double().log()
    losses, of_targets, *every = exchange(loss, of_target, *normalizers)
    policy = merge_normalizers(every[0], every[1], logits, mask=mask)
    target_loss = of_targets - policy.log_shares
    target_loss = target_loss.masked_fill(every[0] == -torch.inf, torch.inf).amin(0)
    if q is None:
        oracle = policy
        total = target_loss
    else:
        oracle = merge_normalizers(every[2], every[3], logits, mask=mask)  # of q / tau
        total = counted(oracle.shares, losses - policy.log_shares)
    if q is not None and oracle_weight is not None:
        alpha = oracle_weight.double()
        total = torch.where(alpha > 0.0, alpha * total, 0.0)
        total = total + torch.where(alpha < 1.0, (1.0 - alpha) * target_loss, 0.0)
    total = total.masked_fill(policy.exact == -torch.inf, 0.0)
    return (
        *(cleared(one, logits, mask) for one in (total, policy.rounded)),
        policy.correction,
        cleared(oracle.rounded, logits, mask),
        oracle.correction,
    )


def cross_entropy_backward(
    grad_loss: Tensor,
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
    grad_logits: Tensor,
) -> None:
    """Fill the gradient of the logits, a tensor like them."""
    launch(
        "cross_entropy_backward",
        logits,
        logits=row_matrix(logits),
        q=None if q is None else row_matrix(q),
        tau=tau,
        targets=vector(targets),
        oracle_weight=vector(oracle_weight, statistic_dtype(logits.dtype)),
        mask=vector(mask),
        log_normalizer=log_normalizer,
        correction=correction,
        oracle_log_normalizer=oracle_log_normalizer,
        oracle_correction=oracle_correction,
        grad_loss=grad_loss,
        grad_logits=row_matrix(grad_logits),
    )


CROSS_ENTROPY = RowOperator(
    name="cross_entropy",
    rows=("logits", "q?"),
    inputs=("float tau", "Tensor? targets", "Tensor? oracle_weight"),
    results=("loss", "log_normalizer", "correction", "oracle_log_normalizer", "oracle_correction"),
    outputs=1,
    saved=("log_normalizer", "correction", "oracle_log_normalizer", "oracle_correction"),
    differentiable=("logits",),
    forward=cross_entropy_forward,
    backward=cross_entropy_backward,
    sharded=cross_entropy_of_shards,
)
