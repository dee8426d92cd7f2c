"""What a settings class contains: its keys, their types in words, their defaults and their help."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import inspect
import itertools
import textwrap
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union


class Key(NamedTuple):
    """One key of a settings class as `describe` reports it."""

    name: str
    """Dotted name, such as `data.path`."""
    type: str
    """The type in words, such as `list of int`."""
    default: Any
    """The default value, or `dataclasses.MISSING` where the key must be given."""
    help: str
    """What the string under the field says."""
    range: str = ""
    """The numbers it takes, in words; empty where all are."""


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of one settings class, its annotation resolved."""

    type: Any
    help: str
    default: Any
    default_factory: Any
    range: Any = None
    """The `Range` in its annotation."""

    def make_default(self) -> Any:
        """The default, made anew where it comes from a factory; `dataclasses.MISSING` where there is none."""
        return self.default if self.default_factory is dataclasses.MISSING else self.default_factory()


def describe(cls: type, *, default: Any = dataclasses.MISSING, prefix: str = "") -> list[Key]:
    """Every key of a settings class in the order of the source, nested sections flattened to dotted names.

    A list of sections appears as itself and then with the keys of one element, `stages.N.epochs`.

    Args:
        default: the instance whose values are reported as defaults; else those of the class.
    """
    keys: list[Key] = []
    for name, field in fields(cls).items():
        value = getattr(default, name) if is_settings(default) else field.make_default()
        section, element = section_of(field.type), element_section_of(field.type)
        if section is not None:
            keys += describe(section, default=value, prefix=f"{prefix}{name}.")
            continue
        limits = "" if field.range is None else str(field.range)
        keys.append(Key(prefix + name, type_words(field.type), value, field.help, limits))
        if element is not None:
            keys += describe(element, prefix=f"{prefix}{name}.N.")
    return keys


def describe_sections(cls: type, *, prefix: str = "") -> dict[str, str]:
    """The dotted name of each nested section with its field's help, else its class's first paragraph."""
    sections: dict[str, str] = {}
    for name, field in fields(cls).items():
        section, element = section_of(field.type), element_section_of(field.type)
        nested = section or element
        if nested is not None:
            full = f"{prefix}{name}" + ("" if section else ".N")
            paragraph = inspect.cleandoc(nested.__doc__ or "").split("\n\n")[0]
            sections[full] = field.help or " ".join(paragraph.split())
            sections |= describe_sections(nested, prefix=f"{full}.")
    return sections


def within(key: str, names: Iterable[str]) -> bool:
    """Whether a dotted key is one of the names, or lies in a section that is.

    Example:
        >>> within("actor.schedule.epochs", ["actor.schedule"]), within("actor.schedules", ["actor.schedule"])
        (True, False)
    """
    return any(key == name or key.startswith(f"{name}.") for name in names)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known dotted name most like `name`, as a whole or in its last part; None where nothing is known."""

    def likeness(candidate: str) -> float:
        whole = difflib.SequenceMatcher(None, name, candidate).ratio()
        last = difflib.SequenceMatcher(None, name.rpartition(".")[2], candidate.rpartition(".")[2]).ratio()
        return max(whole, 0.8 * last)

    return max(known, key=likeness, default=None)


@functools.cache
def fields(cls: type) -> dict[str, Field]:
    """The fields of a settings class by name."""
    hints = {name: _unwrapped(hint) for name, hint in typing.get_type_hints(cls, include_extras=True).items()}
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            texts |= _field_texts(base)
    return {
        field.name: Field(
            hints[field.name][0],
            texts.get(field.name, ""),
            field.default,
            field.default_factory,
            hints[field.name][1],
        )
        for field in dataclasses.fields(cls)
        if field.init
    }


def _unwrapped(hint: Any) -> tuple[Any, Any]:
    """The type of an annotation, and what `Annotated` adds to it."""
    if typing.get_origin(hint) is not typing.Annotated:
        return hint, None
    plain, *added = typing.get_args(hint)
    return plain, added[0]


def _field_texts(cls: type) -> dict[str, str]:
    """The string literal under each annotated field of the class's own source; empty without source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        return {}
    body = typing.cast(ast.ClassDef, tree.body[0]).body
    texts: dict[str, str] = {}
    for field, below in itertools.pairwise(body):
        text = (
            below.value.value
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            else None
        )
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, str):
            texts[field.target.id] = " ".join(inspect.cleandoc(text).split())
    return texts


def is_settings(value: Any) -> bool:
    """Whether a value is an instance (not the class) of a settings dataclass."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def is_options(annotation: Any) -> bool:
    """Whether a field holds keys and values of the user's own: `dict[str, Any]`."""
    return typing.get_origin(annotation) is dict


def members(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the annotation alone."""
    is_union = typing.get_origin(annotation) in (Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def section_of(annotation: Any) -> type | None:
    """The nested settings class of a field `X` or `X | None`."""
    nested = [member for member in members(annotation) if dataclasses.is_dataclass(member)]
    return typing.cast(type, nested[0]) if nested else None


def element_section_of(annotation: Any) -> type | None:
    """The settings class of the elements of a field `tuple[X, ...]` or `list[X]`."""
    for member in members(annotation):
        if typing.get_origin(member) in (tuple, list):
            return section_of(typing.get_args(member)[0])
    return None


def type_words(annotation: Any) -> str:
    """An annotation in words: `int`, `text`, `one of a, b`, `list of float`, `path or null`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return "one of " + ", ".join(scalar_text(choice) for choice in arguments)
    if origin in (tuple, list):
        if origin is tuple and Ellipsis not in arguments:
            return "list of " + ", ".join(map(type_words, arguments))
        return f"list of {type_words(arguments[0])}"
    if is_options(annotation):
        return "mapping of keys to values"
    if len(members(annotation)) > 1:
        return " or ".join(map(type_words, members(annotation)))
    if annotation is type(None):
        return "null"
    if dataclasses.is_dataclass(annotation):
        return "section"
    return {str: "text", Path: "path", bool: "true or false"}.get(annotation) or annotation.__name__


def scalar_text(value: Any) -> str:
    """A scalar as YAML spells it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
