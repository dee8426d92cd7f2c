"""A small table of named columns: shown as text, shown in a notebook, turned into a dict for any data frame."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_WIDEST = 40  # characters of a cell in text
_MOST = 60  # rows that are shown


class Table:
    """Rows of one kind.

    Args:
        rows: mappings with the same keys.
        columns: their order; None: that of the first row.
        title: a line above the table.

    Raises:
        ValueError: a row without one of the columns.

    Example:
        >>> table = Table([{"token": "a", "reward": 0.5}, {"token": "dog", "reward": -0.25}])
        >>> table
        token  reward
        a        0.50
        dog     -0.25
        >>> table.to_dict()
        {'token': ['a', 'dog'], 'reward': [0.5, -0.25]}
    """

    def __init__(
        self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None, *, title: str = ""
    ) -> None:
        first = rows[0] if rows else {}
        self.columns = tuple(first if columns is None else columns)
        for number, row in enumerate(rows):
            for name in self.columns:
                if name not in row:
                    raise ValueError(f"row {number} has no column {name!r}")
        self.rows = tuple({name: row[name] for name in self.columns} for row in rows)
        self.title = title

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __getitem__(self, column: str) -> list[Any]:
        """The values of a column; raises KeyError that names the columns."""
        if column not in self.columns:
            raise KeyError(f"no column {column!r}; there are: {', '.join(self.columns)}")
        return [row[column] for row in self.rows]

    def to_dict(self) -> dict[str, list[Any]]:
        """The columns by name, such as `pandas.DataFrame` takes them."""
        return {name: self[name] for name in self.columns}

    def __repr__(self) -> str:
        shown = self.rows[:_MOST]
        cells = [[_shortened(_cell(row[name])) for name in self.columns] for row in shown]
        right = [all(_is_number(row[name]) for row in shown) for name in self.columns]
        widths = [max(map(len, column)) for column in zip(self.columns, *cells, strict=True)]
        lines = [
            "  ".join(
                text.rjust(width) if numbers else text.ljust(width)
                for text, width, numbers in zip(line, widths, right, strict=True)
            ).rstrip()
            for line in [self.columns, *cells]
        ]
        more = [f"... {len(self) - _MOST} more rows"] if len(self) > _MOST else []
        return "\n".join([*([self.title] if self.title else []), *lines, *more])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in self.columns)
        body = "".join(
            "<tr>" + "".join(_html_cell(row[name]) for name in self.columns) + "</tr>"
            for row in self.rows[:_MOST]
        )
        caption = f"<caption>{html.escape(self.title)}</caption>" if self.title else ""
        more = f"<p>... {len(self) - _MOST} more rows</p>" if len(self) > _MOST else ""
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}"
    return " | ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _shortened(text: str) -> str:
    return text if len(text) <= _WIDEST else text[: _WIDEST - 3] + "..."


def _html_cell(value: Any) -> str:
    align = ' style="text-align:right"' if _is_number(value) else ""
    exact = f' title="{value:.6f}"' if isinstance(value, float) else ""
    return f"<td{align}{exact}>{html.escape(_cell(value))}</td>"
