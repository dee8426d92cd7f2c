"""The part of `--help` that explains every key of the settings."""

from __future__ import annotations

import dataclasses
import textwrap
from typing import Any

from softbellman.cli.common import help_width
from softbellman.config import Key, describe, describe_sections, to_plain

_METAVARS = {"text": "TEXT", "path": "PATH", "int": "N", "float": "X", "true or false": "true|false"}


def explain_keys(settings_class: type) -> str:
    """Every key by section, with the values it takes, its default and what it means."""
    width, sections = help_width(), describe_sections(settings_class)
    lines: list[str] = []
    current: str | None = None
    for key in describe(settings_class):
        section = key.name.rpartition(".")[0]
        if section != current:
            current = section
            title = f"[{section}] {sections[section]}" if section else "[run] Keys of the run as a whole."
            lines += ["", *textwrap.wrap(title, width, subsequent_indent=" " * (len(section) + 3))]
        lines += _explain_key(key, width)
    return "\n".join(lines).lstrip("\n")


def _explain_key(key: Key, width: int) -> list[str]:
    values = key.type.removeprefix("one of ")
    metavar = values.replace(", ", "|") if values != key.type else _METAVARS.get(key.type, key.type)
    head = f"  --{key.name} {metavar}"
    default = f"(default: {_show(key.default)})"
    lines = [f"{head}  {default}"] if len(head) + len(default) + 2 <= width else [head, f"      {default}"]
    lines += textwrap.wrap(key.help, width, initial_indent="      ", subsequent_indent="      ")
    return lines


def _show(value: Any) -> str:
    if value is dataclasses.MISSING:
        return "none, must be given"
    if isinstance(value, bool):
        return str(value).lower()
    plain = to_plain(value)
    return "empty" if plain in ("", []) else "null" if plain is None else str(plain)
