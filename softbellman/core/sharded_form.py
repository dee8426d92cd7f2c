"""The chunked form of an operator whose heads are spread over processes: a chunk's results are merged before its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from softbellman.core.chunked_form import ChunkedForm, Pass
from softbellman.core.shards import shards_at

if TYPE_CHECKING:
    from softbellman.core.row_operator import RowOperator


class ShardedForm(ChunkedForm):
    """The operator on heads in shards, a chunk of rows at a time; all processes call it with the same rows."""

    name = "sharded"
    more = ", int shards"

    def __init__(self, operator: RowOperator) -> None:
        assert operator.sharded is not None
        self.merged = operator.sharded
        super().__init__(operator)

    def open(self, arguments: tuple[Any, ...], wanted: int, *, by_columns: bool = False) -> Pass:
        *others, number = arguments
        kind = self.pass_of(tuple(others), wanted, by_columns)
        return kind(self.of, self.numbers, tuple(others), wanted, shards_at(number))

    def results(self, work: Pass, part: slice, logits: list[Tensor | None]) -> tuple[Tensor, ...]:
        assert work.shards is not None
        return self.merged(*logits, *work.inputs(part), work.rows.real(part), work.shards.exchange)
