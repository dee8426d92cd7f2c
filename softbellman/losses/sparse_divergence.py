"""The divergence from or to a teacher of which only some log-probabilities are known.

A chunk's logits without the K known tokens are summed by the kernel of the soft value: that sum, the rest, and the K logits
are all that the divergence depends on. So the student's rest has its own digits, however small it is.

Notation: N rows, K known tokens of a row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from softbellman.core.checks import check_choice, check_dense, check_mask, statistic_dtype
from softbellman.core.head import Rows, check_row_argument
from softbellman.core.launch import several_per_row
from softbellman.core.operator import register
from softbellman.core.row_operator import RowOperator, check_reduction
from softbellman.losses.soft_value import soft_value_backward, soft_value_forward

DIRECTIONS = ("forward", "reverse")
TAILS = ("bucket", "renormalise", "drop")
_INFINITY = float("inf")
_CHUNK_NUMBERS = 1 << 24  # of the whole form: how many logits are copied at one time
_COPIES = 16  # and how many numbers there are at one time for each known token


def sparse_divergence(
    logits: Rows,
    ids: Tensor,
    log_probs: Tensor,
    *,
    direction: str = "forward",
    tail: str = "bucket",
    mask: Tensor | None = None,
    reduction: str = "none",
    row_weights: Tensor | None = None,
    inplace_backward: bool = False,
) -> Tensor:
    """The divergence of `p = softmax(logits)` and a teacher q that is known at K tokens of each row.

    With `q_k = exp(log_probs_k)` and `p_k = p(ids_k)`, rests `p_0 = 1 - sum_k p_k` and `q_0 = max(1 - sum_k q_k, eps)`, eps
    being 1.9e-6, or 3.6e-15 for float64 log_probs (16 machine epsilons, what rounding may leave of 1), `forward` is

    - "bucket": `sum_k q_k log(q_k / p_k) + q_0 log(q_0 / p_0)`, all other tokens being one;
    - "renormalise": `sum_k q'_k log(q'_k / p'_k)`, `q' = q / sum_k q_k`, `p' = p / sum_k p_k`;
    - "drop": `sum_k q_k log(q_k / p_k)`, which may be negative.

    `reverse` is the same with p and q exchanged. Where no other token is possible for the student, the bucket counts
    nothing if the teacher's rest is at most eps. Differentiable in logits; the teacher is a constant.

    Args:
        logits: unnormalised log-probabilities `[..., V]` of the student, a tensor or a `Head`.
        ids: int64 `[..., K]`, the known tokens in any order, K at least 1. An entry whose log-probability is `-inf`
            is absent: its id is not looked at. On the CPU repeated ids and ids outside [0, V) raise. On a GPU they are not
            looked for, since that would synchronize: the result is then undefined.
        log_probs: floating `[..., K]`, the teacher's log-probabilities of these tokens.
        direction: "forward", from the teacher to the student, or "reverse".
        tail: "bucket", "renormalise" or "drop".
        mask: bool or 0/1 integers `[...]`, True for real rows. Masked rows are not read and give 0.
        reduction: "none", or "sum" or "mean" over the real rows. With a `Head` a reduced divergence takes its gradients
            along in the forward pass, which saves a matmul.
        row_weights: `[...]` floating, what the divergence of each row is multiplied by; constants. None: 1.
        inplace_backward: let the backward pass of a reduced head scale the saved gradients in place. It then may
            run once.

    Returns:
        Divergences in nats, `[...]` or a scalar; float64 for float64 logits, else float32. `inf`, with a zero gradient,
        where the student rules out what the teacher has. 0 where logits are `-inf` throughout, and with "renormalise", which
        looks at the known tokens alone, where the teacher has none or, in reverse, the student none of the teacher's.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or range.

    Example:
        >>> known = torch.tensor([0.5, 0.25]).log()
        >>> sparse_divergence(torch.zeros(4), torch.tensor([0, 1]), known)  # log 2 / 2 - log 2 / 4
        tensor(0.1733)
    """
    check_row_argument("logits", logits)
    mask = check_mask(mask, "logits", logits)
    way, rest = check_choice("direction", direction, DIRECTIONS), check_choice("tail", tail, TAILS)
    _check_known(ids, log_probs, logits)
    how = check_reduction(reduction, row_weights, inplace_backward, "logits", logits)
    ids = known_ids(ids, log_probs, mask, logits.shape[-1])
    return SPARSE_DIVERGENCE.reduce((logits,), (ids, log_probs.detach(), way, rest), mask, how)[0]


def _check_known(ids: Tensor, log_probs: Tensor, logits: Rows) -> None:
    for name, tensor in (("ids", ids), ("log_probs", log_probs)):
        check_dense(name, tensor)
        if tensor.dim() != logits.dim() or tensor.shape[:-1] != logits.shape[:-1] or tensor.shape[-1] == 0:
            expected = ", ".join([*map(str, logits.shape[:-1]), "K"])
            raise ValueError(
                f"{name} must have shape [{expected}] with K at least 1, got {tuple(tensor.shape)}"
            )
        if tensor.device != logits.device:
            raise ValueError(f"{name} must be on the device of logits, {logits.device}, got {tensor.device}")
    if ids.dtype != torch.int64:
        raise TypeError(f"ids must hold int64 token ids, got {ids.dtype}")
    if not log_probs.is_floating_point():
        raise TypeError(f"log_probs must be a floating tensor, got {log_probs.dtype}")
    if ids.shape != log_probs.shape:
        raise ValueError(
            f"log_probs must have the shape of ids, {tuple(ids.shape)}, got {tuple(log_probs.shape)}"
        )


def known_ids(ids: Tensor, log_probs: Tensor, mask: Tensor | None, vocabulary: int) -> Tensor:
    """The ids `[..., K]`, those of absent entries and of masked rows replaced by -1; looked at on the CPU."""
    known = log_probs != -_INFINITY
    if mask is not None:
        known = known & mask.unsqueeze(-1)
    found: Tensor = _KNOWN(ids, known, vocabulary)
    return found


def _look_at_ids(ids: Tensor, known: Tensor, vocabulary: int) -> Tensor:
    found = torch.where(known, ids, -1)
    if ids.is_cuda:
        return found.clamp(-1, vocabulary - 1)
    wrong = known & ((ids < 0) | (ids >= vocabulary))
    if bool(wrong.any()):
        raise ValueError(f"ids must lie in [0, {vocabulary}), got {int(ids[wrong][0])}")
    ordered = found.sort(-1).values
    twice = (ordered[..., 1:] == ordered[..., :-1]) & (ordered[..., 1:] >= 0)
    if bool(twice.any()):
        raise ValueError(f"ids must differ within a row, got {int(ordered[..., 1:][twice][0])} twice")
    return found


# An operator, so that compiled code looks at the ids when it runs.
_KNOWN = register(
    "known_ids",
    "(Tensor ids, Tensor known, int vocabulary) -> Tensor",
    kernel=_look_at_ids,
    fake=lambda ids, *_: torch.empty_like(ids),
)


class _Known(NamedTuple):
    """Known tokens of rows: which are known, `[N, K]`, their logits and log-probabilities in float64."""

    known: Tensor
    logits: Tensor
    log_probs: Tensor


def _known(part: _Part, log_probs: Tensor) -> _Known:
    values = part.logits.gather(-1, part.ids).double().masked_fill(~part.known, -_INFINITY)
    return _Known(part.known, values, log_probs.double().masked_fill(~part.known, -_INFINITY))


def _without_known(part: _Part, out: Tensor) -> Tensor:
    """A copy of the logits with `-inf` at the known tokens, in `out`."""
    out.copy_(part.logits)
    kept = part.logits.gather(-1, part.ids)
    return out.scatter_(-1, part.ids, kept.masked_fill(part.known.any(-1, keepdim=True), -_INFINITY))


def _product(weight: Tensor, factor: Tensor) -> Tensor:
    """0 where the weight is 0, whatever the factor."""
    return torch.where(weight == 0, 0.0, weight * factor)


def _terms(at: _Known, rest: Tensor, direction: int, tail: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """The divergence `[N]` and its derivatives to the known logits `[N, K]` and to the rest `[N]`, all in float64."""
    values, teacher = at.logits, at.log_probs
    of_known = torch.logsumexp(values, -1)
    if TAILS[tail] == "renormalise":
        total = torch.logsumexp(teacher, -1, keepdim=True)
        teacher = (teacher - total).masked_fill(teacher == -_INFINITY, -_INFINITY)
        values_all, teacher_all = values, teacher
        normalizer = of_known
        counted = torch.ones_like(values, dtype=torch.bool)
    else:
        normalizer = torch.logaddexp(of_known, rest)
        missing = 1.0 - teacher.exp().sum(-1)
        of_teacher = missing.clamp(min=eps).log()
        of_teacher = of_teacher.masked_fill((rest == -_INFINITY) & (missing <= eps), -_INFINITY)
        values_all = torch.cat([values, rest.unsqueeze(-1)], -1)
        teacher_all = torch.cat([teacher, of_teacher.unsqueeze(-1)], -1)
        counted = torch.ones_like(values_all, dtype=torch.bool)
        counted[..., -1] = TAILS[tail] == "bucket"
    exists = normalizer != -_INFINITY
    log_p = values_all - normalizer.masked_fill(~exists, 0.0).unsqueeze(-1)
    p, q = log_p.exp(), teacher_all.exp()
    if DIRECTIONS[direction] == "forward":
        weights = q * counted
        row = _product(weights, teacher_all - log_p).sum(-1)
        slope = weights.sum(-1, keepdim=True) * p - weights
    else:
        weights = p * counted
        gaps = log_p - teacher_all
        row = _product(weights, gaps).sum(-1)
        slope = _product(weights, gaps + 1.0)
        slope = slope - p * slope.sum(-1, keepdim=True)
    if TAILS[tail] == "renormalise":
        # The teacher has no token, or the student none of the teacher's to be measured by.
        known = at.known.any(-1)
        exists = exists | (known if DIRECTIONS[direction] == "forward" else torch.zeros_like(known))
        exists &= known
    elif TAILS[tail] == "bucket":
        row = row.clamp(min=0.0)  # but for rounding it is not negative
    row = row.masked_fill(~exists, 0.0)
    slope = slope.masked_fill((~exists | row.isinf()).unsqueeze(-1), 0.0)
    count = values.shape[-1]
    of_rest = slope[..., count] if slope.shape[-1] > count else torch.zeros_like(row)
    return row, slope[..., :count].masked_fill(~at.known, 0.0), of_rest


def _parts(logits: Tensor, ids: Tensor, mask: Tensor | None) -> Iterator[_Part]:
    """The rows in slices, so that what is copied of them is bounded."""
    if ids.shape[:-1] != logits.shape[:-1]:
        raise ValueError(
            f"ids must be [..., K] for logits [..., V], got {tuple(ids.shape)} and {tuple(logits.shape)}"
        )
    rows, ids = logits.reshape(-1, logits.shape[-1]), ids.reshape(-1, ids.shape[-1])
    flat = None if mask is None else mask.reshape(-1)
    size = max(1, _CHUNK_NUMBERS // max(logits.shape[-1], _COPIES * ids.shape[-1]))
    for first in range(0, len(rows), size):
        part = slice(first, first + size)
        known = ids[part] >= 0
        # An absent entry follows a known one of its row, so that nothing else is taken out of the rest.
        follow = ids[part].gather(-1, known.int().argmax(-1, keepdim=True)).clamp(min=0)
        place = torch.where(known, ids[part], follow)
        yield _Part(part, rows[part], place, known, None if flat is None else flat[part])


class _Part(NamedTuple):
    """A slice of the rows: where it lies, its logits, ids that may be followed, which are known, which rows are real."""

    where: slice
    logits: Tensor
    ids: Tensor
    known: Tensor
    mask: Tensor | None

    def real(self, numbers: Tensor) -> Tensor:
        """Numbers `[N, ...]` with 0 in masked rows."""
        if self.mask is None:
            return numbers
        return numbers.masked_fill(~self.mask.view(-1, *[1] * (numbers.dim() - 1)), 0.0)


def sparse_divergence_forward(
    logits: Tensor, ids: Tensor, log_probs: Tensor, direction: int, tail: int, mask: Tensor | None
) -> tuple[Tensor, ...]:
    """The divergences of rows `[..., V]`, the log-sum of what is not known, and what its rounding does to the weights.

    Then their derivatives to the known logits, `[..., K]`, and to that log-sum.
    """
    *results, of_rest = several_per_row(logits, 4)
    of_known = of_rest.new_empty(ids.shape)
    divergence, rest, correction, rest_slope = (result.view(-1) for result in (*results, of_rest))
    slope = of_known.view(-1, ids.shape[-1])
    eps = _least_rest(log_probs)
    teacher = log_probs.reshape(-1, log_probs.shape[-1])
    for part in _parts(logits, ids, mask):
        where = part.where
        if TAILS[tail] == "renormalise":
            rest[where], correction[where] = 0.0, 1.0
        else:
            others = _without_known(part, torch.empty_like(part.logits))
            _, rest[where], correction[where] = soft_value_forward(others, None, 1.0, part.mask)
        at = _known(part, teacher[where])
        terms = _terms(at, _exact(rest[where], correction[where]), direction, tail, eps)
        divergence[where], slope[where], rest_slope[where] = (part.real(one) for one in terms)
    return *results, of_known, of_rest


def sparse_divergence_backward(
    grad_divergence: Tensor,
    logits: Tensor,
    ids: Tensor,
    log_probs: Tensor,
    direction: int,
    tail: int,
    mask: Tensor | None,
    rest: Tensor,
    correction: Tensor,
    slope: Tensor,
    rest_slope: Tensor,
    grad_logits: Tensor,
) -> None:
    """Fill the gradient of rows `[..., V]`, a tensor like them; on the CPU it may be the rows themselves."""
    arriving, rest, correction = grad_divergence.reshape(-1), rest.view(-1), correction.view(-1)
    slope, rest_slope = slope.view(-1, slope.shape[-1]), rest_slope.view(-1)
    gradients = grad_logits.view(-1, grad_logits.shape[-1])
    for part in _parts(logits, ids, mask):
        where = part.where
        of_rest, kept = rest[where], correction[where]
        upstream = part.real(arriving[where].double())
        gradient = gradients[where]
        if TAILS[tail] == "renormalise":
            gradient.zero_()
        else:
            copied = gradient if not logits.is_cuda else torch.empty_like(part.logits)
            others = _without_known(part, copied)
            to_rest = part.real(_product(upstream, rest_slope[where])).to(of_rest.dtype)
            soft_value_backward(to_rest, others, None, 1.0, part.mask, of_rest, kept, gradient)
        # The kernel left zeros at the known tokens.
        to_known = part.real(_product(upstream.unsqueeze(-1), slope[where]))
        gradient.scatter_add_(-1, part.ids, to_known.to(gradient.dtype))


def _least_rest(log_probs: Tensor) -> float:
    """What the rounding of log-probabilities may leave of 1."""
    return 16 * torch.finfo(statistic_dtype(log_probs.dtype)).eps


def _exact(normalizer: Tensor, correction: Tensor) -> Tensor:
    """The log-sum, without what its rounding took."""
    return normalizer.double() - correction.double().log()


SPARSE_DIVERGENCE = RowOperator(
    name="sparse_divergence",
    rows=("logits",),
    inputs=("Tensor ids", "Tensor log_probs", "int direction", "int tail"),
    results=("divergence", "rest", "correction", "slope", "rest_slope"),
    outputs=1,
    saved=("rest", "correction", "slope", "rest_slope"),
    differentiable=("logits",),
    forward=sparse_divergence_forward,
    backward=sparse_divergence_backward,
    several=("ids", "log_probs"),
    several_results=("slope",),
)
