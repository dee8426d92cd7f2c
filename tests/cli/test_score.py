"""`softbellman score` against sacrebleu itself."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
from payoffs.payoff_cases import CAPTIONS, CIDER_SCORES, ROUGE_SCORES

from softbellman import __version__

RunCommand = Callable[..., Any]

HYPOTHESES = ["the cat sat on the mat .", "A dog barks !", "", "nothing in common here"]
FIRST = ["the cat sat on a mat .", "a dog barks loudly !", "something", "quite other words stand there"]
SECOND = ["a cat was sitting on the mat .", "the dog barks !", "anything", "no match"]


@pytest.fixture
def references(tmp_path: Path) -> list[str]:
    plain, packed = tmp_path / "first.en", tmp_path / "second.en.gz"
    plain.write_text("".join(f"{line}\n" for line in FIRST))
    packed.write_bytes(gzip.compress("".join(f"{line}\n" for line in SECOND).encode()))
    return [str(plain), str(packed)]


def text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def test_corpus_scores_are_sacrebleus(softbellman: RunCommand, references: list[str]) -> None:
    code, out, err = softbellman(
        "score", "--references", *references, "--metrics", "bleu", "chrf", "ter", stdin=text(HYPOTHESES)
    )
    streams = [FIRST, SECOND]
    bleu, chrf = sacrebleu.metrics.BLEU(), sacrebleu.metrics.CHRF()
    assert code == 0 and not err
    assert bleu.corpus_score(HYPOTHESES, streams).format() in out
    assert chrf.corpus_score(HYPOTHESES, streams).format() in out
    assert sacrebleu.corpus_ter(HYPOTHESES, streams).format() in out
    assert str(bleu.get_signature()) in out and "nrefs:2" in out


@pytest.mark.parametrize("tokenize", ["none", "char"])
def test_tokenizer_and_case(softbellman: RunCommand, references: list[str], tokenize: str) -> None:
    words = ["--references", references[0], "--tokenize", tokenize, "--lowercase"]
    _, out, _ = softbellman("score", *words, stdin=text(HYPOTHESES))
    expected = sacrebleu.metrics.BLEU(tokenize=tokenize, lowercase=True, force=True)
    assert expected.corpus_score(HYPOTHESES, [FIRST]).format() in out
    assert f"case:lc|eff:no|tok:{tokenize}" in out


def test_sentence_scores(softbellman: RunCommand, references: list[str]) -> None:
    words = ["score", "--references", *references, "--metric", "bleu", "chrf", "--sentence"]
    code, out, err = softbellman(*words, stdin=text(HYPOTHESES))
    header, *rows = [line.split("\t") for line in out.splitlines()]
    assert code == 0 and header == ["line", "bleu", "chrf"] and "BLEU = " in err
    for number, (row, hypothesis, *targets) in enumerate(
        zip(rows, HYPOTHESES, FIRST, SECOND, strict=True), 1
    ):
        bleu = sacrebleu.sentence_bleu(hypothesis, targets).score
        chrf = sacrebleu.sentence_chrf(hypothesis, targets).score
        assert row == [str(number), f"{bleu:.2f}", f"{chrf:.2f}"]


def test_line_counts_must_agree(softbellman: RunCommand, references: list[str]) -> None:
    code, out, err = softbellman("score", "--references", *references, stdin=text(HYPOTHESES[:3]))
    assert code == 2 and not out and "first.en has 4 lines, standard input has 3" in err


def test_input_must_be_text(softbellman: RunCommand, references: list[str]) -> None:
    code, _, err = softbellman("score", "--references", *references, stdin=b"good\nbad \xff\n")
    assert code == 2 and "standard input, line 2: invalid UTF-8" in err
    code, _, err = softbellman("score", "--references", *references)
    assert code == 2 and "no hypotheses" in err


def test_only_line_feeds_end_a_line(softbellman: RunCommand, tmp_path: Path) -> None:
    reference = tmp_path / "r"
    reference.write_bytes("a b\u2028c d e\r\nf g h i\n".encode())
    code, out, _ = softbellman(
        "score", "--references", str(reference), stdin=b"\xef\xbb\xbfa b\xe2\x80\xa8c d e\nf g h i"
    )
    assert code == 0 and "BLEU = 100.00" in out


def test_carriage_returns_alone_are_named(softbellman: RunCommand, references: list[str]) -> None:
    code, out, err = softbellman("score", "--references", *references, stdin=b"a b\rc d\r")
    assert code == 2 and not out
    assert "standard input, line 1: the only line holds carriage returns, but only a line feed ends" in err


def test_words_are_scored_as_the_coco_tools_do(softbellman: RunCommand, tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.txt" for i in range(3)]
    for i, file in enumerate(
        files
    ):  # a caption with fewer references leaves its lines of the later files empty
        file.write_text("".join(f"{(*group, '', '')[i]}\n" for _, group in CAPTIONS))
    words = ["score", "--references", *map(str, files), "--metrics", "cider", "rouge_l", "--tokenize", "none"]
    hypotheses = text([hypothesis for hypothesis, _ in CAPTIONS])
    code, out, err = softbellman(*words, stdin=hypotheses)
    assert code == 0 and not err
    assert out.splitlines() == [
        f"CIDEr-D = {sum(CIDER_SCORES) / 0.06:.2f}",
        f"  signature: nrefs:var|case:mixed|df:references|order:4|sigma:6|tok:none|version:{__version__}",
        f"ROUGE-L = {sum(ROUGE_SCORES) / 0.06:.2f}",
        f"  signature: nrefs:var|case:mixed|beta:1.2|tok:none|version:{__version__}",
    ]
    code, out, err = softbellman(*words, "--sentence", stdin=hypotheses)
    header, *rows = [line.split("\t") for line in out.splitlines()]
    assert code == 0 and header == ["line", "cider", "rouge_l"] and "CIDEr-D = " in err
    for number, (row, scores) in enumerate(
        zip(rows, zip(CIDER_SCORES, ROUGE_SCORES, strict=True), strict=True), 1
    ):
        assert row == [str(number), *(f"{100 * score:.2f}" for score in scores)]


def test_tokeniser_and_case_of_words(softbellman: RunCommand, references: list[str]) -> None:
    words = ["score", "--references", *references, "--metrics", "rouge_l"]
    _, out, _ = softbellman(*words, "--lowercase", stdin=text(["A CAT was sitting on the mat.", *FIRST[1:]]))
    assert "ROUGE-L = 100.00" in out and "case:lc|beta:1.2|tok:13a" in out
    _, out, _ = softbellman(*words, stdin=text(["A CAT was sitting on the mat.", *FIRST[1:]]))
    assert "ROUGE-L = 100.00" not in out


def test_a_line_without_any_reference_is_named(softbellman: RunCommand, tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("a b\n \n")
    words = ["score", "--references", str(empty), "--metrics", "cider"]
    code, out, err = softbellman(*words, stdin=b"a b\nc d\n")
    assert code == 2 and not out
    assert "empty.txt: line 2 is empty, which leaves CIDEr-D no reference there" in err
    for name, title in (("bleu", "BLEU"), ("ter", "TER"), ("chrf", "chrF")):
        code, out, err = softbellman(
            "score", "--references", str(empty), "--metrics", name, stdin=b"a b\nc d\n"
        )
        assert code == 2 and not out
        assert f"empty.txt: line 2 is empty, which leaves {title} no reference there" in err


ABSENT = (["a b c d e", "x y z w q"], ["a b c d f", ""])
"""Two reference files, of which the second has none for the second line."""


def write_references(folder: Path, *columns: list[str]) -> list[str]:
    paths = [folder / f"{number}.en" for number in range(len(columns))]
    for path, lines in zip(paths, columns, strict=True):
        path.write_bytes(text(lines))
    return list(map(str, paths))


def test_an_empty_line_of_a_file_is_no_reference(softbellman: RunCommand, tmp_path: Path) -> None:
    paths = write_references(tmp_path, *ABSENT)
    words = ["score", "--references", *paths, "--metrics", "bleu", "ter", "chrf", "--tokenize", "none"]
    code, out, _ = softbellman(*words, stdin=text(["a b c d e", "x"]))
    streams = [ABSENT[0], [ABSENT[1][0], None]]
    assert code == 0 and "BLEU = 51.34 " in out and "nrefs:var|case:mixed|eff:no" in out
    for metric in (sacrebleu.metrics.TER(), sacrebleu.metrics.CHRF()):
        assert metric.corpus_score(["a b c d e", "x"], streams).format() in out
    code, out, err = softbellman(*words, "--sentence", stdin=text(["a b c d e", "x"]))
    assert (
        out.splitlines()[2] == "2\t1.83\t80.00\t" + f"{sacrebleu.sentence_chrf('x', ABSENT[0][1:]).score:.2f}"
    )
    assert "BLEU = 51.34 " in err


def test_lines_have_a_signature_of_their_own(softbellman: RunCommand, tmp_path: Path) -> None:
    """Sentence BLEU counts only the orders that a short line has (eff:yes); the other metrics are the same for lines."""
    words = [
        "score",
        "--references",
        *write_references(tmp_path, *ABSENT),
        "--metrics",
        "bleu",
        "chrf",
        "cider",
    ]
    _, _, err = softbellman(*words, "--sentence", stdin=text(["a b c d e", "x"]))
    single = sacrebleu.metrics.BLEU(effective_order=True)
    single.num_refs = -1
    assert err.splitlines()[:3] == [
        err.splitlines()[0],
        f"  signature: {str(single.get_signature()).replace('eff:yes', 'eff:no')}",
        f"  signature of the lines: {single.get_signature()}",
    ]
    assert "|eff:yes|" in err and err.count("signature of the lines") == 1
    assert "of the lines" not in softbellman(*words, stdin=text(["a b c d e", "x"])).out


def test_ter_ignores_case_as_sacrebleu_does(softbellman: RunCommand, tmp_path: Path) -> None:
    lines = ["The CAT sat on a Mat and slept all DAY long", "x"]
    words = ["score", "--references", *write_references(tmp_path, [line.lower() for line in lines])]
    words += ["--metrics", "ter"]
    _, out, _ = softbellman(*words, stdin=text(lines))
    assert "TER = 0.00" in out and "case:lc" in out
    assert softbellman(*words, "--lowercase", stdin=text(lines)).out == out
    _, out, _ = softbellman(*words, "--ter-case-sensitive", stdin=text(lines))
    assert "TER = 33.33" in out and "case:mixed" in out
    code, _, err = softbellman(*words, "--ter-case-sensitive", "--lowercase", stdin=text(lines))
    assert code == 2 and "not allowed with argument" in err


def test_the_warning_about_tokenised_text_is_shown(softbellman: RunCommand, tmp_path: Path) -> None:
    logging.getLogger("sacrebleu").setLevel(logging.NOTSET)  # benchmarks that other tests ran silence it
    lines = [f"sentence {number} ends here ." for number in range(100)]
    words = ["score", "--references", *write_references(tmp_path, lines)]
    code, out, err = softbellman(*words, stdin=text(lines))
    assert code == 0 and "BLEU = 100.00" in out
    assert err.count("softbellman: warning: ") == len(err.splitlines()) == 3
    assert "100 lines that end in a tokenized period" in err and "`force`" not in err
    assert "For text that is tokenised say --tokenize none." in err
    assert softbellman(*words, "--tokenize", "none", stdin=text(lines)).err == ""
    assert softbellman(*words, stdin=text([line[:-2] + "." for line in lines])).err == ""


def test_cider_of_one_line_says_that_it_is_nothing(softbellman: RunCommand, tmp_path: Path) -> None:
    words = ["score", "--references", *write_references(tmp_path, ["a dog runs"]), "--metrics", "cider"]
    code, out, err = softbellman(*words, stdin=b"a dog runs\n")
    assert code == 0 and "CIDEr-D = 0.00" in out
    assert err.startswith("softbellman: warning: CIDEr-D says nothing here and is 0") and err.count("\n") == 1


def test_a_bomb_on_standard_input_is_refused(softbellman: RunCommand, references: list[str]) -> None:
    code, out, err = softbellman("score", "--references", *references, stdin=b"a\n" + b"b" * (1 << 20) + b"c")
    assert code == 2 and not out
    assert "standard input, line 2: the line is longer than 1,048,576 bytes" in err
