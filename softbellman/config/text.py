"""YAML as a tree of text with line numbers, and scalars parsed by the type that is wanted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml

from softbellman.config.schema import nearest, scalar_text
from softbellman.core.files import is_named_pipe

_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")
_NULL = ("", "~", "null", "Null", "NULL")
_FLOATS = {".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}


LONGEST_SHOWN = 80
"""Characters of a text that an error shows."""


class ConfigError(ValueError):
    """A settings file or an override that cannot be used; the message is one line for the user."""


class Mismatch(Exception):
    """A value that is not of the wanted type; its text, where there is any, is added to the user's error."""


def parse_file(path: Path) -> yaml.Node | None:
    """The tree of a YAML file, None when it is empty; ConfigError with its line when it is unreadable."""
    if is_named_pipe(path):
        raise ConfigError(f"{path}: a named pipe, not a settings file")
    try:
        return _parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the settings file: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None


def option_node(text: str, name: str) -> yaml.ScalarNode:
    """The text of an option, not yet parsed; an empty text is text, not null."""
    name = name if len(name) <= LONGEST_SHOWN else f"{name[:LONGEST_SHOWN]}..."
    mark = yaml.Mark(name, 0, 0, 0, None, 0)
    return yaml.ScalarNode("", text, mark, mark, style=None if text else '"')


def mapping_node(values: Mapping[str, Any], name: str) -> yaml.MappingNode:
    """Values of `free_value` as the tree that they were read from."""
    mark = yaml.Mark(name, 0, 0, 0, None, 0)

    def node(value: Any) -> yaml.Node:
        if isinstance(value, Mapping):
            return yaml.MappingNode(
                "", [(node(str(key)), node(item)) for key, item in value.items()], mark, mark
            )
        if isinstance(value, (list, tuple)):
            return yaml.SequenceNode("", [node(item) for item in value], mark, mark)
        quoted = isinstance(value, str) and value in _NULL
        text = f".{value}".replace(".-", "-.") if value in (math.inf, -math.inf) else scalar_text(value)
        return yaml.ScalarNode("", text, mark, mark, style='"' if quoted else None)

    return cast(yaml.MappingNode, node(values))


def structured(node: yaml.Node, *, as_list: bool = False) -> yaml.Node:
    """Reads plain text where a section or a list is wanted: `{a: 1}`, `[1, 2]` and, for a list, `1, 2`."""
    text = plain_text(node)
    if text is None:
        if as_list and isinstance(node, yaml.ScalarNode):
            return yaml.SequenceNode("", [node], node.start_mark, node.end_mark)
        return node
    opens_list = text.lstrip().startswith("[")
    if as_list and text in _NULL:
        return node
    if not as_list and not text.lstrip().startswith("{"):
        return node
    tree = _parse(text if opens_list or not as_list else f"[{text}]", origin(node))
    return node if tree is None else tree


def _parse(text: str, name: str) -> yaml.Node | None:
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        loader.name = name
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{name}{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply for settings") from None
    finally:
        if loader is not None:
            loader.dispose()


def origin(node: yaml.Node) -> str:
    """Where a node stands: `file:line`, or the option's name."""
    mark = node.start_mark
    return f"{mark.name}:{mark.line + 1}" if not mark.name.startswith("--") else str(mark.name)


def plain_text(node: yaml.Node) -> str | None:
    """The text of an unquoted scalar, None for everything else."""
    is_plain = isinstance(node, yaml.ScalarNode) and node.style is None
    return str(node.value) if is_plain else None


def shortened(text: str) -> str:
    """A text as an error quotes it: its beginning alone where it is long."""
    if len(text) <= LONGEST_SHOWN:
        return repr(text)
    return f"{text[:LONGEST_SHOWN]!r}... ({len(text):,} characters)"


def show(node: yaml.Node) -> str:
    """A node as an error shows it."""
    if isinstance(node, yaml.ScalarNode):
        return "nothing" if plain_text(node) == "" else shortened(str(node.value))
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


def parse_choice(choices: tuple[Any, ...], node: yaml.ScalarNode) -> Any:
    """The choice that is spelt like the node."""
    for choice in choices:
        if isinstance(choice, str):
            if node.value == choice:
                return choice
        else:
            try:
                if parse_scalar(type(choice), node) == choice:
                    return choice
            except Mismatch:
                continue
    raise Mismatch(f"; nearest: {nearest(node.value[:LONGEST_SHOWN], map(scalar_text, choices))!r}")


def parse_scalar(wanted: Any, node: yaml.ScalarNode) -> Any:
    """The node as int, float, bool, str, Path or None."""
    plain, value = plain_text(node), str(node.value)
    if wanted in (str, Path):
        if plain in _NULL:
            raise Mismatch()
        return wanted(value)
    if plain is None:
        raise Mismatch(" (quoted text)")
    if wanted is type(None):
        if plain in _NULL:
            return None
    elif wanted is bool:
        if plain.lower() in _TRUE + _FALSE:
            return plain.lower() in _TRUE
    elif wanted is float:
        number = _number(plain)
        if number is not None:
            return number
    elif wanted is int:
        try:
            return int(plain)
        except ValueError:
            number = _number(plain)
            # 1e4 is a fine number of updates; 1.5 and inf are not.
            if number is not None and number.is_integer() and "." not in plain:
                return int(number)
    else:
        raise TypeError(f"settings of type {wanted!r} are not supported")
    raise Mismatch()


def free_value(node: yaml.Node) -> Any:
    """A value of a key that no settings class knows: by its form null, true or false, an integer, a number, else text."""
    if isinstance(node, yaml.SequenceNode):
        return [free_value(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): free_value(value) for key, value in node.value}
    text = plain_text(node)
    if text is None:
        return str(node.value)
    if text in _NULL:
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text)
    except ValueError:
        number = _number(text)
        return text if number is None else number


def _number(text: str) -> float | None:
    try:
        return _FLOATS[text.lower()] if text.lower() in _FLOATS else float(text)
    except ValueError:
        return None
