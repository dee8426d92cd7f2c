"""From an instance of a settings class to YAML text and to plain values."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from softbellman.config.schema import fields, is_settings

_WIDTH = 100


def dump(settings: Any, *, comments: bool = False) -> str:
    """The YAML text of a settings instance; `load` of that text gives an equal instance.

    Args:
        comments: write the help of every key above it.
    """
    return "\n".join(_lines(settings, "", comments)) + "\n"


def to_plain(value: Any) -> Any:
    """Settings as dictionaries, lists and scalars only, for hashing and for JSON."""
    if is_settings(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: to_plain(item) for name, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def flatten(settings: Any) -> dict[str, Any]:
    """Settings as values of JSON by dotted key, infinity as YAML spells it; the options of the user's own are one value."""
    flat: dict[str, Any] = {}

    def add(prefix: str, section: Any) -> None:
        for field in dataclasses.fields(section):
            value = getattr(section, field.name)
            if is_settings(value):
                add(f"{prefix}{field.name}.", value)
            else:
                flat[prefix + field.name] = _finite(to_plain(value))

    add("", settings)
    return flat


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return _inline(value)
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return {name: _finite(item) for name, item in value.items()} if isinstance(value, dict) else value


def _lines(settings: Any, indent: str, comments: bool) -> Iterator[str]:
    cls: type = type(settings)
    for name, field in fields(cls).items():
        value = getattr(settings, name)
        if comments and field.help:
            margin = f"{indent}# "
            yield from textwrap.wrap(field.help, _WIDTH, initial_indent=margin, subsequent_indent=margin)
        if is_settings(value):
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ", comments)
        elif isinstance(value, (tuple, list)) and value and all(map(is_settings, value)):
            yield f"{indent}{name}:"
            for item in value:
                first, *others = _lines(item, indent + "    ", False)
                yield f"{indent}  - {first.strip()}"
                yield from others
        else:
            yield f"{indent}{name}: {_inline(to_plain(value))}"


def _inline(value: Any) -> str:
    """A scalar or a list of scalars on one line, quoted or escaped where YAML needs it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_inline(key)}: {_inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    escape = isinstance(value, str) and not value.isprintable()
    text: str = yaml.safe_dump(
        [value],
        default_flow_style=True,
        default_style='"' if escape else None,
        allow_unicode=not escape,
        width=10**9,
    )
    return text.strip()[1:-1]
