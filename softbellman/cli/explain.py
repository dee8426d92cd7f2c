"""What `--help` says of settings: a short page, one section, or all of them."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from typing import Any

from softbellman.cli.common import UserError, help_width
from softbellman.config import Key, describe, describe_sections, nearest, to_plain

RUN = "run"
"""Name of the section of the keys that stand in no section."""

ALL = "all"
"""Asks for every section."""

_METAVARS = {"text": "TEXT", "path": "PATH", "int": "N", "float": "X", "true or false": "true|false"}
_RUN_TITLE = "Settings of the run as a whole."


def summarise_settings(settings_class: type, first: tuple[str, ...]) -> str:
    """A short page.

    Args:
        settings_class: of the settings.
        first: keys that are explained in one line each; of the others the sections alone are named.
    """
    keys = {key.name: key for key in describe(settings_class)}
    lines = ["settings that are changed first (defaults where no file says otherwise):"]
    for name in first:
        head, text = _head(keys[name]), _short(keys[name].help)
        fits = len(head.rpartition("\n")[2]) + 2 + len(text) <= help_width()
        lines += [f"{head}  {text}"] if fits else [head, *_wrap(text, " " * 6)]
    sections = _top_sections(settings_class)
    width = max(map(len, sections)) + 4
    lines += ["", "sections of settings (--help SECTION explains one, --help all explains all):"]
    for name, title in sections.items():
        lines += _wrap(title, " " * width, first=f"  {name:<{width - 2}}")
    return "\n".join(lines)


def explain_section(settings_class: type, name: str) -> str:
    """Every key of a section, of a section within one, or one key, with the values it takes, its default and what it means.

    Args:
        settings_class: of the settings.
        name: `run` for the keys that stand in no section, `all` for everything.

    Raises:
        UserError: nothing has this name; names the nearest section or key.
    """
    keys = describe(settings_class)
    if name == ALL:
        chosen = keys
    elif name == RUN:
        chosen = [key for key in keys if "." not in key.name]
    else:
        chosen = [key for key in keys if f"{key.name}.".startswith(f"{name}.")]
    if not chosen:
        known = [RUN, ALL, *describe_sections(settings_class), *(key.name for key in keys)]
        raise UserError(
            f"--help: no section or setting is called {name!r}; nearest: {nearest(name, known)!r}"
        )
    return _explain_keys(chosen, describe_sections(settings_class))


def _explain_keys(keys: list[Key], sections: dict[str, str]) -> str:
    """The keys under the titles of their sections."""
    lines: list[str] = []
    current: str | None = None
    for key in keys:
        section = key.name.rpartition(".")[0]
        if section != current:
            current = section
            title = f"[{section}] {sections[section]}" if section else f"[{RUN}] {_RUN_TITLE}"
            lines += ["", *_wrap(title, " " * (len(section) + 3), first="")]
        lines += [_head(key), *_wrap(key.help, " " * 6)]
    return "\n".join(lines).lstrip("\n")


def _top_sections(settings_class: type) -> dict[str, str]:
    sections = describe_sections(settings_class)
    return {RUN: _RUN_TITLE} | {name: title for name, title in sections.items() if "." not in name}


def _short(text: str) -> str:
    """The text where it fits on a line, else its first sentence."""
    return text if len(text) + 6 <= help_width() else re.split(r"(?<!Eq\.)(?<=\.) ", text, maxsplit=1)[0]


def _wrap(text: str, indent: str, *, first: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        help_width(),
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )


def _head(key: Key) -> str:
    """The option of a key, the values it takes, its default; on several lines where one is too narrow."""
    values = key.type.removeprefix("one of ")
    if values != key.type:
        values = values.removesuffix(" or text")  # of the user's own, as the help says
    metavar = values.replace(", ", "|") if values != key.type else _METAVARS.get(key.type, key.type)
    limits = f", {key.range}" if key.range else ""
    head, default = f"  --{key.name} {metavar}{limits}", f"(default: {_show(key.default)})"
    *lines, head = _broken(head)
    fits = len(head) + len(default) + 2 <= help_width()
    return "\n".join([*lines, f"{head}  {default}" if fits else f"{head}\n      {default}"])


def _broken(head: str) -> list[str]:
    """An option in lines that end behind one of its choices."""
    lines: list[str] = []
    while len(head) > help_width() and (end := head.rfind("|", 0, help_width()) + 1):
        lines.append(head[:end])
        head = f"{' ' * 6}{head[end:]}"
    return [*lines, head]


def _show(value: Any) -> str:
    if value is dataclasses.MISSING:
        return "none, must be given"
    if isinstance(value, bool):
        return str(value).lower()
    plain = to_plain(value)
    return "empty" if plain in ("", [], {}) else "null" if plain is None else str(plain)
