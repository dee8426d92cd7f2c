"""Tables as text and Markdown."""

from __future__ import annotations

from softbellman.report import format_table


def test_table() -> None:
    rows = [{"system": "MLE", "BLEU": 9.5, "updates": 12}, {"system": "ERAC", "BLEU": 28.125, "note": "x"}]
    assert format_table(rows).splitlines() == [
        "system   BLEU  updates  note",
        "----------------------------",
        "MLE      9.50       12  -",
        "ERAC    28.12        -  x",
    ]
    assert format_table(rows, digits=1, markdown=True).splitlines() == [
        "| system | BLEU | updates | note |",
        "|--------|-----:|--------:|------|",
        "| MLE    |  9.5 |      12 | -    |",
        "| ERAC   | 28.1 |       - | x    |",
    ]
    # text asked to stand on the right
    assert format_table([{"a": "x"}, {"a": "1 ± 2"}], markdown=True, right=["a"]).splitlines() == [
        "|     a |",
        "|------:|",
        "|     x |",
        "| 1 ± 2 |",
    ]
