"""An operator on rows over the vocabulary, described once: from the description come its whole and its chunked form.

Both forms are registered with PyTorch, each with schema, fake kernel and gradient. The whole form reads stored rows. The
chunked form reads heads, or heads and stored rows side by side, a chunk at a time, and has two ways to a gradient:

- The rows are results: what arrives at each row is known only in the backward pass, which makes each chunk's logits
  once more (four matmuls a head in all; saved are the inputs and a few numbers a row).
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
from softbellman.core.chunks import (
    BIAS,
    HIDDEN,
    WEIGHT,
    Chunks,
    RealRows,
    RowsTensors,
    choose_chunk_rows,
    empty_gradients,
    open_chunks,
)
from softbellman.core.head import Head, Rows
from softbellman.core.launch import per_row
from softbellman.core.operator import register, register_backward

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
        results: the numbers that a row gets, in order.
        outputs: how many of the first results have a gradient.
        saved: the results that the backward pass reads.
        differentiable: the vocabulary-wide arguments that get a gradient, in the order of `rows`.
        forward: `forward(*rows, *inputs, mask)` gives the results of rows `[..., V]`.
        backward: `backward(*upstream, *rows, *inputs, mask, *saved, *gradients)` fills the gradients, contiguous
            tensors like the rows; None where not wanted. On the CPU a gradient may be the rows themselves.
        chunked: whether there is a chunked form: a row must not need its neighbours.
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
    _whole: Callable[..., Any] = field(init=False, repr=False)
    _chunked: Callable[..., Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_whole", _WholeForm(self).operator)
        object.__setattr__(self, "_chunked", _ChunkedForm(self).operator if self.chunked else None)

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
        if kind == "none" or whole:
            first, *others = self(rows, inputs, mask)
            if weights is not None:
                first = first * _real(weights.detach().to(first.dtype), mask)
            if kind == "none":
                return first, *others
            total = first.sum()
        else:
            if weights is not None:
                weights = _real(weights.detach(), mask)
            taken = 0
            if torch.is_grad_enabled():
                for number, place in enumerate(_places(self)):
                    taken |= _wanted(rows[place]) << (3 * number)
            _, *others, total = self._chunk(rows, inputs, mask, weights, taken, inplace)[
                : len(self.results) + 1
            ]
        if kind == "mean":
            count = max(rows[0].shape[:-1].numel(), 1) if mask is None else mask.sum().clamp(min=1)  # type: ignore[union-attr]
            total = total / count
        return total, *(other.detach() for other in others)

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
            constant = _plain(self.rows[place]) not in self.differentiable
            flat += _tensors(one.detach() if constant and one is not None else one)
            if isinstance(one, Head) and one.chunk_rows is not None:
                chunk_rows.append(one.chunk_rows)
        size = min(chunk_rows, default=0)
        return self._chunked(*flat, *inputs, mask, row_weights, size, taken, inplace_backward)


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


def _plain(name: str) -> str:
    return name.removesuffix("?")


def _places(operator: RowOperator) -> list[int]:
    """Where the differentiable rows stand among the rows."""
    return [place for place, name in enumerate(operator.rows) if _plain(name) in operator.differentiable]


def _real(weights: Tensor, mask: Tensor | None) -> Tensor:
    return weights if mask is None else weights.masked_fill(~mask, 0.0)


def _tensors(rows: Rows | None) -> tuple[Any, ...]:
    """Stored rows, a head or nothing as the chunked form passes them."""
    if not isinstance(rows, Head):
        return rows, None, None, 1.0, 0.0
    head = rows.cast()
    return head.hidden, head.weight, head.bias, head.scale, head.softcap or 0.0


def _wanted(rows: Rows | None) -> int:
    """The bits of the tensors that autograd will ask a gradient for."""
    if rows is None:
        return 0
    if not isinstance(rows, Head):
        return HIDDEN * rows.requires_grad
    bias = rows.bias is not None and rows.bias.requires_grad
    return HIDDEN * rows.hidden.requires_grad + WEIGHT * rows.weight.requires_grad + BIAS * bias


class _WholeForm:
    """The operator on stored rows `[..., V]`."""

    def __init__(self, operator: RowOperator) -> None:
        self.of = operator
        optional = {name: "Tensor? " if name.endswith("?") else "Tensor " for name in operator.rows}
        rows = ", ".join(kind + _plain(name) for name, kind in optional.items())
        inputs = "".join(f", {one}" for one in operator.inputs)
        arriving = "".join(f"Tensor? grad_{name}, " for name in operator.results[: operator.outputs])
        saved = "".join(f", Tensor {name}" for name in operator.saved)
        wanted = "".join(f", bool want_{name}" for name in operator.differentiable)
        gradients = ", ".join(f"Tensor grad_{name}" for name in operator.differentiable)
        results = ", ".join(f"Tensor {name}" for name in operator.results)
        self.gradient = register_backward(
            f"{operator.name}_backward",
            f"({arriving}{rows}{inputs}, Tensor? mask{saved}{wanted}) -> ({gradients})",
            kernel=self.backward,
            fake=lambda *arguments: self.backward(*arguments, write=False),
        )
        self.operator = register(
            operator.name,
            f"({rows}{inputs}, Tensor? mask) -> ({results})",
            kernel=operator.forward,
            fake=lambda like, *_: tuple(per_row(like) for _ in operator.results),
            backward=self.autograd,
            setup_context=self.setup_context,
        )

    def backward(self, *arguments: Any, write: bool = True) -> Any:
        count = len(self.of.differentiable)
        passed, wanted = arguments[:-count], arguments[-count:]
        rows = passed[self.of.outputs : self.of.outputs + len(self.of.rows)]
        gradients = [
            rows[place].new_empty(rows[place].shape) if want else None
            for place, want in zip(_places(self.of), wanted, strict=True)
        ]
        if write:
            self.of.backward(*passed, *gradients)
        absent = passed[self.of.outputs].new_empty
        given = tuple(absent(0) if gradient is None else gradient for gradient in gradients)
        return given[0] if count == 1 else given

    def setup_context(self, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        of = self.of
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*output[of.outputs :])
        ctx.plain = [None if isinstance(one, Tensor) else one for one in inputs]
        saved = [result for name, result in zip(of.results, output, strict=True) if name in of.saved]
        ctx.save_for_backward(*(one if isinstance(one, Tensor) else None for one in inputs), *saved)

    def autograd(self, ctx: Any, *arriving: Tensor | None) -> tuple[Tensor | None, ...]:
        of, count = self.of, len(ctx.plain)
        gradients: list[Tensor | None] = [None] * count
        upstream = arriving[: of.outputs]
        wanted = [bool(ctx.needs_input_grad[place]) for place in _places(of)]
        if any(gradient is not None for gradient in upstream) and any(wanted):
            kept = ctx.saved_tensors  # read once: checkpoints give it once
            tensors, saved = kept[:count], kept[count:]
            inputs = [
                tensor if plain is None else plain for tensor, plain in zip(tensors, ctx.plain, strict=True)
            ]
            computed = self.gradient(*upstream, *inputs, *saved, *wanted)
            for place, want, gradient in zip(
                _places(of), wanted, (computed,) if len(wanted) == 1 else computed, strict=True
            ):
                gradients[place] = gradient if want else None
        return tuple(gradients)


class _ChunkedForm:
    """The operator on heads, or on heads and stored rows, a chunk of rows at a time."""

    def __init__(self, operator: RowOperator) -> None:
        self.of = operator
        self.numbers = [one.split()[-1] for one in operator.inputs]
        rows = ", ".join(
            f"Tensor{'?' if name.endswith('?') else ''} {_plain(name)}, Tensor? {_plain(name)}_weight, "
            f"Tensor? {_plain(name)}_bias, float {_plain(name)}_scale, float {_plain(name)}_softcap"
            for name in operator.rows
        )
        inputs = "".join(f", {one}" for one in operator.inputs)
        arguments = f"{rows}{inputs}, Tensor? mask, Tensor? row_weights, int chunk_rows"
        arriving = "".join(f"Tensor? grad_{name}, " for name in operator.results[: operator.outputs])
        saved = "".join(f", Tensor {name}" for name in operator.saved)
        gradients = ", ".join(
            f"Tensor grad_{name}{part}"
            for name in operator.differentiable
            for part in ("", "_weight", "_bias")
        )
        results = ", ".join(f"Tensor {name}" for name in operator.results)
        self.gradient = register_backward(
            f"{operator.name}_chunked_backward",
            f"({arriving}{arguments}{saved}, int wanted) -> ({gradients})",
            kernel=self.backward,
            fake=self.fake_backward,
        )
        self.operator = register(
            f"{operator.name}_chunked",
            f"({arguments}, int taken, bool inplace_backward) -> ({results}, Tensor total, {gradients})",
            kernel=self.forward,
            fake=self.fake,
            backward=self.autograd,
            setup_context=self.setup_context,
        )

    # ---- the passes over the chunks ----

    def open(self, arguments: tuple[Any, ...], wanted: int) -> _Pass:
        """What a pass needs, from the arguments up to chunk_rows."""
        return _Pass(self.of, self.numbers, arguments, wanted)

    def forward(self, *arguments: Any) -> tuple[Tensor, ...]:
        *inputs, taken, _ = arguments
        work = self.open(tuple(inputs), taken)
        rows, results = work.rows, work.new_results()
        saved = [self.of.results.index(name) for name in self.of.saved]
        for part in rows.chunks(work.size):
            logits = work.logits(part)
            terms = self.of.forward(*logits, *work.inputs(part), rows.real(part))
            for result, term in zip(results, terms, strict=True):
                rows.put(result, part, term)
            if taken:
                unit = torch.ones_like(terms[0]) if work.weights is None else rows.take(work.weights, part)
                upstream = (unit, *[None] * (self.of.outputs - 1))
                work.collect(part, upstream, logits, [terms[place] for place in saved])
        total = results[0].sum() if work.weights is None else (results[0] * work.weights).sum()
        return *(result.view(rows.shape) for result in results), total, *work.gradients()

    def backward(self, *arguments: Any) -> tuple[Tensor, ...]:
        count = self.of.outputs
        upstream, wanted = arguments[:count], arguments[-1]
        inputs = arguments[count : -1 - len(self.of.saved)]
        saved = arguments[-1 - len(self.of.saved) : -1]
        work = self.open(inputs, wanted)
        rows = work.rows
        arriving = [None if gradient is None else gradient.reshape(-1) for gradient in upstream]
        kept = [statistic.reshape(-1) for statistic in saved]
        for part in rows.chunks(work.size):
            logits = work.logits(part)
            taken = [None if gradient is None else rows.take(gradient, part) for gradient in arriving]
            work.collect(part, taken, logits, [rows.take(statistic, part) for statistic in kept])
        return tuple(
            gradient.to(source.values.dtype)
            for source, three in zip(work.differentiable, _threes(work.gradients()), strict=True)
            for gradient in three
        )

    # ---- shapes ----

    def fake(self, *arguments: Any) -> tuple[Tensor, ...]:
        *inputs, taken, _ = arguments
        sources = _sources(self.of, tuple(inputs))
        first = sources[0]
        assert first is not None
        like = first.values.new_empty(first.values.shape[:-1], dtype=statistic_dtype(_dtype(sources)))
        results = tuple(torch.empty_like(like) for _ in self.of.results)
        return *results, like.new_empty(()), *self.empty(sources, taken, wide=True)

    def fake_backward(self, *arguments: Any) -> tuple[Tensor, ...]:
        sources = _sources(self.of, arguments[self.of.outputs :])
        return self.empty(sources, arguments[-1], wide=False)

    def empty(self, sources: list[RowsTensors | None], wanted: int, *, wide: bool) -> tuple[Tensor, ...]:
        gradients: list[Tensor] = []
        for number, place in enumerate(_places(self.of)):
            source = sources[place]
            assert source is not None
            gradients += empty_gradients(source, wanted >> (3 * number) & 7, wide=wide)
        return tuple(gradients)

    # ---- autograd ----

    def setup_context(self, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        of, results = self.of, len(self.of.results)
        *arguments, ctx.taken, ctx.inplace_backward = inputs
        ctx.set_materialize_grads(False)
        constants = output[: of.outputs] if ctx.taken else output[results : results + 1]
        ctx.mark_non_differentiable(*constants, *output[of.outputs : results], *output[results + 1 :])
        ctx.plain = [None if isinstance(one, Tensor) else one for one in arguments]
        if ctx.taken:
            heads = [one if isinstance(one, Tensor) else None for one in arguments[: 5 * len(of.rows)]]
            ctx.save_for_backward(*heads, *output[results + 1 :])
        else:
            saved = [result for name, result in zip(of.results, output, strict=False) if name in of.saved]
            ctx.save_for_backward(*(one if isinstance(one, Tensor) else None for one in arguments), *saved)

    def autograd(self, ctx: Any, *arriving: Tensor | None) -> tuple[Tensor | None, ...]:
        of, count = self.of, len(ctx.plain)
        gradients: list[Tensor | None] = [None] * (count + 2)
        wanted = 0
        for number, place in enumerate(_places(of)):
            for bit in range(3):
                wanted |= bool(ctx.needs_input_grad[5 * place + bit]) << (3 * number + bit)
        upstream, total = arriving[: of.outputs], arriving[len(of.results)]
        computed: Sequence[Tensor] = ()
        if ctx.taken:
            if total is not None:
                computed = self.scaled(ctx, total)
        elif wanted and any(gradient is not None for gradient in upstream):
            kept = ctx.saved_tensors  # read once: checkpoints give it once
            tensors, saved = kept[:count], kept[count:]
            inputs = [
                tensor if plain is None else plain for tensor, plain in zip(tensors, ctx.plain, strict=True)
            ]
            computed = self.gradient(*upstream, *inputs, *saved, wanted)
        for number, place in enumerate(_places(of)):
            for bit in range(3):
                if computed and wanted >> (3 * number + bit) & 1:
                    gradients[5 * place + bit] = computed[3 * number + bit]
        return tuple(gradients)

    def scaled(self, ctx: Any, factor: Tensor) -> Sequence[Tensor]:
        """The gradients that the forward pass took along, times what arrives at the sum."""
        first = 5 * len(self.of.rows)
        kept = ctx.saved_tensors
        inputs, gradients = kept[:first], kept[first:]
        traced = any(
            type(gradient) is not Tensor for gradient in gradients
        )  # to a tracer what is saved must stay
        if ctx.inplace_backward and not torch.is_grad_enabled() and not traced:
            dtypes = [inputs[5 * place].dtype for place in _places(self.of) for _ in range(3)]
            return [
                gradient.mul_(factor).to(dtype) for gradient, dtype in zip(gradients, dtypes, strict=True)
            ]
        differentiable = [inputs[5 * place + bit] for place in _places(self.of) for bit in range(3)]
        return tuple(
            _scaled_gradient(factor, differentiable[number - number % 3], gradient)
            for number, gradient in enumerate(gradients)
        )


class _Pass:
    """One pass over the chunks of an operator's arguments."""

    def __init__(self, of: RowOperator, names: list[str], arguments: tuple[Any, ...], wanted: int) -> None:
        self.of = of
        sources = _sources(of, arguments)
        first = sources[0]
        assert first is not None
        *numbers, mask, weights, requested = arguments[5 * len(of.rows) :]
        self.rows = rows = RealRows(first.values.shape[:-1], mask)
        heads = [source.weight for source in sources if source is not None and source.weight is not None]
        self.size = choose_chunk_rows(rows.count, heads[0], requested, heads=len(heads))
        self.dtype = _dtype(sources)
        vocabulary = heads[0].shape[0]
        self.weights = rows.one_per_row("row_weights", weights, vocabulary)
        if self.weights is not None:
            self.weights = self.weights.to(statistic_dtype(self.dtype))
        self._inputs = [
            rows.one_per_row(name, one, vocabulary) if isinstance(one, Tensor) else one
            for name, one in zip(names, numbers, strict=True)
        ]
        self._chunks: list[Chunks | None] = []
        for place, source in enumerate(sources):
            if source is None:
                self._chunks.append(None)
                continue
            if source.values.shape[:-1] != rows.shape:
                raise ValueError(
                    f"{_plain(of.rows[place])} must have the leading shape {tuple(rows.shape)}, "
                    f"got {tuple(source.values.shape[:-1])}"
                )
            bits = wanted >> (3 * _places(of).index(place)) & 7 if place in _places(of) else 0
            self._chunks.append(open_chunks(source, rows, self.size, self.dtype, bits))
        self.differentiable = [source for place in _places(of) if (source := sources[place]) is not None]

    def new_results(self) -> list[Tensor]:
        like = self.differentiable[0].values
        return [like.new_zeros(self.rows.total, dtype=statistic_dtype(self.dtype)) for _ in self.of.results]

    def logits(self, part: slice) -> list[Tensor | None]:
        """The rows `[C, V]` of a chunk."""
        return [None if chunks is None else chunks.logits(part) for chunks in self._chunks]

    def inputs(self, part: slice) -> list[Any]:
        """The other arguments of a chunk's rows."""
        return [self.rows.take(one, part) if isinstance(one, Tensor) else one for one in self._inputs]

    def collect(
        self, part: slice, upstream: Sequence[Tensor | None], logits: list[Tensor | None], saved: list[Tensor]
    ) -> None:
        """Take in a chunk's gradients for what arrives at its results."""
        chunks = [self._chunks[place] for place in _places(self.of)]
        gradients = [None if one is None else one.gradient() for one in chunks]
        inputs, real = self.inputs(part), self.rows.real(part)
        self.of.backward(*upstream, *logits, *inputs, real, *saved, *gradients)
        for one in chunks:
            if one is not None:
                one.collect(part)

    def gradients(self) -> list[Tensor]:
        chunks = [self._chunks[place] for place in _places(self.of)]
        return [gradient for one in chunks if one is not None for gradient in one.gradients()]


def _sources(of: RowOperator, arguments: tuple[Any, ...]) -> list[RowsTensors | None]:
    """The vocabulary-wide arguments of a chunked form."""
    fives = [arguments[5 * place : 5 * place + 5] for place in range(len(of.rows))]
    return [None if five[0] is None else RowsTensors(*five) for five in fives]


def _dtype(sources: list[RowsTensors | None]) -> torch.dtype:
    """The dtype in which the row kernels read: the widest."""
    dtypes = [source.values.dtype for source in sources if source is not None]
    widest = dtypes[0]
    for dtype in dtypes[1:]:
        widest = torch.promote_types(widest, dtype)
    return widest


def _threes(gradients: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    return [gradients[first : first + 3] for first in range(0, len(gradients), 3)]


# The input is there for the graph: a second derivative would go through it, and is refused.
_scaled_gradient = register_backward(
    "scaled_gradient",
    "(Tensor factor, Tensor input, Tensor gradient) -> Tensor",
    kernel=lambda factor, like, gradient: (gradient * factor).to(like.dtype),
    fake=lambda factor, like, gradient: torch.empty_like(gradient, dtype=like.dtype),
)
