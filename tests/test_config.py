"""Settings: types, files, overrides, inheritance, presets, errors that help, and the round trip."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softbellman.config import (
    ConfigError,
    Range,
    check_ranges,
    describe,
    describe_sections,
    dump,
    flatten,
    load,
    nearest,
    to_plain,
)


@dataclass(frozen=True)
class Optimizer:
    """How weights move."""

    name: Literal["sgd", "adam"] = "adam"
    """The rule."""
    learning_rate: float = 1e-3
    """Step size at
    the start."""


@dataclass(frozen=True)
class Stage:
    name: str
    """Its name."""
    epochs: int = 3
    """How long."""
    optimizer: Optimizer = field(default_factory=Optimizer)

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise ValueError(f"epochs must not be negative, got {self.epochs}")


@dataclass(frozen=True)
class Data:
    """Where text comes from.

    More about it.
    """

    path: Path = Path("here")
    """Folder."""
    references: tuple[str, ...] = ()
    """Files."""
    split: tuple[float, float] = (0.9, 0.1)
    """Shares."""


@dataclass(frozen=True)
class Root:
    seed: int = 1
    """Seed."""
    verbose: bool = False
    """Talk."""
    note: str | None = None
    """Anything."""
    limit: int | None = None
    """Most."""
    mode: Literal["none", "off", 3] = "none"
    """How."""
    preset: Literal["plain", "fast"] = "plain"
    """Bundle."""
    sizes: list[int] = field(default_factory=lambda: [1, 2])
    """Widths."""
    data: Data = field(default_factory=Data)
    actor: Optimizer = field(default_factory=lambda: Optimizer(name="sgd", learning_rate=0.6))
    """Of the actor."""
    stages: tuple[Stage, ...] = (Stage(name="first"),)
    """In order."""


def write(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_alone() -> None:
    assert load(Root) == Root()


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("seed", "7", 7),
        ("seed", "-3", -3),
        ("seed", "1e4", 10000),
        ("seed", "20_000", 20000),
        ("verbose", "true", True),
        ("verbose", "Off", False),
        ("note", "hello: [world", "hello: [world"),
        ("note", "1e-3", "1e-3"),
        ("note", "", ""),
        ("note", "null", None),
        ("note", "none", "none"),
        ("limit", "5", 5),
        ("limit", "none", None),
        ("mode", "off", "off"),
        ("mode", "none", "none"),
        ("mode", "3", 3),
        ("sizes", "4", [4]),
        ("sizes", "4,5, 6", [4, 5, 6]),
        ("sizes", "[]", []),
        ("data.path", "a/b", Path("a/b")),
        ("data.references", "[a.en, 'b, c.en']", ("a.en", "b, c.en")),
        ("data.split", "1e-1, .9", (0.1, 0.9)),
        ("actor.learning_rate", "1e-3", 0.001),
        ("actor.learning_rate", "3", 3.0),
        ("actor.learning_rate", ".inf", math.inf),
    ],
)
def test_text_is_parsed_by_type(key: str, text: str, expected: object) -> None:
    value = load(Root, overrides=[(key, text)])
    for part in key.split("."):
        value = getattr(value, part)
    assert value == expected and type(value) is type(expected)


def test_yaml_scalars_take_the_type_of_their_field(tmp_path: Path) -> None:
    settings = load(
        Root,
        write(
            tmp_path,
            "note: 010\nmode: off\nverbose: yes\ndata: {path: 2016, references: [a, 1.10]}\n"
            "actor:\n  learning_rate: 1e-3\nlimit: ~\nactor.name: adam\n",
        ),
    )
    assert settings.note == "010" and settings.mode == "off" and settings.verbose is True
    assert settings.data == Data(path=Path("2016"), references=("a", "1.10"))
    assert settings.actor == Optimizer("adam", 0.001)
    assert settings.limit is None


def test_nested_default_instance_survives_a_partial_override() -> None:
    assert load(Root, overrides=[("actor.learning_rate", "0.5")]).actor == Optimizer("sgd", 0.5)
    assert load(Root, overrides=[("actor", "{name: adam}")]).actor == Optimizer("adam", 0.6)


def test_later_files_and_overrides_win(tmp_path: Path) -> None:
    first = write(tmp_path, "seed: 2\nactor: {learning_rate: 0.1}\n", "a.yaml")
    second = write(tmp_path, "seed: 3\nactor: {name: adam}\n", "b.yaml")
    settings = load(Root, first, second, overrides=[("seed", "4")])
    assert settings.seed == 4 and settings.actor == Optimizer("adam", 0.1)
    assert load(Root, write(tmp_path, "", "empty.yaml")) == Root()


def test_a_key_may_be_given_again_elsewhere(tmp_path: Path) -> None:
    write(tmp_path, "actor.name: adam\nactor: {learning_rate: 0.1}\n", "base.yaml")
    path = write(tmp_path, "base: base.yaml\nactor: {name: sgd}\nactor.learning_rate: 0.2\n")
    assert load(Root, path).actor == Optimizer("sgd", 0.2)
    both = [("actor", "{name: adam, learning_rate: 0.3}"), ("actor", "{name: sgd}"), ("actor.name", "adam")]
    assert load(Root, path, overrides=both).actor == Optimizer("adam", 0.3)
    with pytest.raises(ConfigError, match=r"--actor: key 'actor\.name' is given twice"):
        load(Root, overrides=[("actor", "{name: adam, name: sgd}")])


def test_base_is_relative_to_its_file_and_must_not_turn_in_a_circle(tmp_path: Path) -> None:
    write(tmp_path, "base: shared/deeper.yaml\nseed: 5\n", "top.yaml")
    write(tmp_path, "base: ../root.yaml\nseed: 6\nlimit: 7\n", "shared/deeper.yaml")
    write(tmp_path, "verbose: true\nlimit: 8\n", "root.yaml")
    settings = load(Root, tmp_path / "top.yaml")
    assert (settings.seed, settings.limit, settings.verbose) == (5, 7, True)
    write(tmp_path, "base: top.yaml\n", "root.yaml")
    with pytest.raises(ConfigError, match="leads back"):
        load(Root, tmp_path / "top.yaml")


def test_lists_of_sections(tmp_path: Path) -> None:
    path = write(tmp_path, "stages:\n- name: a\n  optimizer: {learning_rate: 1}\n- {name: b, epochs: 9}\n")
    settings = load(Root, path, overrides=[("stages.1.optimizer.name", "sgd")])
    assert settings.stages == (
        Stage("a", optimizer=Optimizer(learning_rate=1.0)),
        Stage("b", epochs=9, optimizer=Optimizer(name="sgd")),
    )


def test_presets_give_way_to_what_the_user_says(tmp_path: Path) -> None:
    presets = {"preset": {"fast": {"seed": "50", "actor.learning_rate": "9"}}}
    assert load(Root, presets=presets) == Root()
    settings = load(Root, overrides=[("preset", "fast")], presets=presets)
    assert settings.seed == 50 and settings.actor == Optimizer("sgd", 9.0)
    path = write(tmp_path, "seed: 2\npreset: fast\n")
    assert load(Root, path, presets=presets).seed == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data:\n  pth: x\n", r"run\.yaml:2: unknown key 'data.pth'; nearest: 'data.path'"),
        ("sede: 1\n", r"run\.yaml:1: unknown key 'sede'; nearest: 'seed'"),
        ("learning_rate: 1\n", "nearest: 'actor.learning_rate'"),
        ("seed: {a: 1}\n", "'seed' expects int, given a mapping"),
        ("seed: 1.5\n", "'seed' expects int, given '1.5'"),
        ("seed: true\n", "'seed' expects int, given 'true'"),
        ("seed:\n", "'seed' expects int, given nothing"),
        ("seed: '3'\n", "expects int, given '3'.*quoted"),
        ("verbose: 2\n", "'verbose' expects true or false, given '2'"),
        (
            "\nactor: {name: adm}\n",
            r":2: 'actor.name' expects one of sgd, adam, given 'adm'; nearest: 'adam'",
        ),
        ("actor: {learning_rate: fast}\n", "'actor.learning_rate' expects float, given 'fast'"),
        ("actor: 3\n", "'actor' expects section, given '3'"),
        ("limit: x\n", "'limit' expects int or null, given 'x'"),
        ("sizes: [1, x]\n", "'sizes.1' expects int, given 'x'"),
        ("data: {split: [1]}\n", "'data.split' expects list of float, float, given a list of 1 instead of 2"),
        ("stages: [{epochs: 1}]\n", "missing key 'stages.0.name'"),
        ("stages: [{name: a, epochs: -1}]\n", "stages.0.epochs must not be negative"),
        ("seed: 1\nseed: 2\n", r":2: key 'seed' is given twice"),
        ("actor.name: sgd\nactor: {name: adam}\n", r":2: key 'actor.name' is given twice"),
        ("actor:\n  name: adam\nactor.name: sgd\n", r":3: key 'actor.name' is given twice"),
        ("actor: {learning_rate: 1}\nactor: {name: adam}\n", r":2: key 'actor' is given twice"),
        ("stages: [{name: a, epochs: 1}]\nstages.0.epochs: 2\n", r":2: key 'stages.0.epochs' is given twice"),
        ("- 1\n", "expected a mapping of keys to values, given a list"),
        ("seed: [1\n", "not valid YAML"),
        ("seed: \t@\n", "not valid YAML"),
        ("seed: 1\x00\n", "not valid YAML"),
        ("base: [a, b]\n", "'base' expects the path"),
        ("base: missing.yaml\n", r"missing\.yaml: cannot read"),
    ],
)
def test_errors_name_key_file_and_what_was_given(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load(Root, write(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("dta.path", "x", "--dta.path: unknown key 'dta.path'; nearest: 'data.path'"),
        ("seed.more", "1", "unknown key 'seed.more'; nearest: 'seed'"),
        ("seed", "", "--seed: 'seed' expects int, given ''"),
        ("stages.4.name", "x", "unknown key 'stages.4.name'; expected stages.N.KEY with N below 1"),
        ("stages.0.nme", "x", "unknown key 'stages.0.nme'"),
    ],
)
def test_errors_of_overrides_name_the_option(key: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(Root, overrides=[(key, text)])


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"note: \xff\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(Root, tmp_path / "latin.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        load(Root, tmp_path)


def test_describe_reports_every_key_with_its_text() -> None:
    keys = {key.name: key for key in describe(Root)}
    assert keys["actor.learning_rate"] == ("actor.learning_rate", "float", 0.6, "Step size at the start.", "")
    assert keys["mode"].type == "one of none, off, 3"
    assert keys["limit"].type == "int or null"
    assert keys["stages.N.epochs"].default == 3
    assert keys["stages.N.name"].default is dataclasses.MISSING
    assert all(key.help for key in keys.values())
    sections = describe_sections(Root)
    assert sections["data"] == "Where text comes from." and sections["actor"] == "Of the actor."
    assert set(sections) == {"data", "actor", "stages.N", "stages.N.optimizer"}


def test_help_of_inherited_fields() -> None:
    @dataclass(frozen=True)
    class Wider(Optimizer):
        momentum: float = 0.0
        """Memory."""

    assert [key.help for key in describe(Wider)] == ["The rule.", "Step size at the start.", "Memory."]


def test_comments_do_not_change_what_is_read(tmp_path: Path) -> None:
    settings = load(Root, overrides=[("seed", "9"), ("note", "# not a comment: [")])
    text = dump(settings, comments=True)
    assert "# Seed.\nseed: 9\n" in text and "  # Step size at the start.\n" in text
    assert load(Root, write(tmp_path, text)) == settings


@settings(deadline=None)
@given(
    note=st.none() | st.text(st.characters(codec="utf-8", exclude_categories=("Cs",))),
    references=st.lists(st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)))),
    rate=st.floats(allow_nan=False),
    sizes=st.lists(st.integers()),
    epochs=st.integers(0, 10),
    mode=st.sampled_from(["none", "off", 3]),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, note: str | None, references: list[str], rate: float,
    sizes: list[int], epochs: int, mode: Literal["none", "off", 3],
) -> None:  # fmt: skip
    given_settings = Root(
        note=note,
        sizes=sizes,
        mode=mode,
        data=Data(references=tuple(references)),
        actor=Optimizer(learning_rate=rate),
        stages=(Stage("null", epochs), Stage("", 1)),
    )
    assert load(Root, write(tmp_path_factory.getbasetemp(), dump(given_settings))) == given_settings


def test_to_plain_holds_only_plain_values() -> None:
    plain = to_plain(Root())
    assert plain["data"] == {"path": "here", "references": [], "split": [0.9, 0.1]}
    assert plain["stages"][0]["optimizer"] == {"name": "adam", "learning_rate": 1e-3}


@dataclass(frozen=True)
class Limited:
    rate: Annotated[float, Range(above=0)] = 1.0
    tau: Annotated[float, Range(least=1e-30, most=1e30, or_zero=True)] = 0.1
    clip: Annotated[float, Range(above=0, or_infinite=True)] = 5.0
    share: Annotated[float, Range(least=0, below=1)] = 0.5
    seed: Annotated[int, Range(least=0, most=2**63 - 1)] = 1
    free: float = 0.0


@dataclass(frozen=True)
class Outer:
    inner: Limited = field(default_factory=Limited)


@pytest.mark.parametrize(
    ("key", "text", "range"),
    [
        ("rate", "0", "above 0"),
        ("rate", "-1e-9", "above 0"),
        ("rate", ".inf", "above 0"),
        ("rate", ".nan", "above 0"),
        ("tau", "1e-31", "0 or from 1e-30 to 1e+30"),
        ("tau", "-1", "0 or from 1e-30 to 1e+30"),
        ("clip", "0", "above 0 or infinite"),
        ("share", "1", "at least 0 and below 1"),
        ("seed", "-5", "from 0 to 2**63 - 1"),
        ("seed", str(2**63), "from 0 to 2**63 - 1"),
        ("free", "nan", "a number"),
    ],
)
def test_numbers_out_of_range_are_refused_where_they_are_read_and_used(
    tmp_path: Path, key: str, text: str, range: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"--inner.{key}: 'inner.{key}' must be {range}, given ")):
        load(Outer, overrides=[(f"inner.{key}", text)])
    with pytest.raises(ConfigError, match=r"run\.yaml:2: 'inner"):
        load(Outer, write(tmp_path, f"inner:\n  {key}: {text}\n"))
    value = int(text) if key == "seed" else float(text.removeprefix("."))
    with pytest.raises(ConfigError, match=re.escape(f"'inner.{key}' must be {range}, given ")):
        check_ranges(Outer(Limited(**{key: value})))


def test_numbers_in_range_pass() -> None:
    given = [
        ("rate", "1e-9"),
        ("tau", "0"),
        ("tau", "1e-30"),
        ("clip", ".inf"),
        ("share", "0"),
        ("free", "-.inf"),
    ]
    for key, text in given:
        check_ranges(load(Outer, overrides=[(f"inner.{key}", text)]))
    assert {key.name: key.range for key in describe(Outer)}["inner.clip"] == "above 0 or infinite"
    assert flatten(Outer())["inner.tau"] == 0.1


def test_nearest_prefers_the_last_part() -> None:
    assert nearest("lr_decay", ["actor.rate", "joint.decay", "seed"]) == "joint.decay"
    assert nearest("x", []) is None
