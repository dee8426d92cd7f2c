"""Tokenisers of transformers: ids as they give them, reserved ids, what stands around sentences, saved and read again."""

from __future__ import annotations

import pytest
from pretrained_folders import EVERY, corpus_lines, transformers, write_bart, write_marian, write_t5

from softbellman.data import Codec, DataError, HuggingFaceTokenizer, MissingFileError, Vocabulary


@pytest.mark.parametrize("name", EVERY)
def test_ids_are_the_tokenisers_own(name, tmp_path) -> None:
    folder = EVERY[name](tmp_path)
    own = transformers.AutoTokenizer.from_pretrained(str(folder))
    source, target = (HuggingFaceTokenizer.load(folder, side=side) for side in ("source", "target"))
    for line in corpus_lines()[:30]:
        words = source.vocabulary.encode(source.tokenize(line))
        assert source.vocabulary.frame.around(words) == own(line)["input_ids"]
        codec = Codec(target.vocabulary, target)
        ids = codec.encode(line)
        start = [*target.lead, codec.special.bos][1:]  # what a tokeniser puts before a target
        assert [*start, *ids, codec.special.eos] == own(text_target=line)["input_ids"]
        assert codec.decode([*ids, codec.special.eos, 5]) == own.decode(ids).strip()


def test_reserved_ids(tmp_path) -> None:
    marian = HuggingFaceTokenizer.load(write_marian(tmp_path / "marian"), side="target")
    special = marian.vocabulary.special
    assert (special.bos, special.eos, special.unknown) == (special.pad, 0, 1)
    assert special.pad == len(marian.vocabulary) - 1 and marian.lead == ()
    bart = HuggingFaceTokenizer.load(write_bart(tmp_path / "bart"), side="target")
    assert bart.vocabulary.special.never == (0, 1, 3, 4)  # <s>, <pad>, <unk>, <mask>
    assert (bart.vocabulary.special.bos, bart.lead, bart.vocabulary.frame.before) == (0, (2,), (0,))
    t5 = HuggingFaceTokenizer.load(write_t5(tmp_path / "t5"), side="target")
    size = len(t5.vocabulary)
    assert t5.vocabulary.special.others == tuple(
        range(size - 5, size)
    )  # rows of the embedding without a token


def test_text_that_spells_a_reserved_token_is_unknown(tmp_path) -> None:
    tokenizer = HuggingFaceTokenizer.load(write_t5(tmp_path), side="source")
    word = corpus_lines()[0].split()[0]
    ids = tokenizer.vocabulary.encode(tokenizer.tokenize(f"{word} </s> {word} nosuchword"))
    assert ids[1] == ids[3] == tokenizer.vocabulary.special.unknown and ids[0] == ids[2] > 2


@pytest.mark.parametrize("name", EVERY)
def test_a_codec_is_read_as_it_was_written(name, tmp_path) -> None:
    tokenizer = HuggingFaceTokenizer.load(EVERY[name](tmp_path / "model"), side="target")
    codec = Codec(tokenizer.vocabulary, tokenizer)
    (tmp_path / "run").mkdir()
    codec.save(tmp_path / "run", "target")
    again = Codec.load(tmp_path / "run", "target")
    assert (
        again.vocabulary
        == codec.vocabulary
        == Vocabulary.from_json(tmp_path / "run" / "target.vocabulary.json")
    )
    assert again.vocabulary == again.tokenizer.vocabulary
    line = corpus_lines()[3]
    assert again.encode(line) == codec.encode(line) and again.decode(again.encode(line)) == line


def test_what_is_no_tokeniser(tmp_path) -> None:
    with pytest.raises(MissingFileError, match="does not exist"):
        HuggingFaceTokenizer.load(tmp_path / "nowhere", side="source")
    with pytest.raises(DataError, match="holds no tokenizer"):
        HuggingFaceTokenizer.load(tmp_path, side="source")


def test_a_tokeniser_needs_an_end_of_its_own(tmp_path) -> None:
    own = transformers.AutoTokenizer.from_pretrained(str(write_t5(tmp_path)))
    own.eos_token = None
    with pytest.raises(DataError, match="no eos_token_id"):
        HuggingFaceTokenizer(own, side="target")


def test_unknown_words_are_spelt_as_they_stand_in_the_text(tmp_path) -> None:
    word = corpus_lines()[0].split()[0]
    t5 = HuggingFaceTokenizer.load(write_t5(tmp_path / "t5"), side="source")
    assert t5.spell(f"{word} nosuchword  {word} </s>") == [word, "nosuchword", word, "</s>"]
    assert t5.spell(word) == t5.tokenize(word) == [word]
    marian = HuggingFaceTokenizer.load(write_marian(tmp_path / "marian"), side="source")
    line = f"{word} ☃ {word}"
    spelt, tokens = marian.spell(line), marian.tokenize(line)
    assert len(spelt) == len(tokens) and marian.tokenizer.unk_token in tokens
    assert "☃" in "".join(spelt) and marian.tokenizer.unk_token not in spelt
