"""The page is strict XML, stands alone, escapes its texts and holds its numbers; no texts of a picture touch."""

from __future__ import annotations

import base64
import io
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from browser import assert_sound, browse

from softbellman.experiments.token_credit import CreditedHypothesis, CreditedSentence, TokenCredit
from softbellman.report.credit_page import credit_page, write_credit_page
from softbellman.report.credit_picture import compose, draw_credit
from softbellman.report.credit_scale import NOTHING, QUANTITIES, limits_of, number_of, shade, shown

SPACE = "{http://www.w3.org/1999/xhtml}"
EVIL = '<script>alert("1")</script>'
WORDS = ["two", "dogs", EVIL, "&amp;", "]]>", "a'b\"c", "\x00\x1b\ud800", "$x_1$", "straße", "<eos>"]


def token(number: int, word: str, *, learnt: bool = False) -> TokenCredit:
    base = (number * 0.37) % 1.0
    return TokenCredit(
        token=word, probability=base, reward=base - 0.5, q=2 * base - 1, value=base / 3,
        advantage=None if number == 2 else 0.25 - base, entropy=3 * base, oracle_q=-1.0 if number % 2 else 0.0,
        oracle_target=1 - base, oracle_wants="dogs / <b>", **(
            {"learnt_q": base - 7, "learnt_target": base, "learnt_wants": EVIL} if learnt else {}),
    )  # fmt: skip


def sentence(length: int = 30, *, learnt: bool = False, photo: object = None) -> CreditedSentence:
    words = list(itertools.islice(itertools.cycle(WORDS), length))
    hypotheses = tuple(
        CreditedHypothesis(
            title, tuple(token(n, word, learnt=learnt) for n, word in enumerate(words)), 3.25, 0.5
        )
        for title in ("beam search of 5", f"typed: {EVIL}")
    )
    return CreditedSentence("test 3", f"ein {EVIL} & hund", (EVIL, "two dogs ."), 1, hypotheses, photo)


def parsed(page: str) -> ElementTree.Element:
    return ElementTree.fromstring(page)


@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_shows_the_page(tmp_path: Path, width: int) -> None:
    picture = pytest.importorskip("PIL.Image").new("RGB", (30, 20), "green")
    page = tmp_path / "page.html"
    page.write_text(
        credit_page([sentence(learnt=True, photo=picture)], {"run": EVIL}, title=EVIL), encoding="utf-8"
    )
    seen = browse(page, tmp_path, width=width)
    assert_sound(seen)
    assert len(seen.pictures) == 1 and EVIL in seen.text


def texts(element: ElementTree.Element, path: str) -> list[str]:
    return ["".join(found.itertext()) for found in element.iterfind(path)]


@pytest.mark.parametrize("learnt", [False, True])
def test_the_page_is_strict_and_stands_alone(learnt: bool) -> None:
    page = credit_page([sentence(learnt=learnt)], {"run": EVIL}, title=EVIL)
    tree = parsed(page)
    tags = {element.tag.removeprefix(SPACE) for element in tree.iter()}
    assert "script" not in tags and "link" not in tags and "<script" not in page
    for element in tree.iter():
        assert not any(name.startswith("on") or name == "href" for name in element.attrib)
        assert element.get("src", "data:").startswith("data:")
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/1999/xhtml", "")
    assert "url(" not in page and "@import" not in page
    policy = next(e for e in tree.iter(f"{SPACE}meta") if e.get("http-equiv") == "Content-Security-Policy")
    assert policy.get("content") == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert texts(tree, f".//{SPACE}h1") == [EVIL]
    heads = texts(tree, f".//{SPACE}table[@class='tokens']//{SPACE}th[@scope='col']")
    assert heads[:6] == WORDS[:6] and heads[6] == "\ufffd\ufffd\ufffd" and len(heads) == 2 * 30

    class Reader(HTMLParser):
        """Browsers read HTML: every tag is closed in order there, too."""

        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.open.append(tag)

        def handle_startendtag(self, tag: str, attrs: object) -> None:
            assert tag in ("meta", "img")

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []


def test_every_number_is_there_three_times() -> None:
    """In the coloured cell, on hover over it, and with all decimals in the table."""
    shown_sentence = sentence(14, learnt=True)
    tree = parsed(credit_page([shown_sentence], {}))
    hypothesis = shown_sentence.hypotheses[0]
    (table, *_) = [t for t in tree.iter(f"{SPACE}details")]
    head = texts(table, f".//{SPACE}thead//{SPACE}th")
    for place, row in enumerate(table.iterfind(f".//{SPACE}tbody/{SPACE}tr")):
        cells = ["".join(cell.itertext()) for cell in row]
        credit = hypothesis.tokens[place]
        assert cells[0] == str(place + 1)
        for quantity in QUANTITIES:
            title = f"{quantity.title} ({quantity.unit})" if quantity.unit else quantity.title
            value = number_of(credit, quantity)
            assert cells[head.index(title)] == (NOTHING if value is None else f"{value + 0.0:.6f}"), title
        assert cells[head.index("oracle wants")] == "dogs / <b>"
    first, second = itertools.islice(tree.iter(f"{SPACE}table"), 1, 3)  # behind the legend: 12 tokens, then 2
    for part, start in ((first, 0), (second, 12)):
        rows = {"".join(row[0].itertext()): row[1:] for row in part.iterfind(f".//{SPACE}tbody/{SPACE}tr")}
        assert "value" not in rows and "learnt target" in rows
        limits = limits_of([shown_sentence])
        for quantity in (q for q in QUANTITIES if q.coloured):
            for cell, credit in zip(rows[quantity.title], hypothesis.tokens[start:], strict=False):
                value = number_of(credit, quantity)
                background, ink = shade(quantity, value, limits[quantity.field])
                assert cell.text == shown(value)
                assert cell.get("style") == f"background: {background}; color: {ink}"
                assert shown(value, 6) in str(cell.get("title"))


def test_what_a_run_does_not_have_has_no_row() -> None:
    bare = TokenCredit("a", 0.5, 1.0, None, None, None, 0.1, 0.0, 0.5, "a")
    page = credit_page(
        [CreditedSentence("test 1", "x", ("a",), 1, (CreditedHypothesis("h", (bare,), 1.0, 1.0),))], {}
    )
    rows = texts(parsed(page), f".//{SPACE}th[@scope='row']")
    assert "advantage" not in rows and "Q" not in rows and "learnt target" not in rows and "reward" in rows


def test_colours_have_a_side_and_can_be_read() -> None:
    reward = next(quantity for quantity in QUANTITIES if quantity.field == "reward")
    assert shade(reward, 0.0, 1.0)[0] == "#ffffff" == shade(reward, None, 1.0)[0]
    red = [int(shade(reward, value, 2.0)[0][1:3], 16) for value in (-2.0, -1.0, 1.0, 2.0)]
    blue = [int(shade(reward, value, 2.0)[0][5:7], 16) for value in (-2.0, -1.0, 1.0, 2.0)]
    assert red[0] > red[3] and blue[0] < blue[3] and red[3] < red[2] and blue[0] < blue[1]

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for quantity in QUANTITIES:
        for value in np.linspace(-1, 1, 81):
            dark, light = sorted(map(luminance, shade(quantity, float(value), 1.0)))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (quantity.field, value)
    assert shown(-0.0001) == "0.00" and shown(None) == NOTHING and shown(-1.25) == "-1.25"


@pytest.mark.parametrize(("shape", "kind"), [((48, 48, 3), "png"), ((500, 900, 3), "jpeg")])
def test_photographs_are_within_the_page(shape: tuple[int, ...], kind: str, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    photo = image.fromarray(np.full(shape, 90, dtype=np.uint8))
    file = write_credit_page(tmp_path / "new" / "credit.html", [sentence(3, photo=photo)], {})
    (found,) = parsed(file.read_text(encoding="utf-8")).iter(f"{SPACE}img")
    start = f"data:image/{kind};base64,"
    assert str(found.get("src")).startswith(start) and found.get("alt") == f"ein {EVIL} & hund"
    opened = image.open(io.BytesIO(base64.b64decode(str(found.get("src"))[len(start) :])))
    assert max(opened.size) <= 360 and opened.size[0] / opened.size[1] == pytest.approx(
        shape[1] / shape[0], rel=0.02
    )
    assert photo.size == shape[1::-1] and [path.name for path in file.parent.iterdir()] == ["credit.html"]


@pytest.mark.parametrize("length", [1, 30])
@pytest.mark.parametrize("with_photo", [False, True])
@pytest.mark.filterwarnings("ignore:Glyph")
def test_nothing_in_the_picture_overlaps_or_leaves_it(length: int, with_photo: bool) -> None:
    image = pytest.importorskip("PIL.Image")
    photo = image.fromarray(np.full((90, 160, 3), 90, dtype=np.uint8)) if with_photo else None
    shown_sentence = sentence(length, learnt=True, photo=photo)
    figure = compose(shown_sentence, limits_of([shown_sentence]))
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in figure.texts if text.get_text()]
    boxes += [("photo", axes.get_window_extent(renderer)) for axes in figure.axes]
    assert len(figure.axes) == int(with_photo)
    for text, box in boxes:
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width + 1 and 0 <= box.y0 < box.y1 <= figure.bbox.height, (
            text
        )
    for (first, a), (second, b) in itertools.combinations(boxes, 2):
        across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across <= 1 or down <= 2.5, (first, second, across, down)
    words = " ".join(text for text, _ in boxes)
    for value in ("reward", "advantage", "oracle wants", "payoff 3.25 tokens", "reference 2", "(not scored)"):
        assert value in words
    numbers = re.findall(r"-?\d+\.\d\d", words)
    rows = sum(quantity.coloured for quantity in QUANTITIES)
    assert len(numbers) >= 2 * length * rows - 2  # two hypotheses; one advantage each is infinite


def test_a_picture_is_written_whole(tmp_path: Path) -> None:
    file = draw_credit(sentence(2), tmp_path / "a" / "b.png")
    assert file.read_bytes().startswith(b"\x89PNG") and [path.name for path in file.parent.iterdir()] == [
        "b.png"
    ]
    with pytest.raises(ValueError, match=r"output must end in .png, .pdf, .svg"):
        draw_credit(sentence(2), tmp_path / "b.gif")
