"""The page of a report: well-formed, self-contained, complete; its figures."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from browser import assert_sound, browse
from study_runs import write_run, write_table

from softbellman.experiments.contrasts import Contrast
from softbellman.experiments.resampling import Difference, Interval, PairedTest
from softbellman.experiments.study import build_study
from softbellman.report import drawing, scores_figure
from softbellman.report.study_figures import draw_section
from softbellman.report.study_markdown import link_to, write_markdown
from softbellman.report.study_page import write_report
from softbellman.training.runfolder import RunFolder

VOID = {"meta", "img", "br"}


class StrictParser(HTMLParser):
    """Every tag is closed, in order; what is loaded from elsewhere is noted."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.pictures = 0
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href") and not (value or "").startswith("data:"):
                self.loaded.append(f"{tag} {value}")
        self.pictures += tag == "img"

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> within {self.open}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    write_table(root / "runs", references=2, metrics=("cider",))
    for seed in (1, 2):
        write_run(
            root / "runs" / f"odd-{seed}",
            "erac",
            seed=seed,
            label="<b>ERAC & co</b>",
            references=2,
            metrics=("cider",),
        )
    study = build_study([root / "runs"], resamples=200)
    return write_report(study, root / "page" / "report.html", title="A < B")[0]


def parse(path: Path) -> StrictParser:
    parser = StrictParser()
    parser.feed(path.read_text(encoding="utf-8"))
    parser.close()
    assert not parser.open
    return parser


def test_the_page_is_well_formed_and_loads_nothing(report: Path) -> None:
    page = parse(report)
    text = report.read_text(encoding="utf-8")
    assert page.loaded == [] and "<script" not in text and not re.search(r"url\(|@import", text)
    assert page.pictures == 2


def test_the_page_says_what_the_study_found(report: Path) -> None:
    text = parse(report).text
    for part in (
        "A < B", "Orderings", "RAML < VAML holds", "minus", "95 % interval", "Paired tests of every run", "tok:none",
        "softbellman-train --config", "A processor, 2 cores", "12.5", "CIDEr-D", "<b>ERAC & co</b>",
    ):  # fmt: skip
        assert part in text, part
    assert "<b>ERAC" not in report.read_text(encoding="utf-8")


def test_figures_are_png_and_pdf_beside_the_page(report: Path) -> None:
    folder = report.with_name("report-figures")
    names = sorted(path.name.removeprefix("built-in-corpus-difficulty-3-") for path in folder.iterdir())
    assert names == ["curves.pdf", "curves.png", "scores.pdf", "scores.png"]
    assert all(path.read_bytes()[:4] in (b"\x89PNG", b"%PDF") for path in folder.iterdir())


def test_the_same_runs_give_the_same_page(report: Path, tmp_path: Path) -> None:
    study = build_study([report.parent.parent / "runs"], resamples=200)
    again = write_report(study, tmp_path / "report.html", title="A < B")[0]
    assert again.read_bytes() == report.read_bytes()


def test_a_sweep_of_tau_has_a_figure_with_ac_at_zero(tmp_path: Path) -> None:
    for tau in ("0.01", "0.1"):
        write_run(tmp_path / f"erac-{tau}", "erac", label=f"ERAC, tau {tau}", credit__tau=tau)
    write_run(tmp_path / "ac", "ac")
    (section,) = build_study([tmp_path], resamples=50).sections
    drawings = {drawing.name: drawing for drawing in draw_section(section)}
    assert list(drawings) == ["scores", "curves", "sweep-credit-tau"]
    ticks = drawings["sweep-credit-tau"].figure.axes[0].get_xticklabels()
    assert [tick.get_text() for tick in ticks] == ["0", "0.01", "0.1"]


def test_what_selects_has_a_learning_curve_beside_bleu(tmp_path: Path) -> None:
    def titles(**settings: str) -> list[str]:
        root = tmp_path / "-".join(["runs", *settings.values()])
        folder = RunFolder(write_run(root / "erac-1", "erac", **settings))
        for step, (stage, ter) in enumerate((("actor", 60.0), ("joint", 55.0))):
            folder.log(kind="dev", stage=stage, step=step, time=0.0, dev_ter=ter)
        (section,) = build_study([root], resamples=50).sections
        (curves,) = (drawing for drawing in draw_section(section) if drawing.name == "curves")
        return [axes.get_title(loc="left") for axes in curves.figure.axes if axes.axison]

    bleu, ter = "BLEU on the validation set", "TER on the validation set"
    assert [title for title in titles() if title in (bleu, ter)] == [bleu, bleu]
    both = titles(evaluation__select_by="ter")
    assert [title for title in both if title in (bleu, ter)] == [bleu, ter, bleu, ter]


def test_an_interval_that_runs_out_of_the_figure_has_an_arrow_there() -> None:
    """Two starts leave the interval for new runs open."""
    within, beyond = Interval(-0.5, 1.5), Interval(-9.0, 11.0)
    tests = [
        PairedTest(Difference(0.5, Interval(0.1, 0.9), 0.01), new_runs=interval, starts=2, by_run=())
        for interval in (within, beyond)
    ]
    contrasts = [
        Contrast("B", "A", pairs=(), tests={"bleu": tests[0]}, unpaired=()),
        Contrast("C", "A", pairs=(), tests={"bleu": tests[1]}, unpaired=()),
    ]
    axes = drawing.new_figure(4, 2).add_subplot()
    scores_figure._draw_forest(axes, contrasts, "bleu")
    arrows = [
        (line.get_marker(), line.get_xdata()[0], line.get_ydata()[0])
        for line in axes.get_lines()
        if line.get_marker() in ("<", ">")
    ]
    left, right = axes.get_xlim()
    assert arrows == [("<", left, 1), (">", right, 1)]
    assert left < within.low and right > within.high


def test_of_many_systems_one_far_from_all_others_leaves_the_panel_with_its_number() -> None:
    axes = drawing.new_figure(4, 4).add_subplot()
    scores = [60.0, 61.0, 62.0, 60.5, 61.5, 62.5, 60.2, 61.2, 63.0, 44.25]
    groups: Any = [
        SimpleNamespace(
            name=f"system {score}", values=lambda _, score=score: {1: score - 0.1, 2: score + 0.1}
        )
        for score in scores
    ]
    section: Any = SimpleNamespace(groups=groups)
    scores_figure._draw_dots(axes, section, "bleu", drawing.styles_of([group.name for group in groups]))
    left, right = axes.get_xlim()
    assert 55 < left < 60 and 63 < right < 66
    shown = {text.get_text(): text.xy for text in axes.texts}
    assert len(shown) == 10 and shown["44.25"] == (left, 9) and shown["63.00"][0] == pytest.approx(63.0)
    few = drawing.new_figure(4, 4).add_subplot()
    scores_figure._draw_dots(
        few,
        SimpleNamespace(groups=groups[-3:]),
        "bleu",
        drawing.styles_of(["system 44.25", "system 63.0", "system 61.2"]),
    )
    assert few.get_xlim()[0] < 44


def test_two_settings_that_vary_together_have_a_table(tmp_path: Path) -> None:
    for speed in ("0.01", "0.1"):
        for smoothness in ("0.0", "0.001"):
            name = f"ERAC, speed {speed}, smoothness {smoothness}"
            write_run(
                tmp_path / f"{speed}-{smoothness}",
                "erac",
                label=name,
                credit__target_speed=speed,
                credit__smoothness=smoothness,
            )
    page = write_report(build_study([tmp_path], resamples=50), tmp_path / "report.html")[0]
    assert "credit.target_speed (rows) and credit.smoothness (columns)" in parse(page).text


def test_a_single_run_has_a_page_too(tmp_path: Path) -> None:
    write_run(tmp_path / "mle", "mle", sentences=10)
    page = write_report(build_study([tmp_path]), tmp_path / "report.html")[0]
    text = parse(page).text
    assert "1 finished run, 1 test set." in text and "Orderings" not in text


@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_shows_the_page(report: Path, tmp_path: Path, width: int) -> None:
    seen = browse(report, tmp_path, width=width)
    assert_sound(seen)
    assert len(seen.pictures) == 2 and "RAML < VAML holds" in seen.text and "<b>ERAC & co</b>" in seen.text


def test_markdown_says_the_same(report: Path, tmp_path: Path) -> None:
    study = build_study([report.parent.parent / "runs"], resamples=200)
    written = write_markdown(
        study, tmp_path / "text" / "report.md", figures=tmp_path / "pictures", title="A < B"
    )
    text = written[0].read_text(encoding="utf-8")
    assert text.startswith("# A < B\n\n## ") and "- RAML \\< VAML holds" in text
    assert r"\<b\>ERAC & co\</b\>" in text and "<b>" not in text
    linked = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert len(linked) == 2 and all((written[0].parent / link).is_file() for link in linked)
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({line.count("|") for line in rows}) == 1 and rows[0].startswith("| system")
    page = parse(report).text
    for line in rows[1:]:
        assert line.split("|")[4].strip() in page  # the same mean and deviation


def test_links_of_markdown_are_percent_encoded(tmp_path: Path) -> None:
    folder = tmp_path / "figures (of \u00e5) #1? 50%"
    assert link_to(folder / "a b.png", tmp_path / "text") == (
        "../figures%20%28of%20%C3%A5%29%20%231%3F%2050%25/a%20b.png"
    )
    assert link_to(folder / "scores-1.0_x.png", folder) == "scores-1.0_x.png"


def test_a_system_of_the_paper_has_its_colour_in_every_figure() -> None:
    styles = drawing.styles_of
    some, more = styles(["MLE", "AC", "ERAC", "mine"]), styles(["MLE", "RAML", "mine", "ERAC", "yours"])
    assert some["ERAC"] == more["ERAC"] and some["MLE"] == more["MLE"]
    assert len(set(some.values())) == 4 and len(set(more.values())) == 5
    many = styles([*map(str, range(20)), "ERAC"])
    assert len(set(many.values())) == 21 and {style.colour for style in many.values()} == set(drawing.PALETTE)
