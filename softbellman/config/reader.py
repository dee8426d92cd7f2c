"""From YAML files and dotted overrides to an instance of a settings class."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import yaml

from softbellman.config.ranges import check_value
from softbellman.config.schema import (
    describe,
    element_section_of,
    fields,
    is_options,
    is_settings,
    members,
    nearest,
    section_of,
    type_words,
)
from softbellman.config.text import (
    LONGEST_SHOWN,
    ConfigError,
    Mismatch,
    free_value,
    mapping_node,
    option_node,
    origin,
    parse_choice,
    parse_file,
    parse_scalar,
    plain_text,
    shortened,
    show,
    structured,
)

Settings = TypeVar("Settings")
Overrides = Iterable[tuple[str, str]]


def load(
    cls: type[Settings],
    *files: str | Path,
    overrides: Overrides = (),
    presets: Mapping[str, Mapping[str, Mapping[str, str]]] | None = None,
    left_out: dict[str, str] | None = None,
) -> Settings:
    """Builds an instance of the dataclass `cls` from its defaults, the files in order, then the overrides.

    A class may say which keys a choice leaves unread: `unread = {"model.kind": function}`, a `ClassVar`, the function
    being called with the choice. Of these, keys of files before the one that made the choice are left out. So a file
    can serve as the base of another choice. Keys beside the choice, or after it, are for the class to refuse.

    Args:
        files: YAML files; a later one wins key by key. A list is replaced whole.
        overrides: pairs of a dotted key and its text, as typed on a command line. An element of a list of
            sections is reached by its position: `stages.0.epochs`.
        presets: for a top-level key of choices, the overrides each choice stands for:
            {key: {choice: {key: text}}}. They come before the files, so what the user says beside wins.
        left_out: gets the keys that were left out, each with the key of the choice.

    Raises:
        ConfigError: an unreadable file, an unknown key or choice (naming the nearest known one), a key that one file
            gives twice, dotted, nested or both, a value of the wrong type, a missing key, or a ValueError of the
            class's own `__post_init__`.
    """
    overrides = list(overrides)
    root: type = cls
    reader = _read(root, files, overrides)
    for key, choices in (presets or {}).items():
        choice = reader.values.get(key, fields(root)[key].make_default())
        meaning = list(choices.get(str(choice), {}).items())
        reader = _read(root, files, overrides, first=meaning)
    found = reader.leave_out()
    if left_out is not None:
        left_out.update(found)
    return cast(Settings, _build(root, dataclasses.MISSING, reader.values, ""))


def from_mapping(cls: type[Settings], values: Mapping[str, Any], name: str) -> Settings:
    """Builds an instance of the dataclass `cls` from its defaults and a mapping, such as a key of the user's own holds.

    Args:
        values: nested mappings, lists and scalars; a key may be dotted.
        name: what holds them, for error sentences.

    Raises:
        ConfigError: as `load`.
    """
    root: type = cls
    reader = _Reader(root)
    reader.assign_mapping(root, reader.values, mapping_node(values, f"--{name}"), "")
    return cast(Settings, _build(root, dataclasses.MISSING, reader.values, f"{name}."))


def _read(cls: type, files: Iterable[str | Path], overrides: Overrides, *, first: Overrides = ()) -> _Reader:
    reader = _Reader(cls)
    for key, text in first:
        reader.override(key, text)
    for file in files:
        reader.read_file(Path(file), seen=())
    reader.layer += 1
    for key, text in overrides:
        reader.override(key, text)
    return reader


class _Partial(dict[str, Any]):
    """What the files and overrides said so far about one section."""


class _Reader:
    def __init__(self, root: type) -> None:
        self.root = root
        self.values = _Partial()
        self.layer = 0
        """Counts the files, the overrides being the last."""
        self.given: dict[str, int] = {}
        """The layer that gave a key last."""
        self.written: set[str] = set()
        """The full dotted keys of the mappings of one file, or of one override."""

    def leave_out(self) -> dict[str, str]:
        """Forget the keys that a choice of a later layer leaves unread; returns them with the key of the choice."""
        found = {}
        for choice, unread in getattr(self.root, "unread", {}).items():
            chosen = self.given.get(choice, -1)
            for key in unread(_at(self.values, choice)) if chosen >= 0 else ():
                if self.given.get(key, chosen) < chosen:
                    section, _, name = key.rpartition(".")
                    del (_at(self.values, section) if section else self.values)[name]
                    found[key] = choice
        return found

    def read_file(self, path: Path, *, seen: tuple[Path, ...]) -> None:
        if path.resolve() in seen:
            raise ConfigError(f"{path}: 'base' leads back to this file")
        node = parse_file(path)
        if node is None:
            return
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}: expected a mapping of keys to values, given {show(node)}")
        for key, value in node.value:
            if key.value == "base" and "base" not in fields(self.root):
                if not isinstance(value, yaml.ScalarNode):
                    raise ConfigError(f"{origin(value)}: 'base' expects the path of one file")
                self.read_file(path.parent / value.value, seen=(*seen, path.resolve()))
        self.layer += 1
        self.written.clear()
        self.assign_mapping(self.root, self.values, node, "")

    def override(self, key: str, text: str) -> None:
        """Sets a key to the text of an option, which may give again what files and other options gave."""
        self.written.clear()
        self.assign(self.root, self.values, key.split("."), option_node(text, f"--{key}"), "")

    def entries(self, node: yaml.MappingNode, prefix: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """Names, keys and values of a mapping; raises ConfigError of a key that is given twice, dotted or nested."""
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else show(key)
            if prefix + name in self.written:
                raise ConfigError(f"{origin(key)}: key {shortened(prefix + name)} is given twice")
            self.written.add(prefix + name)
            yield name, key, value

    def assign_mapping(self, cls: type, values: _Partial, node: yaml.MappingNode, prefix: str) -> None:
        for name, key, value in self.entries(node, prefix):
            if not prefix and name == "base" and "base" not in fields(cls):
                continue
            self.assign(cls, values, name.split("."), value, prefix, at=key)

    def assign(
        self,
        cls: type,
        values: _Partial,
        path: list[str],
        node: yaml.Node,
        prefix: str,
        at: yaml.Node | None = None,
    ) -> None:
        """Sets the key at `path` below the section `cls`; `at` is where the key itself was written."""
        name, rest, at = path[0], path[1:], at or node
        key = prefix + name
        field = fields(cls).get(name)
        if field is None:
            self.unknown(".".join([key, *rest]), at)
        section, element = section_of(field.type), element_section_of(field.type)
        if section is not None and not rest:
            node = structured(node)
        if section is not None and (rest or isinstance(node, yaml.MappingNode)):
            inner = values.get(name)
            if not isinstance(inner, _Partial):
                inner = values[name] = _Partial()
            if rest:
                self.assign(section, inner, rest, node, f"{key}.", at)
            else:
                self.assign_mapping(section, inner, cast(yaml.MappingNode, node), f"{key}.")
        elif rest and element is not None:
            items = values.get(name, field.make_default())
            values[name] = self.assign_element(element, items, rest, node, f"{key}.", at)
        elif rest and is_options(field.type):
            values[name] = {**values.get(name, field.make_default()), ".".join(rest): free_value(node)}
            self.given[key] = self.layer
        elif rest:
            self.unknown(".".join([key, *rest]), at)
        else:
            value = self.convert(field.type, node, key)
            try:
                check_value(key, field.range, value)
            except ConfigError as error:
                raise ConfigError(f"{origin(node)}: {error}") from None
            values[name] = value
            self.given[key] = self.layer

    def assign_element(
        self, cls: type, items: Any, path: list[str], node: yaml.Node, prefix: str, at: yaml.Node
    ) -> Any:
        """Changes one key of one element of a list of sections: path = [position, key, ...]."""
        if not path[0].isdigit() or int(path[0]) >= len(items) or len(path) < 2:
            key, expected = prefix + ".".join(path), f"{prefix}N.KEY with N below {len(items)}"
            raise ConfigError(f"{origin(at)}: unknown key {key!r}; expected {expected}")
        index, change = int(path[0]), _Partial()
        self.assign(cls, change, path[1:], node, f"{prefix}{index}.", at)
        changed = list(items)
        changed[index] = _build(cls, items[index], change, f"{prefix}{index}.")
        return type(items)(changed)

    def unknown(self, key: str, node: yaml.Node) -> typing.NoReturn:
        guess = nearest(key[:LONGEST_SHOWN], [known.name for known in describe(self.root)])
        hint = f"; nearest: {guess!r}" if guess else ""
        raise ConfigError(f"{origin(node)}: unknown key {shortened(key)}{hint}")

    def convert(self, annotation: Any, node: yaml.Node, key: str) -> Any:
        """The value of one key; ConfigError with key, expected type and given value where it does not fit."""
        try:
            return self.parse(annotation, node, key)
        except Mismatch as mismatch:
            message = f"{key!r} expects {type_words(annotation)}, given {show(node)}{mismatch}"
            raise ConfigError(f"{origin(node)}: {message}") from None

    def parse(self, annotation: Any, node: yaml.Node, key: str) -> Any:
        alternatives = members(annotation)
        if len(alternatives) > 1:
            return self.parse_union(alternatives, node, key)
        if dataclasses.is_dataclass(annotation):
            node, values = structured(node), _Partial()
            if not isinstance(node, yaml.MappingNode):
                raise Mismatch()
            section = cast(type, annotation)
            self.assign_mapping(section, values, node, f"{key}.")
            return _build(section, dataclasses.MISSING, values, f"{key}.")
        if typing.get_origin(annotation) in (tuple, list):
            return self.parse_list(annotation, node, key)
        if is_options(annotation):
            node = structured(node)
            if not isinstance(node, yaml.MappingNode):
                raise Mismatch()
            return {name: free_value(value) for name, _, value in self.entries(node, f"{key}.")}
        if not isinstance(node, yaml.ScalarNode):
            raise Mismatch()
        if typing.get_origin(annotation) is Literal:
            return parse_choice(typing.get_args(annotation), node)
        return parse_scalar(annotation, node)

    def parse_union(self, alternatives: tuple[Any, ...], node: yaml.Node, key: str) -> Any:
        reason = ""
        # None first: a bare `null` means nothing, even where text is allowed.
        for member in sorted(alternatives, key=lambda member: member is not type(None)):
            try:
                return self.parse(member, node, key)
            except Mismatch as mismatch:
                reason = str(mismatch) or reason
        if plain_text(node) in ("none", "None") and type(None) in alternatives:
            return None
        raise Mismatch(reason)

    def parse_list(self, annotation: Any, node: yaml.Node, key: str) -> Any:
        node = structured(node, as_list=True)
        if not isinstance(node, yaml.SequenceNode):
            raise Mismatch()
        kind: Any = typing.get_origin(annotation)
        types = typing.get_args(annotation)
        if kind is list or Ellipsis in types:
            types = (types[0],) * len(node.value)
        if len(types) != len(node.value):
            raise Mismatch(f" of {len(node.value)} instead of {len(types)}")
        items = enumerate(zip(types, node.value, strict=True))
        converted = [self.convert(each, item, f"{key}.{index}") for index, (each, item) in items]
        return converted if kind is list else tuple(converted)


def _at(values: Any, key: str) -> Any:
    """What a dotted key holds."""
    for part in key.split("."):
        values = values[part]
    return values


def _build(cls: type, default: Any, values: _Partial, prefix: str) -> Any:
    """An instance of `cls`: the given values, else those of `default`, else those of the class."""
    arguments: dict[str, Any] = {}
    for name, field in fields(cls).items():
        fallback = getattr(default, name) if is_settings(default) else field.make_default()
        value = values.get(name, fallback)
        section = section_of(field.type)
        if section is not None and (isinstance(value, _Partial) or value is dataclasses.MISSING):
            partial = value if isinstance(value, _Partial) else _Partial()
            value = _build(section, fallback, partial, f"{prefix}{name}.")
        if value is dataclasses.MISSING:
            raise ConfigError(f"missing key {prefix + name!r} ({type_words(field.type)}): {field.help}")
        arguments[name] = value
    try:
        return cls(**arguments)
    except ConfigError:
        raise
    except ValueError as error:
        text = str(error)
        raise ConfigError(text if text.startswith(prefix) else f"{prefix}{text}") from None
