"""The report of many runs as Markdown, for a repository or a paper's supplement, with its figures beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from softbellman.core.files import write_atomically
from softbellman.experiments.description import file_name
from softbellman.experiments.efforts import effort_of
from softbellman.experiments.study import Section, Study
from softbellman.report.study_figures import draw_section, save
from softbellman.report.study_text import METHOD, choices, chosen_on, scores, verdicts
from softbellman.report.tables import format_table


def write_markdown(
    study: Study, output: str | Path, *, figures: str | Path = "", title: str = ""
) -> list[Path]:
    """Write the text and its figures.

    Args:
        study: see `build_study`.
        output: the Markdown file.
        figures: folder of the PNG and PDF files; empty: STEM-figures beside the text.
        title: heading above all; empty: none, so that the text fits into another page.

    Returns:
        What was written, the text first.
    """
    output = Path(output)
    folder = Path(figures) if figures else output.with_name(f"{output.stem}-figures")
    lines = [f"# {title}", ""] if title else []
    for section in study.sections:
        lines += [f"## {section.title}", "", *section_lines(section, folder, output.parent), ""]
    write_atomically(output, "\n".join([*lines, METHOD, ""]).encode())
    return [output, *sorted(folder.glob("*.p*"))]


def section_lines(section: Section, folder: Path, home: Path) -> Iterator[str]:
    """One test set without its heading, line by line: warnings, scores, verdicts, figures, what it was run with.

    Args:
        section: of a study.
        folder: where its figures go.
        home: folder of the page, which links to them.
    """
    for text in section.warnings:
        yield f"> {plain(text)}"
        yield ""
    yield score_table(section)
    yield ""
    for _, text in verdicts(section.steps):
        yield f"- {plain(text)}"
    if section.steps:
        yield ""
    if section.tuning:
        yield chosen_on(section.tuning)
        yield ""
        yield _table(*choices(section.tuning))
        yield ""
    for drawing in draw_section(section):
        save(drawing, folder, file_name(section.title))
        picture = folder / f"{file_name(section.title)}-{drawing.name}.png"
        yield f"![{drawing.caption}]({link_to(picture, home)})"
        yield ""
    yield provenance(section)


def score_table(section: Section, columns: Sequence[str] = ()) -> str:
    """The table of scores; of some columns where they are named."""
    return _table(*scores(section), columns=columns)


def _table(header: Sequence[str], rows: Sequence[Sequence[object]], *, columns: Sequence[str] = ()) -> str:
    """Two columns of text, then numbers."""
    shown = [
        {key: plain(value) for key, value in zip(header, row, strict=True) if not columns or key in columns}
        for row in rows
    ]
    return format_table(shown, markdown=True, right=header[2:])


def link_to(path: Path, home: Path) -> str:
    """A path as a link from a page in `home`: percent-encoded, so that no character of a name ends it."""
    return quote(os.fsencode(Path(os.path.relpath(path.resolve(), home.resolve())).as_posix()))


def provenance(section: Section) -> str:
    """Test set, metric, commit, versions and machines, in one paragraph."""
    efforts = [effort_of(run) for run in section.runs]
    parts = [f"{section.sentences:,} test sources" if section.sentences else ""]
    parts += [f"sacrebleu `{text}`" for text in section.signatures]
    for key, name in (("commit", "commit"), ("torch", "PyTorch"), ("python", "Python")):
        found = dict.fromkeys(str(effort.software[key]) for effort in efforts if key in effort.software)
        parts += (
            [f"{name} {', '.join(value[:12] if key == 'commit' else value for value in found)}"]
            if found
            else []
        )
    for key in ("processor", "device"):
        found = dict.fromkeys(str(effort.machine[key]) for effort in efforts if key in effort.machine)
        parts += [", ".join(found)] if found else []
    return "; ".join(filter(None, parts)) + "."


def plain(value: object) -> object:
    """Text without what Markdown or a table would take for markup."""
    return re.sub(r"([|\\`*_<>\[\]])", r"\\\1", value) if isinstance(value, str) else value
