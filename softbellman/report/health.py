"""The health of a run, as lines of text and as a part of a page: a sentence for each stage, then what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from softbellman.report.credit_page import escaped
from softbellman.report.credit_scale import NOTHING
from softbellman.report.tables import format_table
from softbellman.training.diagnosis import Diagnosis
from softbellman.training.rules import MEASURES


def health_lines(health: Sequence[Diagnosis]) -> Iterator[str]:
    """The sentences, and a table with a row for each measure, a column for each stage."""
    for diagnosis in health:
        yield diagnosis.line()
    rows = _rows(health)
    if rows:
        yield ""
        yield format_table(rows, right=[diagnosis.stage for diagnosis in health])


def health_section(health: Sequence[Diagnosis]) -> str:
    """The same as well-formed HTML, to stand within a page."""
    items = "".join(
        f'<li class="{diagnosis.verdict}"><strong>{escaped(diagnosis.stage)}</strong>: '
        f"{escaped(diagnosis.sentence())}</li>"
        for diagnosis in health
    )
    rows = _rows(health)
    if not rows:
        return f"<ul>{items}</ul>"
    head = "".join(f'<th scope="col">{escaped(title)}</th>' for title in rows[0])
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escaped(text or NOTHING)}</td>" for text in row.values()) + "</tr>"
        for row in rows
    )
    return f'<ul>{items}</ul>\n<table class="numbers"><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>'


def _rows(health: Sequence[Diagnosis]) -> list[dict[str, str | None]]:
    """A row for each measure that any stage has: its name, its numbers by stage, its unit."""
    return [
        {
            "measure": name,
            **{diagnosis.stage: _shown(diagnosis.seen.get(name)) for diagnosis in health},
            "unit": measure.unit,
        }
        for name, measure in MEASURES.items()
        if any(name in diagnosis.seen for diagnosis in health)
    ]


def _shown(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"
