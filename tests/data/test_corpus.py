import logging

import pytest

from softbellman.data import (
    UNK,
    Corpus,
    DataError,
    ParallelText,
    Vocabulary,
    WordTokenizer,
    build_dataset,
    load_dataset,
)


def text(*pairs, origin="train"):
    return ParallelText([p[0] for p in pairs], [list(p[1:]) for p in pairs], f"{origin}.de", f"{origin}.en")


def test_numbering_keeps_text_and_references():
    source, target = Vocabulary(["a", "b"]), Vocabulary(["x", "y"])
    corpus = Corpus.from_text(text(("a b c", "x y", "y"), ("b", "z")), source, target)
    assert corpus.sources == [[4, 5, UNK], [5]]
    assert corpus.references == [[[4, 5], [5]], [[UNK]]]
    assert corpus.source_texts == ["a b c", "b"]
    assert corpus.reference_texts == [["x y", "y"], ["z"]]
    assert corpus[1].reference_texts == ["z"] and len(list(corpus)) == len(corpus) == 2


def test_max_length_drops_training_pairs_only(caplog):
    long = ("a a a a", "x x")
    short = ("a a a", "x x x")
    wide = ("a", "x x x x")
    splits = text(long, short, wide, ("a", "x x x x", "x"))
    with caplog.at_level(logging.INFO):
        data = build_dataset(splits, splits, splits, min_frequency=1, max_length=3)
    assert data.train.source_texts == ["a a a", "a"]
    assert data.train.reference_texts == [["x x x"], ["x"]]
    assert len(data.dev) == len(data.test) == 4
    assert "train.de: dropped 3 of 5 pairs longer than 3 tokens" in caplog.text
    assert len(build_dataset(splits, splits, splits, min_frequency=1, max_length=None).train) == 4


def test_everything_too_long():
    splits = text(("a a", "x x"))
    with pytest.raises(DataError, match=r"train\.de: all 1 pairs"):
        build_dataset(splits, splits, splits, min_frequency=1, max_length=1)
    with pytest.raises(ValueError, match="max_length"):
        build_dataset(splits, splits, splits, min_frequency=1, max_length=0)


def test_empty_vocabulary_names_the_training_file():
    splits = text(("a a a", "x y z"))
    with pytest.raises(DataError, match=r"train\.en: the vocabulary is empty"):
        build_dataset(splits, splits, splits, min_frequency=3)


def test_vocabularies_come_from_training_text_alone():
    data = build_dataset(text(("a", "x", "y")), text(("b", "z")), text(("c", "w")), min_frequency=1)
    assert data.source_vocabulary.tokens[4:] == ("a",)
    assert data.target_vocabulary.tokens[4:] == ("x", "y")
    assert data.test.sources == [[UNK]] and data.test.reference_texts == [["w"]]


def test_load_dataset(tmp_path):
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.de").write_text("der hund\ndie katze\n")
        (tmp_path / f"{name}.en").write_text("the dog\nthe cat\n")
    data = load_dataset(tmp_path, source_language="de", target_language="en", min_frequency=1)
    assert data.train.references == data.dev.references == data.test.references
    assert data.target_vocabulary.decode(data.test.references[1][0]) == ["the", "cat"]
    assert isinstance(data.source_tokenizer, WordTokenizer)


def test_malformed_corpora():
    with pytest.raises(ValueError, match="equally many"):
        Corpus([[4]], [], ["a"], [["x"]])
    with pytest.raises(ValueError, match="sentence 0 needs one reference"):
        Corpus([[4]], [[]], ["a"], [[]])
    with pytest.raises(ValueError, match="same length"):
        ParallelText(["a"], [])
