"""Writes the tables and figures of docs/results.md and README.md from finished experiments.

    python scripts/insert_reports.py NAME=DIR [NAME=DIR ...] [--orderings "MLE < AC" ...]

A page has marks: `<!-- report: NAME -->` before a report, `<!-- table: NAME -->` before the table and the first figure of one
for a reader in a hurry, `<!-- end -->` behind either. What lies between the marks of a given NAME is replaced. DIR is a folder
of `softbellman experiment`, or one that `softbellman report RUNS --collect` has written.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from softbellman.experiments.description import file_name
from softbellman.experiments.study import Study, build_study
from softbellman.report.study_figures import draw_section, save
from softbellman.report.study_markdown import link_to, provenance, score_table, section_lines
from softbellman.report.study_text import METHOD

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "images" / "results"
MARKED = re.compile(r"(<!-- (report|table): ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
BRIEF = (
    "system",
    "baseline",
    "runs",
    "test BLEU",
    "difference",
    "95 % interval",
    "test CIDEr-D",
    "test ROUGE-L",
)


def whole(study: Study, name: str, page: Path) -> str:
    """Everything, for docs/results.md."""
    parts = []
    for section in study.sections:
        heading = [f"### {section.title}", ""] if len(study.sections) > 1 else []
        parts.append("\n".join([*heading, *section_lines(section, FIGURES / name, page.parent)]))
    return "\n\n".join([*parts, METHOD])


def brief(study: Study, name: str, page: Path) -> str:
    """Scores and their figure, for README.md."""
    section = study.sections[0]
    drawing = draw_section(section)[0]
    save(drawing, FIGURES / name, file_name(section.title))
    picture = link_to(FIGURES / name / f"{file_name(section.title)}-{drawing.name}.png", page.parent)
    return "\n\n".join([score_table(section, BRIEF), f"![{drawing.caption}]({picture})", provenance(section)])


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", metavar="NAME=DIR", nargs="+", help="a name of the marks, and its runs")
    parser.add_argument("--resamples", type=int, default=2000, help="draws of every test")
    parser.add_argument(
        "--orderings", nargs="+", default=[], help="what gets a verdict (default: as the experiment says)"
    )
    options = parser.parse_args()
    given = dict(text.split("=", 1) for text in options.folders)
    studies = {
        name: build_study([folder], resamples=options.resamples, orderings=options.orderings)
        for name, folder in given.items()
    }
    for page in (ROOT / "README.md", ROOT / "docs" / "results.md"):

        def replaced(found: re.Match[str], page: Path = page) -> str:
            mark, kind, name, end = found.groups()
            if name not in studies:
                return found.group()
            text = (whole if kind == "report" else brief)(studies[name], name, page)
            return f"{mark}{text}\n{end}"

        page.write_text(MARKED.sub(replaced, page.read_text(encoding="utf-8")), encoding="utf-8")
    for picture in FIGURES.rglob("*.pdf"):  # the pages show the PNG files
        picture.unlink()


if __name__ == "__main__":
    main()
