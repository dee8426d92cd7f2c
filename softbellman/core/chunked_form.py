"""The chunked form of an operator on rows: it reads heads, or heads and stored rows side by side, a chunk at a time.

Notation: N rows, C rows in a chunk, H hidden units, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor

from softbellman.core.checks import statistic_dtype
from softbellman.core.chunks import (
    PARTS,
    WEIGHT,
    Chunks,
    RealRows,
    RowsTensors,
    choose_chunk_rows,
    empty_gradients,
    open_chunks,
)
from softbellman.core.columns import HeadColumns, StoredColumns, choose_columns, ids_in, open_columns
from softbellman.core.masks import weighted
from softbellman.core.operator import register, register_backward, without_autocast
from softbellman.core.whole_form import plain_name, split_saved

if TYPE_CHECKING:
    from softbellman.core.row_operator import RowOperator
    from softbellman.core.shards import Shards


class ChunkedForm:
    """The operator on heads, or on heads and stored rows, a chunk of rows at a time."""

    name = "chunked"
    more = ""  # arguments behind those of the pass

    def __init__(self, operator: RowOperator) -> None:
        self.of = operator
        self.numbers = [one.split()[-1] for one in operator.inputs]
        rows = ", ".join(
            f"Tensor{'?' if name.endswith('?') else ''} {plain_name(name)}, Tensor? {plain_name(name)}_weight, "
            f"Tensor? {plain_name(name)}_bias, float {plain_name(name)}_scale, float {plain_name(name)}_softcap, "
            f"int {plain_name(name)}_vocabulary, bool {plain_name(name)}_narrow"
            for name in operator.rows
        )
        inputs = "".join(f", {one}" for one in operator.inputs)
        arguments = f"{rows}{inputs}, Tensor? mask, Tensor? row_weights, int chunk_rows{self.more}"
        arriving = "".join(f"Tensor? grad_{name}, " for name in operator.results[: operator.outputs])
        saved = "".join(f", Tensor {name}" for name in operator.saved)
        gradients = ", ".join(
            f"Tensor grad_{name}{part}"
            for name in operator.differentiable
            for part in ("", "_weight", "_bias")
        )
        results = ", ".join(f"Tensor {name}" for name in operator.results)
        self.gradient = register_backward(
            f"{operator.name}_{self.name}_backward",
            f"({arriving}{arguments}{saved}, int wanted) -> ({gradients})",
            kernel=without_autocast(self.backward),
            fake=self.fake_backward,
        )
        self.operator = register(
            f"{operator.name}_{self.name}",
            f"({arguments}, int taken, bool inplace_backward) -> ({results}, Tensor total, {gradients})",
            kernel=without_autocast(self.forward),
            fake=self.fake,
            backward=self.autograd,
            setup_context=self.setup_context,
        )

    # ---- the passes over the chunks ----

    def open(self, arguments: tuple[Any, ...], wanted: int, *, by_columns: bool = False) -> Pass:
        """What a pass needs, from the arguments up to chunk_rows; by columns where it may be and a weight needs it."""
        return self.pass_of(arguments, wanted, by_columns)(self.of, self.numbers, arguments, wanted)

    def pass_of(self, arguments: tuple[Any, ...], wanted: int, by_columns: bool) -> type[Pass]:
        """How the vocabulary is walked through: by rows, or by columns."""
        if not by_columns:
            return Pass
        sources = _sources(self.of, arguments)
        for number, place in enumerate(self.of.differentiable_places):
            source = sources[place]
            if source is not None and source.is_wide and wanted >> (3 * number) & WEIGHT:
                return ColumnPass
        return Pass

    def results(self, work: Pass, part: slice, logits: list[Tensor | None]) -> tuple[Tensor, ...]:
        """The results of a chunk's rows."""
        return self.of.forward(*logits, *work.inputs(part), work.rows.real(part))

    def forward(self, *arguments: Any) -> tuple[Tensor, ...]:
        *inputs, taken, _ = arguments
        work = self.open(tuple(inputs), taken)
        rows, results = work.rows, work.new_results()
        saved = [self.of.results.index(name) for name in self.of.saved]
        for part in work.parts():
            logits = work.logits(part)
            terms = self.results(work, part, logits)
            for result, term in zip(results, terms, strict=True):
                rows.put(result, part, term)
            if taken:
                unit = torch.ones_like(terms[0]) if work.weights is None else rows.take(work.weights, part)
                upstream = (unit, *[None] * (self.of.outputs - 1))
                work.collect(part, upstream, logits, [terms[place] for place in saved])
        total = (results[0] if work.weights is None else weighted(results[0], work.weights)).sum()
        whole = (result.view(rows.shape + result.shape[1:]) for result in results)
        return *whole, total, *work.gradients()

    def backward(self, *arguments: Any) -> tuple[Tensor, ...]:
        count = self.of.outputs
        upstream, wanted = arguments[:count], arguments[-1]
        inputs = arguments[count : -1 - len(self.of.saved)]
        saved = arguments[-1 - len(self.of.saved) : -1]
        work = self.open(inputs, wanted, by_columns=True)
        arriving = [None if gradient is None else gradient.reshape(-1) for gradient in upstream]
        rows = work.rows
        kept = [statistic.reshape(rows.total, *statistic.shape[len(rows.shape) :]) for statistic in saved]
        for part in work.parts():
            logits = work.logits(part)
            taken = [None if gradient is None else work.take(gradient, part) for gradient in arriving]
            work.collect(part, taken, logits, [work.take(statistic, part) for statistic in kept])
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
        sizes = self.of.sizes(inputs[PARTS * len(self.of.rows) :])
        results = tuple(like.new_empty((*like.shape, *size)) for size in sizes)
        return *results, like.new_empty(()), *self.empty(sources, taken, wide=True)

    def fake_backward(self, *arguments: Any) -> tuple[Tensor, ...]:
        sources = _sources(self.of, arguments[self.of.outputs :])
        return self.empty(sources, arguments[-1], wide=False)

    def empty(self, sources: list[RowsTensors | None], wanted: int, *, wide: bool) -> tuple[Tensor, ...]:
        gradients: list[Tensor] = []
        for number, place in enumerate(self.of.differentiable_places):
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
        ctx.plain, tensors = split_saved(arguments)
        if ctx.taken:
            ctx.save_for_backward(*tensors[: PARTS * len(of.rows)], *output[results + 1 :])
        else:
            saved = [result for name, result in zip(of.results, output, strict=False) if name in of.saved]
            ctx.save_for_backward(*tensors, *saved)

    def autograd(self, ctx: Any, *arriving: Tensor | None) -> tuple[Tensor | None, ...]:
        of, count = self.of, len(ctx.plain)
        gradients: list[Tensor | None] = [None] * (count + 2)
        wanted = 0
        for number, place in enumerate(of.differentiable_places):
            for bit in range(3):
                wanted |= bool(ctx.needs_input_grad[PARTS * place + bit]) << (3 * number + bit)
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
        for number, place in enumerate(of.differentiable_places):
            for bit in range(3):
                if computed and wanted >> (3 * number + bit) & 1:
                    gradients[PARTS * place + bit] = computed[3 * number + bit]
        return tuple(gradients)

    def scaled(self, ctx: Any, factor: Tensor) -> Sequence[Tensor]:
        """The gradients that the forward pass took along, times what arrives at the sum."""
        first = PARTS * len(self.of.rows)
        kept = ctx.saved_tensors
        gradients = kept[first:]
        inputs = [
            one if plain is None else plain for one, plain in zip(kept[:first], ctx.plain, strict=False)
        ]
        traced = any(
            type(gradient) is not Tensor for gradient in gradients
        )  # to a tracer what is saved must stay
        if ctx.inplace_backward and not torch.is_grad_enabled() and not traced:
            dtypes = [
                inputs[PARTS * place].dtype for place in self.of.differentiable_places for _ in range(3)
            ]
            return [
                gradient.mul_(factor).to(dtype) for gradient, dtype in zip(gradients, dtypes, strict=True)
            ]
        dtypes = [inputs[PARTS * place].dtype for place in self.of.differentiable_places for _ in range(3)]
        link = _link([one for one in inputs if isinstance(one, Tensor)])
        return tuple(
            _scaled_gradient(factor, factor if link is None else link, gradient).to(dtype)
            for gradient, dtype in zip(gradients, dtypes, strict=True)
        )


class Pass:
    """One pass over the chunks of an operator's arguments."""

    def __init__(
        self,
        of: RowOperator,
        names: list[str],
        arguments: tuple[Any, ...],
        wanted: int,
        shards: Shards | None = None,
    ) -> None:
        self.of, self.shards = of, shards
        sources = _sources(of, arguments)
        first = sources[0]
        assert first is not None
        *numbers, mask, weights, requested = arguments[PARTS * len(of.rows) :]
        self.rows = rows = RealRows(first.values.shape[:-1], mask)
        heads = [source.weight for source in sources if source is not None and source.weight is not None]
        # every process has to come to the same chunks
        largest = None if shards is None else max(shards.rows)
        self.size = choose_chunk_rows(rows.count, heads[0], requested, heads=len(heads), columns=largest)
        self.dtype = _dtype(sources)
        vocabulary = heads[0].shape[0] if shards is None else shards.vocabulary
        self.weights = rows.one_per_row("row_weights", weights, vocabulary)
        if self.weights is not None:
            self.weights = self.weights.to(statistic_dtype(self.dtype))
        self._inputs = [
            rows.one_per_row(name, one, vocabulary, name in of.several) if isinstance(one, Tensor) else one
            for name, one in zip(names, numbers, strict=True)
        ]
        self.columns = heads[0].shape[0]
        self.block = self.columns  # fewer where a backward pass by columns has to find the same logits
        if any(source is not None and source.is_wide for source in sources):
            width = max(weight.shape[1] for weight in heads)
            self.block = choose_columns(self.size, rows.count, self.columns, width)
        if shards is not None:
            self._inputs = [shards.own_ids(one) if _is_ids(one) else one for one in self._inputs]
        self._chunks: list[Chunks | HeadColumns | StoredColumns | None] = []
        for place, source in enumerate(sources):
            if source is None:
                self._chunks.append(None)
                continue
            if source.values.shape[:-1] != rows.shape:
                raise ValueError(
                    f"{plain_name(of.rows[place])} must have the leading shape {tuple(rows.shape)}, "
                    f"got {tuple(source.values.shape[:-1])}"
                )
            bits = (
                wanted >> (3 * of.differentiable_places.index(place)) & 7
                if place in of.differentiable_places
                else 0
            )
            self._chunks.append(self.open(source, bits))
        self.differentiable = [
            source for place in of.differentiable_places if (source := sources[place]) is not None
        ]

    def open(self, source: RowsTensors, wanted: int) -> Chunks | HeadColumns | StoredColumns:
        columns = None if self.shards is None else self.shards.columns
        return open_chunks(source, self.rows, self.size, self.dtype, wanted, columns, self.block)

    def parts(self) -> Iterator[slice]:
        """What is read at a time."""
        return self.rows.chunks(self.size)

    def take(self, numbers: Tensor, part: slice) -> Tensor:
        """Numbers `[N, ...]` of the rows that a part reads."""
        return self.rows.take(numbers, part)

    def real(self, part: slice) -> Tensor | None:
        """The mask of these rows that the row kernels need; None where all are real."""
        return self.rows.real(part)

    def new_results(self) -> list[Tensor]:
        like, dtype = self.differentiable[0].values, statistic_dtype(self.dtype)
        sizes = self.of.sizes(self._inputs)
        return [like.new_zeros((self.rows.total, *size), dtype=dtype) for size in sizes]

    def logits(self, part: slice) -> list[Tensor | None]:
        """The rows of a part, `[C, V]`."""
        return [None if chunks is None else chunks.logits(part) for chunks in self._chunks]

    def inputs(self, part: slice) -> list[Any]:
        """The other arguments of these rows."""
        return [self.take(one, part) if isinstance(one, Tensor) else one for one in self._inputs]

    def collect(
        self, part: slice, upstream: Sequence[Tensor | None], logits: list[Tensor | None], saved: list[Tensor]
    ) -> None:
        """Take in a part's gradients for what arrives at the results of its rows."""
        chunks = [self._chunks[place] for place in self.of.differentiable_places]
        gradients = [None if one is None else one.gradient() for one in chunks]
        inputs, real = self.inputs(part), self.real(part)
        self.of.backward(*upstream, *logits, *inputs, real, *saved, *gradients)
        for one in chunks:
            if one is not None:
                one.collect(part)

    def gradients(self) -> list[Tensor]:
        chunks = [self._chunks[place] for place in self.of.differentiable_places]
        return [gradient for one in chunks if one is not None for gradient in one.gradients()]


class ColumnPass(Pass):
    """One pass over blocks of the vocabulary, with all rows: a gradient, from what the forward pass saved of each row."""

    def open(self, source: RowsTensors, wanted: int) -> HeadColumns | StoredColumns:
        return open_columns(source, self.rows, self.size, self.block, self.dtype, wanted)

    def parts(self) -> Iterator[slice]:
        for first in range(0, self.columns, self.block):
            yield slice(first, min(first + self.block, self.columns))

    def take(self, numbers: Tensor, part: slice) -> Tensor:
        return self.rows.take(numbers, slice(None))

    def real(self, part: slice) -> Tensor | None:
        return self.rows.real(slice(None))

    def inputs(self, part: slice) -> list[Any]:
        return [ids_in(one, part) if _is_ids(one) else one for one in super().inputs(part)]


def _is_ids(argument: Any) -> TypeGuard[Tensor]:
    return isinstance(argument, Tensor) and argument.dtype == torch.int64


def _sources(of: RowOperator, arguments: tuple[Any, ...]) -> list[RowsTensors | None]:
    """The vocabulary-wide arguments of a chunked form."""
    parts = [arguments[PARTS * place : PARTS * (place + 1)] for place in range(len(of.rows))]
    return [None if part[0] is None else RowsTensors(*part) for part in parts]


def _dtype(sources: list[RowsTensors | None]) -> torch.dtype:
    """The dtype in which the row kernels read: the widest."""
    dtypes = [source.values.dtype for source in sources if source is not None]
    widest = dtypes[0]
    for dtype in dtypes[1:]:
        widest = torch.promote_types(widest, dtype)
    return widest


def _threes(gradients: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    return [gradients[first : first + 3] for first in range(0, len(gradients), 3)]


def _link(inputs: Sequence[Tensor]) -> Tensor | None:
    """A 0 whose graph has all inputs that have one; None where no graph is recorded."""
    if not torch.is_grad_enabled():
        return None
    zeros = [one.reshape(-1)[:0].sum() for one in inputs if one.requires_grad]
    return torch.stack([zero.float() for zero in zeros]).sum() if zeros else None


# The link is there for the graph: a second derivative would go through it, and is refused.
_scaled_gradient = register_backward(
    "scaled_gradient",
    "(Tensor factor, Tensor link, Tensor gradient) -> Tensor",
    kernel=lambda factor, _, gradient: gradient * factor,
    fake=lambda factor, _, gradient: torch.empty_like(gradient),
)
