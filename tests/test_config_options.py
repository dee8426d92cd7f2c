"""Settings that hold keys of the user's own."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from softbellman.config import ConfigError, describe, dump, flatten, load


def write(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@dataclass(frozen=True)
class Inner:
    options: dict[str, Any] = field(default_factory=dict)
    """Of your own."""
    size: int = 3
    """A size."""


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)


class TestOptions:
    def test_files_overrides_and_back(self, tmp_path):
        file = write(
            tmp_path,
            "inner:\n  options: {width: 32, rate: 1e-3, name: 'on', deep: [1, x], more: {a: true}, none: null}\n",
            "a.yaml",
        )
        first = load(Outer, file)
        wanted = {
            "width": 32,
            "rate": 1e-3,
            "name": "on",
            "deep": [1, "x"],
            "more": {"a": True},
            "none": None,
        }
        assert first.inner.options == wanted
        changed = load(Outer, file, overrides=[("inner.options.width", "64"), ("inner.options.new", "yes")])
        assert changed.inner.options == {**wanted, "width": 64, "new": "yes"}
        assert first.inner.options == wanted
        replaced = load(Outer, file, overrides=[("inner.options", "{only: 2.5}")])
        assert replaced.inner.options == {"only": 2.5}
        again = write(tmp_path, dump(changed), "b.yaml")
        assert load(Outer, again) == changed

    def test_a_key_of_theirs_is_given_once(self, tmp_path):
        for text in (
            "inner: {options: {a: 1}}\ninner.options.a: 2\n",
            "inner.options.a: 1\ninner.options: {a: 2}\n",
            "inner.options: {b: 1, a: 1, a: 2}\n",
        ):
            with pytest.raises(ConfigError, match=r"key 'inner\.options\.a' is given twice"):
                load(Outer, write(tmp_path, text, "a.yaml"))
        file = write(tmp_path, "inner: {options: {a: 1}}\ninner.options.b: 2\n", "a.yaml")
        assert load(Outer, file).inner.options == {"a": 1, "b": 2}

    def test_they_are_one_value_of_a_record(self):
        settings = Outer(Inner({"a": {"b": 1}}))
        assert flatten(settings) == {"inner.options": {"a": {"b": 1}}, "inner.size": 3}
        endless = Outer(Inner({"a": [float("inf")], "b": float("-inf")}))
        assert flatten(endless)["inner.options"] == {"a": [".inf"], "b": "-.inf"}
        assert flatten(Outer()) == {"inner.options": {}, "inner.size": 3}
        assert dataclasses.asdict(settings)["inner"]["options"] == {"a": {"b": 1}}

    def test_their_type_in_words(self):
        key = describe(Outer)[0]
        assert (key.name, key.type) == ("inner.options", "mapping of keys to values")
        with pytest.raises(ConfigError, match="expects mapping of keys to values, given '3'"):
            load(Outer, overrides=[("inner.options", "3")])
        with pytest.raises(ConfigError, match=r"unknown key 'inner\.size\.x'"):
            load(Outer, overrides=[("inner.size.x", "3")])
