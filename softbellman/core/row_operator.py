"""An operator on rows over the vocabulary, described once: from the description come its whole and its chunked form.

Both forms are registered with PyTorch, each with schema, fake kernel and gradient. The whole form reads stored rows. The
chunked form reads heads, or heads and stored rows side by side, a chunk at a time, and has two ways to a gradient:

- The rows are results: what arrives at each row is known only in the backward pass, which makes each chunk's logits
  once more (four matmuls a head in all; saved are the inputs and a few numbers a row). So do rows whose head has a 16-bit
  weight, reduced or not: the backward pass goes by columns (`softbellman.core.columns`).
- The rows are reduced to a sum: what arrives at each row is known but for one factor. The forward pass takes the
  gradients along (three matmuls, as many as with stored logits); the backward pass multiplies them by the factor.

Notation: N rows, C rows in a chunk, H hidden units, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softbellman.core.checks import check_numbers, statistic_dtype
from softbellman.core.chunked_form import ChunkedForm
from softbellman.core.chunks import BIAS, HIDDEN, WEIGHT
from softbellman.core.head import Head, Rows
from softbellman.core.masks import weighted
from softbellman.core.sharded_form import ShardedForm
from softbellman.core.shards import Shards, number_of, shared_hidden
from softbellman.core.whole_form import WholeForm, plain_name

REDUCTIONS = ("none", "sum", "mean")


class Reduction(NamedTuple):
    """How the losses of the rows become the result; see `RowOperator.reduce`."""

    kind: str = "none"
    row_weights: Tensor | None = None
    inplace_backward: bool = False


@dataclass(frozen=True)
class RowOperator:
    """The description of an operator.

    Attributes:
        name: of the registered operators: `name`, `name_backward`, `name_chunked`, `name_chunked_backward`.
        rows: the vocabulary-wide arguments in order, `"q?"` for one that may be None.
        inputs: schema of the others, such as `"Tensor actions"`, `"float tau"`; tensors have one number a row.
        results: what a row gets, in order: a number each.
        outputs: how many of the first results have a gradient.
        saved: the results that the backward pass reads.
        differentiable: the vocabulary-wide arguments that get a gradient, in the order of `rows`.
        forward: `forward(*rows, *inputs, mask)` gives the results of rows `[..., V]`.
        backward: `backward(*upstream, *rows, *inputs, mask, *saved, *gradients)` fills the gradients, contiguous
            tensors like the rows; None where not wanted. On the CPU a gradient may be the rows themselves. Rows may be some
            columns of the whole: ids of others are then that of a column of `-inf`.
        chunked: whether there is a chunked form: a row must not need its neighbours.
        sharded: `sharded(*rows, *inputs, mask, exchange)` gives the results of rows whose columns are spread over processes,
            from those of this process and what `exchange` tells of the others; None: refused.
        several: the inputs that are tensors `[..., K]`: the operator itself looks at their size and contents.
        several_results: the results that are, with the K of the first of these inputs.
        differentiable_places: where the differentiable arguments stand among `rows`.
    """

    name: str
    rows: tuple[str, ...]
    inputs: tuple[str, ...]
    results: tuple[str, ...]
    outputs: int
    saved: tuple[str, ...]
    differentiable: tuple[str, ...]
    forward: Callable[..., tuple[Tensor, ...]]
    backward: Callable[..., None]
    chunked: bool = True
    several: tuple[str, ...] = ()
    several_results: tuple[str, ...] = ()
    sharded: Callable[..., tuple[Tensor, ...]] | None = None
    differentiable_places: tuple[int, ...] = field(init=False, repr=False)
    _whole: Callable[..., Any] = field(init=False, repr=False)
    _chunked: Callable[..., Any] = field(init=False, repr=False)
    _sharded: Callable[..., Any] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        places = tuple(
            place for place, name in enumerate(self.rows) if plain_name(name) in self.differentiable
        )
        object.__setattr__(self, "differentiable_places", places)
        object.__setattr__(self, "_whole", WholeForm(self).operator)
        object.__setattr__(self, "_chunked", ChunkedForm(self).operator if self.chunked else None)
        object.__setattr__(self, "_sharded", ShardedForm(self).operator if self.sharded else None)

    def __call__(
        self, rows: Sequence[Rows | None], inputs: Sequence[Any], mask: Tensor | None
    ) -> tuple[Tensor, ...]:
        """The results `[...]` of stored rows or heads, one number a row each."""
        if not any(isinstance(one, Head) for one in rows):
            results: tuple[Tensor, ...] = self._whole(*rows, *inputs, mask)
            return results
        return self._chunk(rows, inputs, mask, None, 0, False)[: len(self.results)]  # type: ignore[no-any-return]

    def reduce(
        self, rows: Sequence[Rows | None], inputs: Sequence[Any], mask: Tensor | None, reduction: Reduction
    ) -> tuple[Tensor, ...]:
        """The results, the first of them reduced: the others are then without a graph.

        "sum" adds `row_weights * first` over the real rows, "mean" divides that by the number of real rows (0 where
        there is none), "none" leaves the rows as they are.
        """
        kind, weights, inplace = reduction
        whole = not any(isinstance(one, Head) for one in rows)
        # A gradient of float16 that is taken along before it is divided by the number of rows could overflow.
        half = any(isinstance(one, Head) and one.cast().hidden.dtype == torch.float16 for one in rows)
        if kind == "none" or whole or half or self._goes_by_columns(rows):
            first, *others = self(rows, inputs, mask)
            if kind == "none":
                return reduced(first, reduction, mask), *others
            return reduced(first, reduction, mask), *(other.detach() for other in others)
        if weights is not None:
            weights = _real(weights.detach(), mask)
        taken = 0
        if torch.is_grad_enabled():
            for number, place in enumerate(self.differentiable_places):
                taken |= _wanted(rows[place]) << (3 * number)
        count = len(self.results) + 1
        first, *others, total = self._chunk(rows, inputs, mask, weights, taken, inplace)[:count]
        return _mean(total, first, mask) if kind == "mean" else total, *(other.detach() for other in others)

    def sizes(self, inputs: Sequence[Any]) -> list[tuple[int, ...]]:
        """What the shape of each result has behind that of the rows."""
        if not self.several_results:
            return [()] * len(self.results)
        names = [one.split()[-1] for one in self.inputs]
        known: Tensor = inputs[names.index(self.several[0])]
        return [known.shape[-1:] if name in self.several_results else () for name in self.results]

    def _goes_by_columns(self, rows: Sequence[Rows | None]) -> bool:
        """Whether a weight's gradient has to be taken by columns, which needs the normalisers of all rows first."""
        if not torch.is_grad_enabled():
            return False
        for place in self.differentiable_places:
            one = rows[place]
            if isinstance(one, Head):
                head = one.cast()
                if head.weight.requires_grad and not _is_narrow(head):
                    return True
        return False

    def _chunk(
        self,
        rows: Sequence[Rows | None],
        inputs: Sequence[Any],
        mask: Tensor | None,
        row_weights: Tensor | None,
        taken: int,
        inplace_backward: bool,
    ) -> Any:
        flat: list[Any] = []
        chunk_rows = []
        for place, one in enumerate(rows):
            constant = place not in self.differentiable_places
            flat += _tensors(one.detach() if constant and one is not None else one)
            if isinstance(one, Head) and one.chunk_rows is not None:
                chunk_rows.append(one.chunk_rows)
        size = min(chunk_rows, default=0)
        shards = _shards(rows)
        if shards is None:
            return self._chunked(*flat, *inputs, mask, row_weights, size, taken, inplace_backward)
        if self._sharded is None:
            raise ValueError(
                f"a head of {self.name} must have all rows of its weight in one process; heads in shards are for "
                "token_statistics, token_objective, token_cross_entropy, soft_target_cross_entropy, soft_value, "
                "soft_bellman_residual, path_consistency and divergence from one distribution"
            )
        numbers = (size, number_of(shards), taken, inplace_backward)
        return self._sharded(*flat, *inputs, mask, row_weights, *numbers)


def check_reduction(
    kind: str, row_weights: Tensor | None, inplace_backward: bool, rows_name: str, rows: Rows
) -> Reduction:
    """The three arguments that every loss has, checked."""
    if kind not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(map(repr, REDUCTIONS))}, got {kind!r}")
    if row_weights is not None:
        check_numbers("row_weights", row_weights, rows_name, rows)
    if not isinstance(inplace_backward, bool):
        raise TypeError(f"inplace_backward must be a bool, got {type(inplace_backward).__name__}")
    return Reduction(kind, row_weights, inplace_backward)


def reduced(losses: Tensor, reduction: Reduction, mask: Tensor | None) -> Tensor:
    """Losses `[...]` of rows, 0 where masked, as `RowOperator.reduce` says."""
    kind, weights, _ = reduction
    if weights is not None:
        losses = weighted(losses, _real(weights.detach().to(losses.dtype), mask))
    if kind == "none":
        return losses
    return _mean(losses.sum(), losses, mask) if kind == "mean" else losses.sum()


def _mean(total: Tensor, losses: Tensor, mask: Tensor | None) -> Tensor:
    return total / (max(losses.numel(), 1) if mask is None else mask.sum().clamp(min=1))


def _real(weights: Tensor, mask: Tensor | None) -> Tensor:
    return weights if mask is None else weights.masked_fill(~mask, 0.0)


def _tensors(rows: Rows | None) -> tuple[Any, ...]:
    """Stored rows, a head or nothing as the chunked form passes them."""
    if not isinstance(rows, Head):
        return rows, None, None, 1.0, 0.0, 0, False
    head = rows.cast()
    narrow = _is_narrow(head)
    if head.shards is not None:
        hidden = shared_hidden(head.hidden, head.shards) if head.sum_hidden_gradient else head.hidden
        tokens = head.shards.own_tokens(head.vocabulary)
        return hidden, head.weight, head.bias, head.scale, head.softcap or 0.0, tokens, narrow
    return head.hidden, head.weight, head.bias, head.scale, head.softcap or 0.0, head.vocabulary or 0, narrow


def _is_narrow(head: Head) -> bool:
    """Whether the gradient of the weight is added up in the weight's own dtype."""
    dtype = head.accumulation_dtype or statistic_dtype(head.weight.dtype)
    return dtype == head.weight.dtype


def _wanted(rows: Rows | None) -> int:
    """The bits of the tensors that autograd will ask a gradient for."""
    if rows is None:
        return 0
    if not isinstance(rows, Head):
        return HIDDEN * rows.requires_grad
    bias = rows.bias is not None and rows.bias.requires_grad
    return HIDDEN * rows.hidden.requires_grad + WEIGHT * rows.weight.requires_grad + BIAS * bias


def _shards(rows: Sequence[Rows | None]) -> Shards | None:
    """The processes over which the vocabulary is spread."""
    return next((one.shards for one in rows if isinstance(one, Head) and one.shards is not None), None)
