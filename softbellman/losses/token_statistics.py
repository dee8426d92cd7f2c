"""What a row of logits says of its target: log-probability, entropy and log-normaliser, from one read.

Backward reads the rows once more and writes their gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from softbellman.core.checks import check_mask, check_number, check_numbers, statistic_dtype
from softbellman.core.head import Rows, check_row_argument
from softbellman.core.launch import launch, row_matrix, several_per_row, vector
from softbellman.core.row_operator import RowOperator, check_reduction
from softbellman.core.shards import Exchange, cleared, counted, merge_normalizers
from softbellman.losses.targets import real_targets

OUTPUTS = ("log_prob", "entropy", "log_normalizer")


class TokenObjective(NamedTuple):
    """The weighted sum, and what it was made of, without a graph; shapes and units in `token_objective`."""

    objective: Tensor
    log_prob: Tensor
    entropy: Tensor
    log_normalizer: Tensor


def token_statistics(
    logits: Rows,
    targets: Tensor | None,
    *,
    mask: Tensor | None = None,
    ignore_index: int | None = None,
    outputs: tuple[str, ...] = OUTPUTS,
) -> tuple[Tensor, ...]:
    """`log pi(target)`, the entropy `H(pi)` and the log-normaliser `log sum_w exp(logits(w))` of pi = softmax(logits).

    All three come from one read of each row, with a `Head` from one matmul, and all are differentiable. Their sums give
    policy gradients, entropy bonuses, importance ratios and the penalty of log-normalisers ("z-loss").

    Args:
        logits: unnormalised log-probabilities `[..., V]`, a tensor or a `Head`.
        targets: int64 `[...]`; None where "log_prob" is not asked for. Ids outside [0, V) raise on the CPU; on a GPU
            they are not looked for, since that would synchronize.
        mask: bool or 0/1 integers `[...]`, True for real rows. Masked rows are not read and give 0.
        ignore_index: a row with this target is masked; None: no such target.
        outputs: which of "log_prob", "entropy" and "log_normalizer" to give.

    Returns:
        What `outputs` names, in its order, `[...]` each, in nats; float64 for float64 logits, else float32. The log-probability
        of a target whose logit is `-inf` is `-inf`. Logits that are `-inf` throughout give 0, 0 and `-inf`, without gradient.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or range.

    Example:
        >>> log_prob, entropy = token_statistics(torch.zeros(2), torch.tensor(0), outputs=("log_prob", "entropy"))
        >>> log_prob, entropy  # log 1/2, log 2
        (tensor(-0.6931), tensor(0.6931))
    """
    check_row_argument("logits", logits)
    mask = check_mask(mask, "logits", logits)
    _check_outputs(outputs)
    if targets is None:
        if "log_prob" in outputs:
            raise ValueError("targets must be given where outputs has 'log_prob', got None")
        if ignore_index is not None:
            raise ValueError(f"targets must be given with ignore_index, {ignore_index}, got None")
    else:
        targets, mask = real_targets(targets, mask, ignore_index, "logits", logits)
    found = dict(zip(OUTPUTS, TOKEN_STATISTICS((logits,), (targets,), mask), strict=False))
    return tuple(found[name] for name in outputs)


def token_objective(
    logits: Rows,
    targets: Tensor,
    *,
    log_prob_weights: float | Tensor = 1.0,
    entropy_weights: float | Tensor = 0.0,
    normalizer_weights: float | Tensor = 0.0,
    squared_normalizer_weights: float | Tensor = 0.0,
    mask: Tensor | None = None,
    ignore_index: int | None = None,
    reduction: str = "sum",
    row_weights: Tensor | None = None,
    inplace_backward: bool = False,
) -> TokenObjective:
    """`a log pi(target) + b H(pi) + c Z + d Z^2` of each row, Z the log-normaliser, summed over the rows.

    With a `Head` a reduced objective takes its gradients along in the forward pass: three matmuls in all. A policy gradient
    with an entropy bonus to descend is `a = -advantage`, `b = -coefficient`; maximum likelihood with a z-loss is `a = -1`,
    `d = coefficient`. Differentiable in logits; the weights are constants.

    Args:
        logits: unnormalised log-probabilities `[..., V]`, a tensor or a `Head`.
        targets: int64 `[...]`, as in `token_statistics`.
        log_prob_weights: a, one number or a floating tensor `[...]`. A term with weight 0 counts nothing, whatever its value.
        entropy_weights: b, likewise.
        normalizer_weights: c, likewise.
        squared_normalizer_weights: d, likewise.
        mask: bool or 0/1 integers `[...]`, True for real rows. Masked rows are not read and give 0.
        ignore_index: a row with this target is masked; None: no such target.
        reduction: "sum" or "mean" over the real rows, or "none".
        row_weights: `[...]` floating, what the objective of each row is multiplied by; constants. None: 1.
        inplace_backward: let the backward pass of a reduced head scale the saved gradients in place. It then may
            run once.

    Returns:
        objective, a scalar or `[...]`, and the log_prob, entropy and log_normalizer of each row, `[...]`, without a graph;
        float64 for float64 logits, else float32. Logits that are `-inf` throughout add 0.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or range.

    Example:
        >>> token_objective(torch.zeros(3, 2), torch.tensor([0, 1, 1]), log_prob_weights=-1.0).objective  # 3 log 2
        tensor(2.0794)
    """
    check_row_argument("logits", logits)
    mask = check_mask(mask, "logits", logits)
    targets, mask = real_targets(targets, mask, ignore_index, "logits", logits)
    weights = [
        _row_weights(name, weight, logits)
        for name, weight in (
            ("log_prob_weights", log_prob_weights),
            ("entropy_weights", entropy_weights),
            ("normalizer_weights", normalizer_weights),
            ("squared_normalizer_weights", squared_normalizer_weights),
        )
    ]
    how = check_reduction(reduction, row_weights, inplace_backward, "logits", logits)
    return TokenObjective(*TOKEN_OBJECTIVE.reduce((logits,), (targets, *weights), mask, how)[:4])


def _check_outputs(outputs: tuple[str, ...]) -> None:
    if isinstance(outputs, str) or not outputs or any(name not in OUTPUTS for name in outputs):
        raise ValueError(f"outputs must name some of {', '.join(map(repr, OUTPUTS))}, got {outputs!r}")


def _row_weights(name: str, weight: float | Tensor, logits: Rows) -> Tensor | None:
    """Weights `[...]` in the statistic type; None for the number 0."""
    like = logits if isinstance(logits, Tensor) else logits.hidden
    if isinstance(weight, Tensor):
        check_numbers(name, weight, "logits", logits)
        return weight.detach().to(statistic_dtype(logits.dtype))
    check_number(name, weight)
    if weight != weight or abs(weight) == float("inf"):
        raise ValueError(f"{name} must be finite, got {weight}")
    if weight == 0.0:
        return None
    return like.new_full(logits.shape[:-1], weight, dtype=statistic_dtype(logits.dtype))


def token_statistics_forward(
    logits: Tensor, targets: Tensor | None, mask: Tensor | None
) -> tuple[Tensor, ...]:
    """The three statistics of rows `[..., V]`, and what the rounding of the log-normaliser does to the weights."""
    results = several_per_row(logits, 4)
    log_prob, entropy, log_normalizer, correction = results
    launch(
        "token_statistics_forward",
        logits,
        share_rows=True,
        logits=row_matrix(logits),
        targets=vector(targets),
        mask=vector(mask),
        log_prob=log_prob,
        entropy=entropy,
        log_normalizer=log_normalizer,
        correction=correction,
    )
    return results


def token_statistics_of_shards(
    logits: Tensor, targets: Tensor | None, mask: Tensor | None, exchange: Exchange
) -> tuple[Tensor, ...]:
    """What `token_statistics_forward` gives, of rows whose columns `[..., V_local]` are spread over processes."""
    own = token_statistics_forward(logits, targets, mask)
    log_probs, entropies, rounded, corrections = exchange(*own)
    whole = merge_normalizers(rounded, corrections, logits, mask=mask)
    entropy = counted(whole.shares, entropies - whole.log_shares)
    log_prob = torch.zeros_like(entropy)
    if targets is not None:  # -inf where a process has not the target
        log_prob = (log_probs + whole.log_shares).amax(0).masked_fill(whole.exact == -torch.inf, 0.0)
    return (
        *(cleared(one, logits, mask) for one in (log_prob, entropy, whole.rounded)),
        whole.correction,
    )


def token_statistics_backward(
    grad_log_prob: Tensor | None,
    grad_entropy: Tensor | None,
    grad_log_normalizer: Tensor | None,
    logits: Tensor,
    targets: Tensor | None,
    mask: Tensor | None,
    entropy: Tensor,
    log_normalizer: Tensor,
    correction: Tensor,
    grad_logits: Tensor,
) -> None:
    """Fill the gradient of rows `[..., V]`, a tensor like them."""
    launch(
        "token_statistics_backward",
        logits,
        logits=row_matrix(logits),
        targets=vector(targets),
        mask=vector(mask),
        entropy=entropy,
        log_normalizer=log_normalizer,
        correction=correction,
        grad_log_prob=None if targets is None else grad_log_prob,
        grad_entropy=grad_entropy,
        grad_log_normalizer=grad_log_normalizer,
        grad_logits=row_matrix(grad_logits),
    )


Weights = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]


def token_objective_forward(
    logits: Tensor,
    targets: Tensor,
    log_prob_weights: Tensor | None,
    entropy_weights: Tensor | None,
    normalizer_weights: Tensor | None,
    squared_normalizer_weights: Tensor | None,
    mask: Tensor | None,
) -> tuple[Tensor, ...]:
    """The objective of rows `[..., V]`, and the results of `token_statistics_forward`."""
    results = token_statistics_forward(logits, targets, mask)
    weights = log_prob_weights, entropy_weights, normalizer_weights, squared_normalizer_weights
    return _objective(results, weights, mask), *results


def token_objective_of_shards(
    logits: Tensor,
    targets: Tensor,
    log_prob_weights: Tensor | None,
    entropy_weights: Tensor | None,
    normalizer_weights: Tensor | None,
    squared_normalizer_weights: Tensor | None,
    mask: Tensor | None,
    exchange: Exchange,
) -> tuple[Tensor, ...]:
    """The objective, and the results of `token_statistics_of_shards`."""
    results = token_statistics_of_shards(logits, targets, mask, exchange)
    weights = log_prob_weights, entropy_weights, normalizer_weights, squared_normalizer_weights
    return _objective(results, weights, mask), *results


def _objective(results: tuple[Tensor, ...], of_rows: Weights, mask: Tensor | None) -> Tensor:
    log_prob, entropy, log_normalizer, _ = results
    exists = log_normalizer != -torch.inf
    if mask is not None:
        exists &= mask
    objective = torch.zeros_like(log_prob)
    statistics = log_prob, entropy, log_normalizer, log_normalizer.square()
    for weights, statistic in zip(of_rows, statistics, strict=True):
        if weights is not None:
            objective += torch.where(exists & (weights != 0), weights * statistic, 0.0)
    return objective


def token_objective_backward(
    grad_objective: Tensor,
    logits: Tensor,
    targets: Tensor,
    log_prob_weights: Tensor | None,
    entropy_weights: Tensor | None,
    normalizer_weights: Tensor | None,
    squared_normalizer_weights: Tensor | None,
    mask: Tensor | None,
    entropy: Tensor,
    log_normalizer: Tensor,
    correction: Tensor,
    grad_logits: Tensor,
) -> None:
    """Fill the gradient of rows `[..., V]`, a tensor like them; 0 in rows whose weights are all 0."""
    given = log_prob_weights, entropy_weights, normalizer_weights, squared_normalizer_weights
    counts = torch.stack([weights != 0 for weights in given if weights is not None]).any(0)
    mask = counts if mask is None else mask & counts
    of_target, of_entropy, of_normalizer = (
        None if weights is None else grad_objective * weights
        for weights in (log_prob_weights, entropy_weights, normalizer_weights)
    )
    if squared_normalizer_weights is not None:
        squared = 2 * log_normalizer * grad_objective * squared_normalizer_weights
        of_normalizer = squared if of_normalizer is None else of_normalizer + squared
    token_statistics_backward(
        of_target,
        of_entropy,
        of_normalizer,
        logits,
        targets,
        mask,
        entropy,
        log_normalizer,
        correction,
        grad_logits,
    )


TOKEN_STATISTICS = RowOperator(
    name="token_statistics",
    rows=("logits",),
    inputs=("Tensor? targets",),
    results=(*OUTPUTS, "correction"),
    outputs=3,
    saved=("entropy", "log_normalizer", "correction"),
    differentiable=("logits",),
    forward=token_statistics_forward,
    backward=token_statistics_backward,
    sharded=token_statistics_of_shards,
)
TOKEN_OBJECTIVE = RowOperator(
    name="token_objective",
    rows=("logits",),
    inputs=(
        "Tensor targets",
        "Tensor? log_prob_weights",
        "Tensor? entropy_weights",
        "Tensor? normalizer_weights",
        "Tensor? squared_normalizer_weights",
    ),
    results=("objective", *OUTPUTS, "correction"),
    outputs=1,
    saved=("entropy", "log_normalizer", "correction"),
    differentiable=("logits",),
    forward=token_objective_forward,
    backward=token_objective_backward,
    sharded=token_objective_of_shards,
)
