"""From the data settings to a task: sub-words, empty lines, what is said of both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from softbellman.data import SPECIAL_TOKENS, UNK, DataError, SentencePieceTokenizer, generate_builtin
from softbellman.training.settings import DataSettings
from softbellman.training.task import load_task

SUBWORDS = DataSettings(
    tokenizer="sentencepiece", vocabulary_size=900, pairs=600, dev_pairs=10, test_pairs=80, max_length=1000
)


def write_files(folder: Path) -> DataSettings:
    splits = generate_builtin(pairs=600, dev_pairs=10, test_pairs=80)
    for name, file in (("train", "train"), ("dev", "val"), ("test", "test")):
        splits[name].write(folder, file, source="de", target="en")
    return replace(SUBWORDS, kind="parallel", path=str(folder))


def test_no_piece_of_a_model_is_lost(tmp_path: Path) -> None:
    """With a frequency of 3 asked of words: 900 pieces are 901 ids, and no sentence of known characters has an unknown one."""
    pytest.importorskip("sentencepiece")
    settings = write_files(tmp_path)
    assert settings.min_frequency == 3
    task = load_task(settings)
    for codec in (task.source_codec, task.target_codec):
        assert codec is not None and isinstance(codec.tokenizer, SentencePieceTokenizer)
        assert codec.vocabulary.tokens == (*SPECIAL_TOKENS, *codec.tokenizer.pieces) and len(codec) == 901
    assert not any(UNK in ids for ids in [*task.train.sources, *task.test.sources])
    assert "vocabularies 901 -> 901" in task.describe()


def test_the_builtin_corpus_as_subwords(tmp_path: Path) -> None:
    """The tokenizer of the settings is not passed over: the same as its files."""
    pytest.importorskip("sentencepiece")
    assert load_task(SUBWORDS).digest() == load_task(write_files(tmp_path)).digest()


@pytest.mark.parametrize("language", ["de", "en"])
def test_an_empty_training_line_is_left_out_and_told(tmp_path: Path, language: str) -> None:
    settings = replace(write_files(tmp_path), tokenizer="word", max_length=50)
    whole = load_task(settings)
    assert "600 training pairs, vocabularies" in whole.describe()
    path = tmp_path / f"train.{language}"
    lines = path.read_text().splitlines()
    lines[6], lines[9] = "", "  "
    path.write_text("".join(f"{line}\n" for line in lines))
    task = load_task(settings)
    assert "598 training pairs (2 empty left out), vocabularies" in task.describe()
    texts = whole.train.source_texts
    assert task.train.source_texts == texts[:6] + texts[7:9] + texts[10:]
    assert task.test.reference_texts == whole.test.reference_texts
    shorter = load_task(replace(settings, max_length=10))
    assert f"(2 empty and {598 - len(shorter.train)} longer than 10 tokens left out)" in shorter.describe()
    with pytest.raises(DataError, match=rf"train\.{language}, line 7: the line is empty"):
        load_task(replace(settings, empty_lines="refuse"))
