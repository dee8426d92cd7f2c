"""Settings of the documentation's site; docs/README.md has the command that builds it."""

from __future__ import annotations

import re
from typing import Any

import softbellman

project = "softbellman"
author = "softbellman contributors"
copyright = author
release = softbellman.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["README.md"]
html_theme = "furo"
html_title = f"softbellman {release}"
html_static_path = ["static"]
html_css_files = ["wide.css"]
html_show_sphinx = False

myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # recorded tables begin one level deeper

default_role = "code"  # a code span over two lines
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
maximum_signature_line_length = 90
autodoc_member_order = "groupwise"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

FORMULA = re.compile(r"(``.+?``|`[^`]+`|:\w+:`[^`]+`)")
COLON = "\ue000"
MARKDOWN_CODE = re.compile(r"`[^`]+`")
SPECIAL = re.compile(r"([*|]|(?<=\w)_(?=\W|$))")


def escaped(line: str) -> str:
    """A line of Markdown prose as reStructuredText: `*`, `|` and a trailing `_` outside of backticks are themselves."""
    parts = FORMULA.split(line)
    parts[::2] = [SPECIAL.sub(r"\\\1", part) for part in parts[::2]]
    parts[1::2] = [f"`{part}`" if MARKDOWN_CODE.fullmatch(part) else part for part in parts[1::2]]
    return "".join(parts)


def read_markdown(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Turns a docstring's Markdown into reStructuredText in place: indented blocks behind an empty line are literal."""
    converted: list[str] = []
    literal = False
    for number, line in enumerate(lines):
        indented = line.startswith("    ")
        if literal and line.strip() and not indented:
            literal = False
        behind_prose = number > 1 and not lines[number - 1].strip() and lines[number - 2].strip()
        if (
            not literal
            and indented
            and behind_prose
            and not lines[number - 2].startswith((" ", "- ", "Args:"))
        ):
            converted += ["::", ""]
            literal = True
        if (
            line.startswith("- ")
            and converted
            and converted[-1].strip()
            and not converted[-1].startswith(("- ", "  "))
        ):
            converted.append("")  # a list may follow a line of prose
        converted.append(line if literal or line.lstrip().startswith(">>>") else escaped(line))
    if what in ("attribute", "data", "property"):
        converted = [line.replace(":", COLON) for line in converted]
    lines[:] = converted


def restore_colons(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Puts back what `read_markdown` hid from napoleon, which takes the words before a colon for a type."""
    lines[:] = [line.replace(COLON, ":") for line in lines]


def without_aliases(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leaves out the fields of named tuples, which their class describes."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else None


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", read_markdown, priority=100)  # before napoleon
    app.connect("autodoc-process-docstring", restore_colons, priority=900)
    app.connect("autodoc-skip-member", without_aliases)
    return {"parallel_read_safe": True}
