"""The token-credit page: one HTML file that needs nothing else, with the credit of every token in colours and in numbers.

It loads no script, no font and no picture from elsewhere, and is well-formed XML. Every text that comes from data is escaped.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from softbellman.experiments.token_credit import CreditedHypothesis, CreditedSentence, TokenCredit
from softbellman.report.credit_scale import (
    COLOURS,
    QUANTITIES,
    WORDS,
    Limits,
    ends,
    limits_of,
    number_of,
    present,
    shade,
    shown,
    title_of,
)
from softbellman.report.paper import printable

TOKENS_A_LINE = 12
"""Tokens side by side; longer hypotheses go on below."""

DIGITS = 6
"""Decimals in the tables of all numbers."""

_LARGEST_PHOTO, _SMALL_PICTURE = 360, 128  # pixels a side

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #23272e; background: #fff; margin: 2rem auto; max-width: 68rem;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin: 2.4rem 0 .5rem; } h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
section { border-top: 1px solid #dfe2e6; } dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; }
dt { color: #6f7680; } dd { margin: 0; } .scroll { overflow-x: auto; margin: .3rem 0; }
.head { display: flex; gap: 1.5rem; align-items: flex-start; } .head img { max-width: 22rem; border: 1px solid #dfe2e6; }
.head img.small { width: 12rem; image-rendering: pixelated; } .head dl { margin: 0; flex: 1; }
table { border-collapse: separate; border-spacing: 2px; font-variant-numeric: tabular-nums; }
th { font-weight: normal; text-align: left; } th[scope=row] { color: #6f7680; padding-right: .8rem; white-space: nowrap; }
.tokens td, .tokens thead th { text-align: center; min-width: 3.1rem; padding: .12rem .35rem; border-radius: 3px; }
.tokens thead th { font-weight: 600; } .tokens thead th[scope=row] { font-weight: normal; text-align: left; }
.tokens td.words { color: #6f7680; font-size: .85rem; }
.numbers td { text-align: right; padding: .05rem .5rem; } .numbers td.words { text-align: left; }
.numbers thead th { color: #6f7680; padding: .05rem .5rem; } summary { cursor: pointer; color: #6f7680; }
.bar { display: inline-block; width: 7rem; height: .8rem; border: 1px solid #dfe2e6; vertical-align: middle; }
""".strip()


def credit_page(
    sentences: Sequence[CreditedSentence], facts: Mapping[str, str], *, title: str = "Token credit"
) -> str:
    """The whole page.

    Args:
        sentences: what is shown, in this order; their colours share one scale.
        facts: what the run is, by name.
        title: of the page.
    """
    limits = limits_of(sentences)
    sections = "\n".join(sentence_section(sentence, limits) for sentence in sentences)
    return f"""<!DOCTYPE html>
<html lang="en" xmlns="http://www.w3.org/1999/xhtml">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:"/>
<title>{escaped(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escaped(title)}</h1>
{definitions(facts.items())}
{legend(sentences, limits)}
{sections}
</body>
</html>
"""


def write_credit_page(
    path: str | Path,
    sentences: Sequence[CreditedSentence],
    facts: Mapping[str, str],
    *,
    title: str = "Token credit",
) -> Path:
    """Writes the page, whole or not at all; makes its folder. Returns its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(credit_page(sentences, facts, title=title), encoding="utf-8")
    temporary.replace(path)
    return path


def legend(sentences: Sequence[CreditedSentence], limits: Limits) -> str:
    """What the numbers mean, their units and the ends of their colours' scales."""
    tokens = [
        token for sentence in sentences for hypothesis in sentence.hypotheses for token in hypothesis.tokens
    ]
    rows = []
    for quantity in present(tokens):
        scale = ""
        if quantity.coloured:
            low, high = ends(quantity)
            limit = limits[quantity.field]
            bar = f'<span class="bar" style="background: linear-gradient(90deg, {low}, #ffffff 50%, {high})"></span>'
            if not quantity.signed:
                bar = f'<span class="bar" style="background: linear-gradient(90deg, {low}, {high})"></span>'
            scale = f"{shown(-limit if quantity.signed else 0.0)} {bar} {shown(limit)}"
        texts = (escaped(quantity.meaning), escaped(quantity.unit), scale)
        cells = "".join(f'<td class="words">{text}</td>' for text in texts)
        rows.append(f'<tr><th scope="row">{escaped(quantity.title)}</th>{cells}</tr>')
    body = "\n".join(rows)
    return f'<div class="scroll"><table class="numbers"><tbody>\n{body}\n</tbody></table></div>\n<p>{escaped(COLOURS)}</p>'


def sentence_section(sentence: CreditedSentence, limits: Limits) -> str:
    """A sentence or image: its source, its references, its hypotheses."""
    entries = [("source", sentence.source)]
    for number, reference in enumerate(sentence.references, start=1):
        marks = ["read by critic and oracles"] if number == 1 else []
        marks += [] if number <= sentence.scored else ["not scored by the payoff"]
        entries.append((f"reference {number}", reference + (f" ({', '.join(marks)})" if marks else "")))
    hypotheses = "\n".join(hypothesis_part(hypothesis, limits) for hypothesis in sentence.hypotheses)
    photo = "" if sentence.photo is None else picture(sentence.photo, sentence.source)
    return (
        f'<section>\n<h2>{escaped(sentence.name)}</h2>\n<div class="head">{photo}{definitions(entries)}</div>\n'
        f"{hypotheses}\n</section>"
    )


def hypothesis_part(hypothesis: CreditedHypothesis, limits: Limits) -> str:
    """A hypothesis: coloured rows of its tokens, a few at a time, then all numbers."""
    lines = "\n".join(
        coloured_rows(hypothesis, slice(start, start + TOKENS_A_LINE), limits)
        for start in range(0, len(hypothesis.tokens), TOKENS_A_LINE)
    )
    return (
        f"<h3>{escaped(hypothesis.title)}: payoff {shown(hypothesis.payoff)} tokens, score "
        f"{shown(hypothesis.score, 3)}</h3>\n{lines}\n"
        f"<details><summary>all numbers</summary>\n{all_numbers(hypothesis.tokens)}\n</details>"
    )


def coloured_rows(hypothesis: CreditedHypothesis, part: slice, limits: Limits) -> str:
    """Some tokens of a hypothesis side by side: their numbers below each other, in cells of their colours."""
    tokens, known = hypothesis.tokens[part], present(hypothesis.tokens, coloured=True)
    by_field = {quantity.field: quantity for quantity in known}
    marked = by_field.get("advantage") or by_field["reward"]
    heads = "".join(
        f'<th scope="col" style="{_style(shade(marked, number_of(token, marked), limits[marked.field]))}" '
        f'title="{escaped(_everything(token))}">{escaped(token.token)}</th>'
        for token in tokens
    )
    rows = [f'<thead><tr><th scope="row">token</th>{heads}</tr></thead><tbody>']
    for quantity in known:
        cells = "".join(
            f'<td style="{_style(shade(quantity, value, limits[quantity.field]))}" '
            f'title="{escaped(f"{quantity.title} of {token.token}: {shown(value, DIGITS)} {quantity.unit}".strip())}">'
            f"{shown(value)}</td>"
            for token in tokens
            for value in [number_of(token, quantity)]
        )
        rows.append(f'<tr><th scope="row">{escaped(quantity.title)}</th>{cells}</tr>')
    for title, texts in _wishes(hypothesis.tokens):
        cells = "".join(f'<td class="words">{escaped(text)}</td>' for text in texts[part])
        rows.append(f'<tr><th scope="row">{escaped(title)}</th>{cells}</tr>')
    body = "\n".join(rows)
    return f'<div class="scroll"><table class="tokens">\n{body}\n</tbody></table></div>'


def all_numbers(tokens: Sequence[TokenCredit]) -> str:
    """A row for each token, a column for each number."""
    known, wishes = present(tokens), list(_wishes(tokens))
    titles = [
        "",
        "token",
        *map(title_of, known),
        *(title for title, _ in wishes),
    ]
    head = "".join(f'<th scope="col">{escaped(title)}</th>' for title in titles)
    rows = []
    for place, token in enumerate(tokens):
        numbers = "".join(f"<td>{shown(number_of(token, quantity), DIGITS)}</td>" for quantity in known)
        words = "".join(f'<td class="words">{escaped(texts[place])}</td>' for _, texts in wishes)
        rows.append(
            f'<tr><td>{place + 1}</td><th scope="row">{escaped(token.token)}</th>{numbers}{words}</tr>'
        )
    body = "\n".join(rows)
    return (
        f'<div class="scroll"><table class="numbers"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def picture(photo: Any, name: str) -> str:
    """A photograph within the page, made smaller where it is large; small pictures keep their pixels."""
    small = max(photo.size) <= _SMALL_PICTURE
    photo, file = photo.copy(), io.BytesIO()
    photo.thumbnail((_LARGEST_PHOTO, _LARGEST_PHOTO))
    photo.save(file, format="PNG" if small else "JPEG", **({} if small else {"quality": 85}))
    kind, look = ("png", ' class="small"') if small else ("jpeg", "")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<img{look} alt="{escaped(name)}" src="data:image/{kind};base64,{data}"/>'


def definitions(entries: Any) -> str:
    """Pairs of a name and a text as a list."""
    rows = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(text)}</dd>" for name, text in entries)
    return f"<dl>{rows}</dl>" if rows else ""


def escaped(text: str) -> str:
    """A text as HTML and XML take it, also within quotes; characters that neither allows become U+FFFD."""
    return html.escape(printable(text)).replace("\n", "&#10;")


def _wishes(tokens: Sequence[TokenCredit]) -> Iterator[tuple[str, list[str]]]:
    """What each oracle would have taken, where the run has it."""
    for field, title in WORDS:
        texts = [getattr(token, field) for token in tokens]
        if any(text is not None for text in texts):
            yield title, [text or "" for text in texts]


def _everything(token: TokenCredit) -> str:
    """All numbers of a token, one a line."""
    numbers = [
        f"{quantity.title} {shown(value, DIGITS)} {quantity.unit}".rstrip()
        for quantity in QUANTITIES
        if (value := number_of(token, quantity)) is not None
    ]
    return "\n".join([token.token, *numbers])


def _style(colours: tuple[str, str]) -> str:
    return "background: {}; color: {}".format(*colours)
