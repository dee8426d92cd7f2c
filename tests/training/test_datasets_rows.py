"""Data sets of Hugging Face `datasets`: forms of rows by a stand-in, the package itself where it is installed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from softbellman import config
from softbellman.data import DataError
from softbellman.training import run
from softbellman.training.settings import DataSettings, Settings
from softbellman.training.task import Task, load_task

DOCS = Path(__file__).parents[2] / "docs" / "extending.md"


class Rows:
    """What the reader sees of `datasets.Dataset`: no mapping, no sequence, rows as new dictionaries."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | str) -> Any:
        return [row[key] for row in self.rows] if isinstance(key, str) else dict(self.rows[key])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(row) for row in self.rows)


class Splits(dict[str, Rows]):
    """What the reader sees of `datasets.DatasetDict`."""


def splits_of(rows: list[dict[str, Any]]) -> Splits:
    return Splits({name: Rows(rows) for name in ("train", "val", "test")})


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made = ModuleType("my_rows")
    monkeypatch.setitem(sys.modules, "my_rows", made)
    return made


def read(module: ModuleType, value: Any, **keys: str) -> Task:
    module.value = value  # type: ignore[attr-defined]
    return load_task(DataSettings(kind="my_rows:value", min_frequency=1, **keys))


FORMS: dict[str, list[dict[str, Any]]] = {
    "columns": [{"id": 1, "de": "ein haus", "en": "a house"}] * 9,
    "translation": [{"id": "1", "translation": {"de": "ein haus", "en": "a house", "fr": "une maison"}}] * 9,
    "references": [{"de": "ein haus", "en": ["a house", "one house"]}] * 9,
    "numpy": [{"de": np.str_("ein haus"), "en": np.array(["a house", "one house"], dtype=object)}] * 9,
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_rows(module: ModuleType, form: str) -> None:
    task = read(module, splits_of(FORMS[form]))
    assert task.test.source_texts[0] == "ein haus"
    wanted = ["a house", "one house"] if form in ("references", "numpy") else ["a house"]
    assert list(task.test.reference_texts[0]) == wanted and len(task.train) == 9


def test_a_stream_is_iterated_once(module: ModuleType) -> None:
    begun = []

    def streamed(split: str) -> Iterator[dict[str, Any]]:
        begun.append(split)
        yield from FORMS["columns"]

    assert len(read(module, streamed, dev="validation[:9]").dev) == 9
    assert begun == ["train", "validation[:9]", "test"]


def test_a_null_is_an_empty_side(module: ModuleType) -> None:
    rows = [{"de": None, "en": "a"}, {"de": "b", "en": None}, *FORMS["columns"]]
    splits = Splits(train=Rows(rows), val=Rows(FORMS["columns"]), test=Rows(FORMS["columns"]))
    assert len(read(module, splits).train) == 9
    with pytest.raises(DataError, match="split train: pair 1 has an empty side"):
        read(module, splits, empty_lines="refuse")


def test_a_single_split_and_tables_are_refused_by_a_sentence(module: ModuleType) -> None:
    with pytest.raises(DataError, match=r"must be a function of a split's name, or a mapping .* got Rows"):
        read(module, Rows(FORMS["columns"]))
    with pytest.raises(
        DataError, match=r"split val: there is no such split, but 'train': name them by data\.train"
    ):
        read(module, Splits(train=Rows(FORMS["columns"])))


def forms_of(datasets: Any) -> dict[str, Any]:
    """Splits in every form that the package has."""

    def each(made: Any) -> dict[str, Any]:
        return {name: made for name in ("train", "val", "test")}

    flat = datasets.Dataset.from_list(FORMS["columns"])
    features = datasets.Features(
        {"id": datasets.Value("string"), "translation": datasets.Translation(languages=("de", "en", "fr"))}
    )
    return {
        "flat": datasets.DatasetDict(each(flat)),
        "feature": datasets.DatasetDict(
            each(datasets.Dataset.from_list(FORMS["translation"], features=features))
        ),
        "references": datasets.DatasetDict(each(datasets.Dataset.from_list(FORMS["references"]))),
        "numpy": datasets.DatasetDict(
            each(datasets.Dataset.from_list(FORMS["references"]).with_format("numpy"))
        ),
        "generated": datasets.IterableDatasetDict(
            each(datasets.IterableDataset.from_generator(lambda: iter(FORMS["columns"])))
        ),
        "sharded": datasets.IterableDatasetDict(each(flat.to_iterable_dataset(num_shards=3))),
        "transformed": datasets.DatasetDict(each(flat.with_transform(lambda batch: batch))),
        "columns": each([*zip(flat["de"], flat["en"], strict=True)]),
    }


@pytest.mark.parametrize(
    "form", ["flat", "feature", "references", "numpy", "generated", "sharded", "transformed", "columns"]
)
def test_data_sets_of_the_package(module: ModuleType, form: str) -> None:
    datasets = pytest.importorskip("datasets")
    task = read(module, forms_of(datasets)[form])
    assert task.test.source_texts[8] == "ein haus" and task.test.reference_texts[0][0] == "a house"
    assert (len(task.train), len(task.dev), len(task.test)) == (9, 9, 9)


def test_tables_of_the_package_are_refused(module: ModuleType) -> None:
    datasets = pytest.importorskip("datasets")
    for name in ("arrow", "pandas"):
        table = datasets.Dataset.from_list(FORMS["columns"]).with_format(name)
        with pytest.raises(DataError, match="pair 1 must be"):
            read(module, splits_of([]) | {"train": table})


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="datasets is not installed")
@pytest.mark.parametrize("number", [0, 1])
def test_the_file_of_the_documentation(
    number: int, tiny_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = DOCS.read_text(encoding="utf-8").partition("<!-- file: my_translations.py -->")[2]
    (tmp_path / "my_translations.py").write_text(page.partition("```python")[2].partition("```")[0])
    monkeypatch.chdir(tmp_path)
    commands = [line.split() for line in page.splitlines() if line.startswith("    softbellman-train ")]
    words = [word.removeprefix("--") for word in commands[number][1:]]
    given = {**dict(zip(words[::2], words[1::2], strict=True)), "data.min_frequency": "1"}
    data = config.load(Settings, overrides=given.items()).data
    assert data.kind == f"./my_translations.py:{('splits', 'streamed')[number]}"
    assert (run(replace(tiny_settings, algorithm="mle", data=data)).folder / "config.yaml").is_file()
