"""Pieces of a self-contained HTML page: text that is escaped, tables, pictures in the page, folded parts."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

STYLE = """
:root { --ink: #23272e; --grey: #6f7680; --edge: #dfe2e6; --soft: #f6f7f9; }
* { box-sizing: border-box; }
body { color: var(--ink); background: #fff; font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  margin: 0 auto; max-width: 1120px; padding: 28px 24px 60px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; }
h2 { font-size: 21px; margin: 44px 0 8px; padding-top: 18px; border-top: 2px solid var(--edge); }
h3 { font-size: 16px; margin: 26px 0 8px; }
p { margin: 6px 0; max-width: 90ch; }
.note { color: var(--grey); font-size: 13px; }
.warning { background: #fff6e5; border-left: 3px solid #d9982b; padding: 5px 10px; margin: 6px 0; font-size: 14px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 8px 0; font-size: 14px; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; border-bottom: 2px solid var(--edge);
  padding: 4px 14px 4px 0; vertical-align: bottom; }
td { border-bottom: 1px solid var(--edge); padding: 4px 14px 4px 0; vertical-align: top; }
td.n, th.n { text-align: right; white-space: nowrap; }
td.b { font-weight: 600; }
ul.verdicts { list-style: none; padding: 0; margin: 10px 0; }
ul.verdicts li { margin: 6px 0; padding-left: 168px; position: relative; min-height: 26px; }
.pill { color: #fff; border-radius: 11px; padding: 1px 10px; font-size: 12.5px; position: absolute; left: 0; top: 1px; }
figure { margin: 14px 0; }
figure img { max-width: 100%; height: auto; border: 1px solid var(--edge); border-radius: 6px; padding: 8px; }
figcaption { color: var(--grey); font-size: 13px; max-width: 100ch; }
details { margin: 10px 0; }
summary { cursor: pointer; color: #3566a8; }
code { background: var(--soft); padding: 1px 4px; border-radius: 3px; font-size: 12.5px; overflow-wrap: anywhere; }
@media (max-width: 700px) { ul.verdicts li { padding-left: 0; } .pill { position: static; } }
"""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def escape(text: object) -> str:
    """Text as HTML shows it."""
    return text if isinstance(text, Markup) else html.escape(str(text), quote=True)


def document(title: str, body: Iterable[str]) -> str:
    """A whole page; it loads nothing."""
    content = "\n".join(body)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{content}\n</body>\n</html>\n"
    )


def heading(level: int, text: str) -> str:
    """`<h2>`, say."""
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str, *, kind: str = "") -> str:
    """A paragraph of plain text; `kind` is a class: note, warning."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, text_columns: int = 1) -> str:
    """A table; the first `text_columns` are text, the others numbers at the right edge. None is an empty cell."""
    kinds = ["" if column < text_columns else ' class="n"' for column in range(len(header))]
    lines = [
        "<tr>"
        + "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, header, strict=True))
        + "</tr>"
    ]
    for row in rows:
        cells = (
            f"<td{kind}>{'' if cell is None else escape(cell)}</td>"
            for kind, cell in zip(kinds, row, strict=True)
        )
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return '<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>"


def verdicts(entries: Iterable[tuple[str, str, str]]) -> str:
    """A list of (verdict, colour, sentence)."""
    items = (
        f'<li><span class="pill" style="background: {colour}">{escape(word)}</span>{escape(text)}</li>'
        for word, colour, text in entries
    )
    return '<ul class="verdicts">\n' + "\n".join(items) + "\n</ul>"


def picture(png: bytes, caption: str) -> str:
    """A PNG within the page, with a caption."""
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def folded(summary: str, content: Iterable[str]) -> str:
    """A part that is shown when its line is clicked."""
    inner = "\n".join(content)
    return f"<details><summary>{escape(summary)}</summary>\n{inner}\n</details>"


def code(text: str) -> Markup:
    """A command or a path."""
    return Markup(f"<code>{escape(text)}</code>")
