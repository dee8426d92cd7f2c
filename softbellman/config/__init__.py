"""Settings as nested frozen dataclasses: read from YAML files and dotted overrides, written back, explained.

A settings class is a frozen dataclass whose fields have defaults; the text of a key is the string literal
under its field, so the class itself is the manual:

    @dataclass(frozen=True)
    class OptimizerSettings:
        learning_rate: float = 1e-3
        "Step size at the start."
        clip: Annotated[float, Range(above=0)] = 5.0
        "Largest gradient norm."

    settings = load(Settings, "run.yaml", overrides=[("optimizer.learning_rate", "1e-4")])

YAML is read as a tree of text with line numbers and every scalar is parsed by the type of its field. So
`1e-3` is a float, `off` is text where text is wanted, and an error names the file, the line and the key. A
file may start from another one: `base: other.yaml`, relative to the file that says so.
"""

from softbellman.config.ranges import Range, check_ranges
from softbellman.config.reader import from_mapping, load
from softbellman.config.schema import Key, describe, describe_sections, nearest, within
from softbellman.config.text import ConfigError
from softbellman.config.writer import dump, flatten, to_plain

__all__ = [
    "ConfigError",
    "Key",
    "Range",
    "check_ranges",
    "describe",
    "describe_sections",
    "dump",
    "flatten",
    "from_mapping",
    "load",
    "nearest",
    "to_plain",
    "within",
]
