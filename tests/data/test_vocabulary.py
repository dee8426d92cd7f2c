import json

import pytest

from softbellman.data import BOS, EOS, PAD, SPECIAL_TOKENS, UNK, DataError, MissingFileError, Vocabulary


def test_reserved_ids_come_first():
    vocabulary = Vocabulary(["b", "a"])
    assert (PAD, UNK, BOS, EOS) == (0, 1, 2, 3)
    assert vocabulary.tokens == (*SPECIAL_TOKENS, "b", "a")
    assert len(vocabulary) == 6


def test_build_orders_by_count_then_code_point():
    sentences = [["b", "a", "c", "z"], ["a", "c", "b"], ["c", "d"]]
    vocabulary = Vocabulary.build(sentences, min_frequency=1)
    assert vocabulary.tokens[4:] == ("c", "a", "b", "d", "z")
    assert Vocabulary.build(sentences, min_frequency=2).tokens[4:] == ("c", "a", "b")
    assert Vocabulary.build(sentences[::-1], min_frequency=1) == vocabulary
    assert Vocabulary.build(sentences, min_frequency=1, max_size=6).tokens[4:] == ("c", "a")


def test_encode_and_decode():
    vocabulary = Vocabulary(["the", "dog"])
    assert vocabulary.encode(["the", "cat", "dog"]) == [4, UNK, 5]
    assert vocabulary.decode([BOS, 4, 5, EOS, 4, PAD]) == ["the", "dog"]
    assert vocabulary.decode([4, UNK, PAD]) == ["the", "<unk>"]
    assert "dog" in vocabulary and "cat" not in vocabulary and "<eos>" not in vocabulary
    assert vocabulary.unknown_rate([["the", "cat"], ["dog", "dog"]]) == 0.25


def test_text_spelt_like_a_reserved_token_is_unknown():
    vocabulary = Vocabulary.build([["<eos>", "a", "<pad>"]] * 3, min_frequency=1)
    assert vocabulary.tokens[4:] == ("a",)
    assert vocabulary.encode(["<eos>", "<bos>", "<pad>"]) == [UNK] * 3


def test_decode_refuses_unknown_ids():
    with pytest.raises(ValueError, match=r"0\.\.4, got 5"):
        Vocabulary(["a"]).decode([5])
    with pytest.raises(ValueError, match="got -1"):
        Vocabulary(["a"]).decode([-1])


def test_strings_are_not_token_lists():
    with pytest.raises(TypeError, match="tokenize"):
        Vocabulary(["a"]).encode("a a")
    with pytest.raises(TypeError, match="one string"):
        Vocabulary("abc")


@pytest.mark.parametrize("tokens", [["a", "a"], ["a", ""], ["<unk>"]])
def test_unusable_tokens(tokens):
    with pytest.raises(DataError, match=r"my\.json"):
        Vocabulary(tokens, origin="my.json")


def test_empty_vocabulary_names_the_file():
    with pytest.raises(
        DataError, match=r"train\.en: the vocabulary is empty: none of 2 distinct tokens occurs 3 times"
    ):
        Vocabulary.build([["a", "b"], ["a"]], min_frequency=3, origin="train.en")
    with pytest.raises(DataError, match=r"train\.en"):
        Vocabulary([], origin="train.en")


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="min_frequency"):
        Vocabulary.build([["a"]], min_frequency=0)
    with pytest.raises(ValueError, match="max_size"):
        Vocabulary.build([["a"]], min_frequency=1, max_size=4)


def test_json_round_trip(tmp_path):
    vocabulary = Vocabulary(["weiß", "a b", '"', "\u2028"])
    vocabulary.to_json(tmp_path / "v.json")
    assert Vocabulary.from_json(tmp_path / "v.json") == vocabulary
    assert [path.name for path in tmp_path.iterdir()] == ["v.json"]


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        "[]",
        '{"tokens": ["a"]}',
        json.dumps({"format": "softbellman-vocabulary", "version": 2, "tokens": ["a"]}),
        json.dumps({"format": "softbellman-vocabulary", "version": 1, "tokens": "abc"}),
        json.dumps({"format": "softbellman-vocabulary", "version": 1, "tokens": ["a", 3]}),
        json.dumps({"format": "softbellman-vocabulary", "version": 1, "tokens": []}),
        json.dumps({"format": "softbellman-vocabulary", "version": 1, "tokens": ["a", "a"]}),
    ],
)
def test_unusable_json_names_the_file(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"broken\.json"):
        Vocabulary.from_json(path)


def test_missing_json(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.json"):
        Vocabulary.from_json(tmp_path / "none.json")
