"""The report of many runs as one HTML page, with its figures in a folder beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from softbellman.core.files import write_atomically
from softbellman.experiments.contrasts import Contrast
from softbellman.experiments.description import file_name
from softbellman.experiments.efforts import Effort, effort_of
from softbellman.experiments.orderings import show_interval
from softbellman.experiments.series import Grid, find_grid
from softbellman.experiments.study import Section, Study, spread
from softbellman.report import page
from softbellman.report.drawing import png
from softbellman.report.scores_figure import VERDICT_COLOURS, contrasts_of
from softbellman.report.study_figures import draw_section, save
from softbellman.report.study_text import (
    METHOD,
    choices,
    chosen_on,
    scores,
    short_title,
    show_spread,
    show_test,
    trials,
    verdicts,
)

GRIDS = (("credit.target_speed", "credit.smoothness"),)
"""Pairs of settings that get a table of their own where systems differ in them alone."""


def write_report(
    study: Study, output: str | Path, *, figures: str | Path = "", title: str = ""
) -> list[Path]:
    """Write the page and its figures.

    Args:
        study: see `build_study`.
        output: the HTML file.
        figures: folder of the PNG and PDF files; empty: STEM-figures beside the page.
        title: of the page; empty: the experiment's.

    Returns:
        What was written, the page first.
    """
    output = Path(output)
    folder = Path(figures) if figures else output.with_name(f"{output.stem}-figures")
    pictures: dict[str, list[str]] = {}
    for section in study.sections:
        pictures[section.title] = []
        for drawing in draw_section(section):
            save(drawing, folder, file_name(section.title))
            pictures[section.title].append(page.picture(png(drawing.figure), drawing.caption))
    text = page.document(title or _title(study), _body(study, title or _title(study), pictures))
    write_atomically(output, text.encode())
    return [output, *sorted(folder.glob("*.p*"))]


def _title(study: Study) -> str:
    titles = dict.fromkeys(
        section.experiment.title for section in study.sections if section.experiment is not None
    )
    return "; ".join(titles) or "Report"


def _body(study: Study, title: str, pictures: Mapping[str, Sequence[str]]) -> Iterator[str]:
    yield page.heading(1, title)
    runs = sum(len(section.runs) for section in study.sections)
    yield page.paragraph(
        f"{runs} finished run{'s' if runs != 1 else ''}, "
        f"{len(study.sections)} test set{'s' if len(study.sections) != 1 else ''}.",
        kind="note",
    )
    for text in study.left_out:
        yield page.paragraph(text, kind="warning")
    for section in study.sections:
        yield page.heading(2, section.title)
        yield from _section(section, pictures[section.title])
    yield page.heading(2, "How it was computed")
    yield page.paragraph(METHOD)
    for text in dict.fromkeys(signed for section in study.sections for signed in section.signatures):
        yield f"<p>sacrebleu: {page.code(text)}</p>"


def _section(section: Section, pictures: Sequence[str]) -> Iterator[str]:
    if section.sentences:
        least, most = section.references
        many = f"{least}" if least == most else f"{least} to {most}"
        yield page.paragraph(
            f"Test set: {section.sentences:,} sources with {many} reference{'s' if most != 1 else ''} each.",
            kind="note",
        )
    for text in section.warnings:
        yield page.paragraph(text, kind="warning")
    if section.steps:
        yield page.heading(3, "Orderings")
        yield page.verdicts(
            (verdict, VERDICT_COLOURS[verdict], text) for verdict, text in verdicts(section.steps)
        )
    yield page.heading(3, "Test scores")
    yield page.table(*scores(section), text_columns=2)
    yield from pictures
    for row_key, column_key in GRIDS:
        grid = find_grid(section.groups, row_key, column_key)
        if grid is not None:
            yield page.heading(3, f"{row_key} (rows) and {column_key} (columns)")
            yield _grid(grid)
    if section.tuning:
        yield page.heading(3, "Settings")
        yield page.paragraph(chosen_on(section.tuning))
        yield page.table(*choices(section.tuning), text_columns=2)
        yield page.folded("Every trial", [page.table(*trials(section.tuning), text_columns=2)])
    contrasts = contrasts_of(section)
    if contrasts:
        yield page.folded("Paired tests of every run", [_tests(contrasts)])
    efforts = [effort_of(run) for run in section.runs]
    yield page.folded("Runs: time, memory, commands", [_efforts(efforts)])
    yield page.folded("Machines, versions and data", [_machines(efforts)])


def _grid(grid: Grid) -> str:
    rows = []
    for row in grid.rows:
        cells: list[object] = [f"{row:g}"]
        for column in grid.columns:
            group = grid.cells.get((row, column))
            cells.append(show_spread(spread(group.values("test_bleu").values())) if group else None)
        rows.append(cells)
    return page.table(["test BLEU", *(f"{column:g}" for column in grid.columns)], rows)


def _tests(contrasts: Sequence[Contrast]) -> str:
    """For each difference and metric a row a pair of runs, and the pooled test below."""
    rows: list[list[object]] = []
    for contrast in contrasts:
        name = f"{contrast.system} \u2212 {contrast.baseline}"
        for metric, test in contrast.tests.items():
            for pair, found in zip(contrast.pairs, test.by_run, strict=True):
                same = pair.system.seed == pair.baseline.seed
                seeds = f"{pair.system.seed}" if same else f"{pair.system.seed} and {pair.baseline.seed}"
                scores = (side.metrics[f"test_{metric}"] for side in (pair.baseline, pair.system))
                shown = [f"{score:.2f}" for score in scores]
                rows.append([name, short_title(metric), seeds, *shown, *show_test(found), None])
            new_runs = show_interval(test.new_runs) if test.new_runs else None
            pooled = [
                name,
                short_title(metric),
                f"all {len(contrast.pairs)}",
                None,
                None,
                *show_test(test.pooled),
            ]
            rows.append([*pooled, new_runs])
    header = ["difference of", "metric", "seeds", "baseline", "system", "difference", "95 % interval", "p"]
    return page.table([*header, "for new runs"], rows, text_columns=3)


def _efforts(efforts: Sequence[Effort]) -> str:
    rows: list[list[object]] = [
        [
            effort.name,
            effort.seed,
            _minutes(sum(effort.stage_seconds.values())) if effort.stage_seconds else None,
            _minutes(effort.wall_seconds),
            f"{effort.peak_bytes / 1e9:.2f}" if effort.peak_bytes else None,
            effort.sessions or None,
            ", ".join(f"{stage} {_minutes(seconds)}" for stage, seconds in effort.stage_seconds.items()),
        ]
        for effort in efforts
    ]
    header = [
        "run ends with",
        "seed",
        "stages, minutes",
        "wall time, minutes",
        "peak memory, GB",
        "starts",
        "by stage",
    ]
    listing = page.table(header, rows)
    note = page.paragraph(
        "A stage has the time it took where it was trained; a run that found it in the cache spent none.",
        kind="note",
    )
    commands = "".join(f"<p>{page.code(effort.command)}</p>" for effort in efforts if effort.command)
    return f"{listing}\n{note}\n{commands}"


def _minutes(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds / 60:.1f}"


def _machines(efforts: Sequence[Effort]) -> str:
    """Facts, each with the number of runs that share it."""
    rows: list[list[object]] = []
    for part in ("machine", "software", "data"):
        counted: dict[tuple[str, str], int] = {}
        for effort in efforts:
            facts: Mapping[str, object] = getattr(effort, part)
            for key, value in facts.items():
                shown = str(value)[:16] if part == "data" else str(value)
                counted[key.replace("_", " "), shown] = counted.get((key.replace("_", " "), shown), 0) + 1
        rows += [[key, value, count] for (key, value), count in counted.items()]
    return page.table(["fact", "value", "runs"], rows, text_columns=2)
