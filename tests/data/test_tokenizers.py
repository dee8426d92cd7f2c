import sys

import pytest

from softbellman.data import (
    DataError,
    MissingFileError,
    SentencePieceTokenizer,
    WordTokenizer,
    generate_builtin,
)


def test_words():
    words = WordTokenizer()
    assert words.tokenize("  the old\tdog . ") == ["the", "old", "dog", "."]
    assert words.detokenize(["the", "old", "dog", "."]) == "the old dog ."


def test_the_extra_is_named_when_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ImportError, match=r"softbellman\[text\]"):
        SentencePieceTokenizer.train(["a b"], vocabulary_size=10)
    with pytest.raises(ImportError, match=r"softbellman\[text\]"):
        SentencePieceTokenizer.load(tmp_path / "x.model")


@pytest.fixture(scope="module")
def lines():
    split = generate_builtin(pairs=400, dev_pairs=1, test_pairs=1, difficulty=1.0)["train"]
    return [" ".join(tokens) for tokens in split.sources]


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_sentencepiece_round_trip(lines, tmp_path, model_type):
    pytest.importorskip("sentencepiece", reason="the extra [text] is not installed")
    tokenizer = SentencePieceTokenizer.train(lines, vocabulary_size=150, model_type=model_type)
    pieces = tokenizer.tokenize(lines[0])
    assert len(pieces) > len(lines[0].split())
    assert all(tokenizer.detokenize(tokenizer.tokenize(line)) == line for line in lines)
    tokenizer.save(tmp_path / "x.model")
    again = SentencePieceTokenizer.load(tmp_path / "x.model")
    assert [again.tokenize(line) for line in lines] == [tokenizer.tokenize(line) for line in lines]


def test_sentencepiece_errors(lines, tmp_path):
    pytest.importorskip("sentencepiece", reason="the extra [text] is not installed")
    with pytest.raises(DataError, match=r"train\.de: no SentencePiece model of 100000 pieces"):
        SentencePieceTokenizer.train(lines, vocabulary_size=100_000, origin="train.de")
    with pytest.raises(ValueError, match="model_type"):
        SentencePieceTokenizer.train(lines, vocabulary_size=100, model_type="char")
    with pytest.raises(MissingFileError, match=r"x\.model"):
        SentencePieceTokenizer.load(tmp_path / "x.model")
    for content in (b"", b"not a model"):
        (tmp_path / "y.model").write_bytes(content)
        with pytest.raises(DataError, match=r"y\.model"):
            SentencePieceTokenizer.load(tmp_path / "y.model")
