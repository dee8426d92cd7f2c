"""The numbers a key takes: an annotation of its field, checked when settings are read and when a run starts."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from softbellman.config.schema import fields, is_settings
from softbellman.config.text import ConfigError


@dataclasses.dataclass(frozen=True)
class Range:
    """An interval of numbers; NaN is in none.

    Attributes:
        least, above: the lower end, in the interval or outside of it.
        most, below: the upper end, in the interval or outside of it.
        or_zero: 0 is allowed as well.
        or_infinite: infinity is allowed as well.

    Example:
        >>> str(Range(above=0, most=1))
        'above 0 and at most 1'
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    or_zero: bool = False
    or_infinite: bool = False

    def __contains__(self, value: float) -> bool:
        if (self.or_zero and value == 0) or (self.or_infinite and value == math.inf):
            return True
        return (
            (isinstance(value, int) or math.isfinite(value))  # a whole number of any size is finite
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        ends = (
            ("at least", self.least),
            ("above", self.above),
            ("at most", self.most),
            ("below", self.below),
        )
        words = [f"{name} {_number(end)}" for name, end in ends if end is not None]
        if self.least is not None and self.most is not None:
            words = [f"from {_number(self.least)} to {_number(self.most)}"]
        text = " and ".join(words) or "finite"
        return f"{'0 or ' if self.or_zero else ''}{text}{' or infinite' if self.or_infinite else ''}"


def _number(end: float) -> str:
    """2**63 - 1 is easier to read than its digits."""
    power = round(math.log2(end + 1)) if end >= 2**30 else 0
    if power and end == 2**power - 1:
        return f"2**{power} - 1"
    return f"{end:g}"


def check_value(name: str, range: Range | None, value: Any) -> None:
    """Raises ConfigError where a number is outside of its key's range; without one it only must not be NaN."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    if range is not None and value not in range:
        digits = str(value) if isinstance(value, float) or abs(value) < 10**40 else "more than 40 digits"
        raise ConfigError(f"{name!r} must be {range}, given {digits}")
    if value != value:
        raise ConfigError(f"{name!r} must be a number, given {value}")


def check_ranges(settings: Any, prefix: str = "") -> None:
    """Raises ConfigError that names the first key of a settings instance, nested ones included, with a number out of range."""
    cls: type = type(settings)
    for name, field in fields(cls).items():
        value = getattr(settings, name)
        if is_settings(value):
            check_ranges(value, f"{prefix}{name}.")
        else:
            check_value(prefix + name, field.range, value)
