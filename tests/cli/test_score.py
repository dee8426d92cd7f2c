"""`softbellman score` against sacrebleu itself."""

from __future__ import annotations

import gzip
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
        f"  signature: nrefs:3|case:mixed|df:references|order:4|sigma:6|tok:none|version:{__version__}",
        f"ROUGE-L = {sum(ROUGE_SCORES) / 0.06:.2f}",
        f"  signature: nrefs:3|case:mixed|beta:1.2|tok:none|version:{__version__}",
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
