"""The small table that a run's methods return."""

from __future__ import annotations

import pytest

from softbellman.experiments.rows import Table

ROWS = [{"token": "a<b", "q": 0.123456, "wants": ["x", "y"]}, {"token": "dog", "q": None, "wants": []}]


def test_columns_rows_and_dicts() -> None:
    table = Table(ROWS, ("q", "token"))
    assert table.columns == ("q", "token") and len(table) == 2
    assert table.to_dict() == {"q": [0.123456, None], "token": ["a<b", "dog"]}
    assert list(table) == [{"q": 0.123456, "token": "a<b"}, {"q": None, "token": "dog"}]
    with pytest.raises(KeyError, match="no column 'r'; there are: q, token"):
        table["r"]
    with pytest.raises(ValueError, match="row 1 has no column 'b'"):
        Table([{"a": 1, "b": 2}, {"a": 1}])


def test_text() -> None:
    lines = repr(Table(ROWS, title="two")).splitlines()
    assert lines == ["two", "token     q  wants", "a<b    0.12  x | y", "dog       -"]
    long = Table([{"n": number, "text": "w" * 100} for number in range(70)])
    shown = repr(long).splitlines()
    assert shown[-1] == "... 10 more rows" and max(map(len, shown)) < 50
    assert repr(Table([], ("a", "b"))) == "a  b"


def test_html_is_escaped_and_exact() -> None:
    shown = Table(ROWS, title="<t>")._repr_html_()
    assert "a&lt;b" in shown and "<caption>&lt;t&gt;</caption>" in shown and 'title="0.123456">0.12<' in shown
    assert shown.count("<tr>") == 3
