"""The memory that a launch may touch, as the fields of its call say: the interpreter refuses every other address."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

Region = tuple[int, int, int, int]  # first byte, bytes of a row, bytes from row to row, rows
SIZES = (4, 8, 2, 2, 8, 4, 1, 1)  # of an element, by the codes of csrc/core/rows.h


def region_of(field: Any) -> Region | None:
    """Of a field as the binding takes it (csrc/bind/fields.h); None where it is no memory."""
    if not isinstance(field, tuple) or field[0] == 0:
        return None
    if len(field) == 7:  # tokens
        pointer, source_stride, row_stride, sources, rows, length, code = field
        reach = max(sources - 1, 0) * source_stride + max(rows - 1, 0) * row_stride + length
        return pointer, reach * SIZES[code], 0, 1
    if len(field) == 5:  # a matrix
        pointer, stride, rows, vocabulary, code = field
        return pointer, vocabulary * SIZES[code], stride * SIZES[code], rows
    pointer, count, code, *_ = field
    return pointer, count * SIZES[code], 0, 1


def regions_of(fields: dict[str, Any]) -> list[Region]:
    return [region for field in fields.values() if (region := region_of(field)) is not None]


class Guarded:
    """The interpreter's module; a launcher may touch what its fields describe and nothing else."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.module, name)
        return self.guarded(found) if callable(found) else found

    def guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **fields: Any) -> Any:
            self.module.set_regions(regions_of(fields) if "device" in fields else [])
            try:
                return function(*arguments, **fields)
            finally:
                self.module.set_regions([])

        return call
