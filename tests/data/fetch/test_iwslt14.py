"""IWSLT 2014 as fairseq's script prepares it, on a small copy of its archive."""

from __future__ import annotations

import pytest

from softbellman.data import DataError
from softbellman.data.fetch.iwslt14 import EACH, TESTS, fits, moses, prepare, segments, training_lines

PLAIN = {"de": lambda text: " ".join(text.split()), "en": lambda text: " ".join(text.split())}


def talk(language: str, sentences: list[str]) -> str:
    words = {"de": "Ein Vortrag", "en": "A talk"}[language]
    return (
        f"<url>http://x</url>\n<keywords>a, b</keywords>\n<speaker>NN</speaker>\n<talkid>7</talkid>\n"
        f"<title>{words}</title>\n<description>TED: {words}</description>\n"
        + "".join(f" {s} \n" for s in sentences)
    )


def segment_file(sentences: list[str]) -> bytes:
    lines = "".join(f'<seg id="{number}"> {text} </seg>\n' for number, text in enumerate(sentences, start=1))
    return f'<?xml version="1.0"?>\n<doc docid="1">\n<title>T</title>\n{lines}</doc>\n'.encode()


def archive(pairs: list[tuple[str, str]]) -> dict[str, bytes]:
    sides = dict(zip(("de", "en"), zip(*pairs, strict=True), strict=True))
    members = {f"train.tags.de-en.{side}": talk(side, list(texts)).encode() for side, texts in sides.items()}
    for test in TESTS:
        for side in ("de", "en"):
            members[f"IWSLT14.{test}.de-en.{side}.xml"] = segment_file([f"{side} {test} Eins", "It\u2019s"])
    return members


def test_the_six_files() -> None:
    pairs = [(f"Satz {number}", f"Sentence {number}") for number in range(1, 101)]
    counted: list[int] = []
    files = prepare(archive(pairs), tokenizers=PLAIN, advance=counted.append)
    lines = {name: content.decode().splitlines() for name, content in files.items()}
    assert list(files) == ["train.de", "train.en", "val.de", "val.en", "test.de", "test.en"]
    # the unknown tag of one line, title and description come first, and count as sentences
    assert lines["train.de"][:4] == ["<speaker>nn</speaker>", "ein vortrag", "ted: ein vortrag", "satz 1"]
    whole = [line for line in lines["train.en"] if line.startswith("sentence")]
    held = [f"sentence {23 * k - 3}" for k in range(1, 5)]
    assert lines["val.en"] == held and lines["val.de"] == [line.replace("sentence", "satz") for line in held]
    assert whole == [f"sentence {k}" for k in range(1, 101) if f"sentence {k}" not in held]
    assert lines["test.de"] == [text for test in TESTS for text in (f"de {test.lower()} eins", "it's")]
    assert sum(counted) == 2 * 103 + 2 * 2 * len(TESTS) and EACH == 23


def test_pairs_that_are_empty_long_or_unlike_are_left_out_before_the_split() -> None:
    long = "x " * 176
    kept = [("a b c", "d e"), ("a", "b")]
    dropped = [("", "a"), ("a b c d", "e f"), (long, long), ("a", "b c")]
    files = prepare(archive([*dropped, *kept]), tokenizers=PLAIN)
    assert files["train.de"].decode().splitlines()[3:] == ["a b c", "a"]
    assert files["train.en"].decode().splitlines()[3:] == ["d e", "b"]


@pytest.mark.parametrize(
    ("source", "target", "used"),
    [(175, 175, True), (176, 175, False), (3, 2, True), (2, 3, True), (4, 2, False), (150, 100, True),
     (151, 100, False), (1, 1, True), (0, 1, False), (1, 0, False)],
)  # fmt: skip
def test_which_pairs_are_used(source: int, target: int, used: bool) -> None:
    assert fits("w " * source, "w " * target) is used


def test_lines_and_segments() -> None:
    assert training_lines("a <url> b\nx\u2028y\n\n<title> t </title>\nlast") == [
        "x\u2028y",
        "",
        " t ",
        "last",
    ]
    text = 'no\n<seg id="1"> It\u2019s &amp; \u201cso\u201d . </seg>\n<seg id="20">b</seg>  \n<segments>\n'
    assert segments(text) == ["It's &amp; \u201cso\u201d .", "b"]


def test_sides_of_unequal_length_are_named() -> None:
    members = archive([("a", "b")])
    name = "IWSLT14.TED.tst2011.de-en.en.xml"
    with pytest.raises(DataError, match=r"IWSLT14\.TED\.tst2011\.de-en: the sides have 2 and 1 lines"):
        prepare({**members, name: segment_file(["one"])}, tokenizers=PLAIN)
    with pytest.raises(DataError, match=r"train\.tags\.de-en\.de: invalid UTF-8 at byte 3"):
        prepare({**members, "train.tags.de-en.de": b"abc\xff"}, tokenizers=PLAIN)


def test_moses_tokens_and_escapes() -> None:
    pytest.importorskip("sacremoses")
    german, english = moses("de"), moses("en")
    assert german("Die U.S.A., z.B., sind's nicht!") == "Die U.S.A. , z.B. , sind &apos; s nicht !"
    assert english("\"It's 3.5% & more,\" he didn't say.") == (
        "&quot; It &apos;s 3.5 % &amp; more , &quot; he didn &apos;t say ."
    )


def test_without_sacremoses_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sacremoses", None)
    with pytest.raises(
        ImportError, match=r"preparing iwslt14 needs sacremoses \(pip install 'softbellman\[text\]'"
    ):
        moses("de")
