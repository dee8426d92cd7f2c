import io
import sys

import pytest

from softbellman.data import (
    EOS,
    SPECIAL_TOKENS,
    UNK,
    Codec,
    DataError,
    MissingFileError,
    ParallelText,
    SentencePieceTokenizer,
    Vocabulary,
    WordTokenizer,
    build_dataset,
    build_vocabulary,
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


@pytest.fixture(scope="module")
def subwords(lines):
    pytest.importorskip("sentencepiece", reason="the extra [text] is not installed")
    return SentencePieceTokenizer.train(lines, vocabulary_size=200)


def test_the_pieces_of_a_model_are_its_vocabulary(lines, subwords):
    """Whatever the frequencies: no text of the model's characters has an unknown piece."""
    assert len(subwords.pieces) == 200 - 3 == len(set(subwords.pieces))  # without <unk>, <s>, </s>
    text = ParallelText(lines[:20], [[line] for line in lines[:20]])
    data = build_dataset(
        text, text, text, min_frequency=50, source_tokenizer=subwords, target_tokenizer=subwords
    )
    for vocabulary in (data.source_vocabulary, data.target_vocabulary):
        assert vocabulary.tokens == (*SPECIAL_TOKENS, *subwords.pieces)
        codec = Codec(vocabulary, subwords)
        for line in lines:
            ids = codec.encode(line)
            assert min(ids) > EOS and codec.decode(ids) == line
    assert data.train.sources[0] == Codec(data.source_vocabulary, subwords).encode(lines[0])
    assert UNK in codec.encode("§")


def test_a_word_that_is_spelt_like_a_reserved_one_is_unknown(subwords):
    vocabulary = build_vocabulary(subwords, [])
    assert not {"<unk>", "<s>", "</s>", "<bos>", "<eos>"} & {*vocabulary.tokens[4:]}
    assert "<bos>" not in vocabulary


def test_what_a_model_spells_is_one_line(lines):
    sentencepiece = pytest.importorskip("sentencepiece", reason="the extra [text] is not installed")
    writer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(lines), model_writer=writer, vocab_size=500, byte_fallback=True, minloglevel=2,
        user_defined_symbols=["<eos>", "<odd>"], hard_vocab_limit=False,
    )  # fmt: skip
    tokenizer = SentencePieceTokenizer(writer.getvalue())
    assert "<0x0A>" in tokenizer.pieces and "<odd>" in tokenizer.pieces and "<eos>" not in tokenizer.pieces
    codec = Codec(Vocabulary(tokenizer.pieces), tokenizer)
    ids = codec.vocabulary.encode(["\u2581a", "<0x0A>", "\u2581b", "<0x0D>"])
    assert UNK not in ids and tokenizer.detokenize(codec.vocabulary.decode(ids)) == "a\n b\r"
    assert codec.decode(ids) == "a  b "


def test_a_line_of_which_a_model_makes_nothing_is_no_pair(lines, subwords):
    assert subwords.tokenize("\u200b") == []
    text = ParallelText([*lines[:3], lines[3], "\u200b"], [["a"], ["\u200b"], ["b", "\u200b"], ["c"], ["d"]])
    options = {"min_frequency": 1, "source_tokenizer": subwords, "target_tokenizer": subwords}
    data = build_dataset(text, text, text, **options)
    assert data.train.source_texts == [lines[0], lines[2], lines[3]]
    assert str(data.left_out) == "3 empty" and len(data.test) == 5
    with pytest.raises(DataError, match=r"the given sources: a side of the pair .* holds no token"):
        build_dataset(text, text, text, empty_lines="refuse", **options)
