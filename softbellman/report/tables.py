"""A table as text or Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def format_table(
    rows: Sequence[Mapping[str, Any]],
    *,
    digits: int = 2,
    markdown: bool = False,
    right: Sequence[str] = (),
) -> str:
    """A table with a column for every key, in the order they first appear.

    Args:
        rows: one mapping a row; a missing key or None is shown as `-`.
        digits: decimals of floats.
        markdown: pipes around the columns, as in a README.
        right: columns of text that are aligned to the right, as those of numbers are.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [[_cell(row.get(column), digits) for column in columns] for row in rows]
    numeric = [
        column in right
        or (
            any(isinstance(row.get(column), (int, float)) for row in rows)
            and not any(isinstance(row.get(column), str) for row in rows)
        )
        for column in columns
    ]
    widths = [max(len(line[i]) for line in [columns, *cells]) for i in range(len(columns))]

    def draw(line: Sequence[str]) -> str:
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ]
        return f"| {' | '.join(padded)} |" if markdown else "  ".join(padded).rstrip()

    if markdown:
        marks = [
            "-" * (width + 1) + (":" if right else "-") for width, right in zip(widths, numeric, strict=True)
        ]
        rule = f"|{'|'.join(marks)}|"
    else:
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([draw(columns), rule, *map(draw, cells)])


def _cell(value: Any, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)
