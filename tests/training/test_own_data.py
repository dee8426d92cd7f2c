"""Data sets of the user's own: read, tokenised, recorded by what they give, refused with a sentence."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from softbellman import load_run
from softbellman.core.files import digest
from softbellman.core.objects import UserCodeError
from softbellman.data import DataError
from softbellman.training import run
from softbellman.training.record import RunRecord
from softbellman.training.resumption import ResumeError
from softbellman.training.settings import DataSettings, Settings
from softbellman.training.task import load_task

SOURCE = '''
WORDS = "a b c d e f g h".split()


def turned(split):
    """A source and the same words the other way round."""
    count, start = {"train": (120, 0), "val": (12, 500), "test": (8, 700)}[split]
    for number in range(start, start + count):
        words = [WORDS[number // 8**place % 8] for place in range(2 + number % 3)]
        yield " ".join(words), [" ".join(reversed(words)), " ".join(sorted(words))]


rows = {
    name: [{"translation": {"de": source, "en": references[0]}} for source, references in turned(name)]
    for name in ("train", "val", "test")
}
flat = {name: [row["translation"] for row in rows[name]] for name in rows}


def holes(split):
    return [("", "a"), ("b", ""), ("b", ["", "c"]), ("d", "d")]


def words(split):
    return "a b c"


def numbers(split):
    return [("a", "b"), ("c", 3)]


def failing(split):
    yield "a", "b"
    raise KeyError("third")


def one_split(split):
    return {"train": [("a", "b")]}[split]


mapping = {"train": [("a", "b")], "dev": [("a", "b")]}


def every(split):
    return mapping
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "corpora.py"
    path.write_text(SOURCE)
    return path


def with_data(settings: Settings, name: str, **keys) -> Settings:
    return replace(settings, algorithm="mle", data=DataSettings(kind=name, min_frequency=1, **keys))


@pytest.mark.parametrize("name", ["turned", "rows", "flat"])
def test_a_run_reads_it_and_records_it(tiny_settings, file, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    folder = run(with_data(tiny_settings, f"./corpora.py:{name}")).folder
    record = RunRecord.read(folder)
    wanted = {"name": f"{file}:{name}", "path": str(file), "digest": digest(file.read_bytes()), "version": ""}
    assert record.objects == [wanted] and set(record.data) >= {
        "training_data",
        "test_data",
        "target_vocabulary",
    }
    file.unlink()  # translating needs the vocabularies alone
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(load_run(folder).translate(["a b"])) == 1
    with pytest.raises(ValueError, match=r"data\.kind is .*corpora\.py:.*, but there is no file"):
        run(load_run(folder).settings, resume=folder)


def test_pairs_rows_and_references_are_the_same_text(file):
    tasks = [load_task(DataSettings(kind=f"{file}:{name}", min_frequency=1)) for name in ("turned", "rows")]
    assert tasks[0].train.source_texts == tasks[1].train.source_texts
    assert [len(group) for group in tasks[0].test.reference_texts] == [2] * 8
    assert [len(group) for group in tasks[1].test.reference_texts] == [1] * 8
    assert (len(tasks[0].train), len(tasks[0].dev), len(tasks[0].test)) == (120, 12, 8)


def test_the_tokenizer_of_the_settings_is_learnt(file):
    pytest.importorskip("sentencepiece")
    settings = DataSettings(kind=f"{file}:turned", tokenizer="sentencepiece", vocabulary_size=14)
    assert len(load_task(settings).target_codec) < 20


def test_what_it_gives_decides_whether_a_run_goes_on(tiny_settings, file):
    settings = with_data(tiny_settings, f"{file}:turned")
    folder = run(settings).folder
    file.write_text(SOURCE + "\n# a comment changes no pair\n")
    run(settings, resume=folder)
    file.write_text(SOURCE.replace("reversed(words)", "sorted(words)"))
    with pytest.raises(
        ResumeError, match="the data are not those that the run was started with: training data"
    ):
        run(settings, resume=folder)


def test_a_module_of_rows_with_keys_of_ones_own(tiny_settings, monkeypatch):
    module = ModuleType("my_corpora")
    module.__version__ = "2.0"
    rows = [{"question": f"q {number}", "answers": [f"a {number}", "b"]} for number in range(30)]
    module.questions = dict.fromkeys(("train", "validation", "test"), rows)
    monkeypatch.setitem(sys.modules, "my_corpora", module)
    keys = {"source": "question", "target": "answers", "dev": "validation"}
    folder = run(with_data(tiny_settings, "my_corpora:questions", **keys)).folder
    (facts,) = json.loads((folder / "record.json").read_text())["objects"]
    assert (facts["name"], facts["version"]) == ("my_corpora:questions", "2.0")


def test_empty_sides(file):
    settings = DataSettings(kind=f"{file}:holes", min_frequency=1)
    with pytest.raises(DataError, match=r"holes, split val: pair 2 has an empty side"):
        load_task(settings)
    with pytest.raises(DataError, match=r"holes, split train: pair 1 has an empty side"):
        load_task(replace(settings, empty_lines="refuse"))


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("words", DataError, "words, split train: pairs must be iterable, got str"),
        ("numbers", DataError, r"pair 2 must be \(source text, target text or list of references\), got \('c', 3\)"),
        ("failing", UserCodeError, "failing, split train: KeyError: 'third'"),
        ("one_split", UserCodeError, "one_split, split val: KeyError: 'val'"),
        ("mapping", DataError, "split val: there is no such split, but 'train', 'dev': name them by data.train"),
        ("every", DataError, r"split train: pairs are wanted, got a mapping with 'train', 'dev': return the pairs"),
        ("WORDS", DataError, "must be a function of a split's name, or a mapping from these names, got list"),
        ("turnd", ValueError, "has no turnd; nearest: turned"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence_and_leave_no_folder(tiny_settings, file, name, kind, words):
    settings = with_data(tiny_settings, f"{file}:{name}")
    with pytest.raises(kind, match=words):
        run(settings)
    assert not Path(settings.output).exists()


def test_missing_keys_are_named(tiny_settings, file):
    settings = with_data(tiny_settings, f"{file}:rows", source="fr")
    with pytest.raises(
        DataError, match=r"pair 1 has no key 'fr', but 'de', 'en': name the keys by data\.source"
    ):
        run(settings)


def test_settings_that_do_not_belong_are_refused():
    with pytest.raises(
        ValueError, match=r"data\.kind must be builtin, .* got 'paralel'; nearest: 'parallel'"
    ):
        DataSettings(kind="paralel")
    with pytest.raises(ValueError, match=r"data\.path is given, but data\.kind is \./a\.py:pairs"):
        DataSettings(kind="./a.py:pairs", path="corpus")
