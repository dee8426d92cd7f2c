"""What a token is credited with, as tables and colours show it: names, units, definitions, scales.

Colours are blue above 0 and orange below, or from white to violet: apart for the colour-blind, and by lightness alone in print.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from softbellman.experiments.token_credit import CreditedSentence, TokenCredit

NOTHING = "\u2013"
"""Stands where there is no number: the run has no such party, or the number is infinite."""


class Quantity(NamedTuple):
    """A number of a token.

    Attributes:
        field: of `TokenCredit`.
        title, unit, meaning: for readers.
        signed: coloured on both sides of 0.
        coloured: shown in the coloured rows too, not in the table of all numbers alone.
        most: end of the scale; None: the largest size on the page.
    """

    field: str
    title: str
    unit: str
    meaning: str
    signed: bool = False
    coloured: bool = True
    most: float | None = None


QUANTITIES = (
    Quantity("probability", "probability", "", "pi(y_t | y_<t) of the actor; forbidden tokens have 0", most=1.0),
    Quantity("reward", "reward", "tokens", "r_t = R(y_1..t) - R(y_1..t-1), Eq. (13)", signed=True),
    Quantity("q", "Q", "tokens", "Q(y_<t, y_t) of the critic", signed=True),
    Quantity("value", "value", "tokens", "V(y_<t) = sum_w pi(w) Q(y_<t, w) + tau H(pi)", signed=True, coloured=False),
    Quantity("advantage", "advantage", "tokens",
             "Q - tau log pi(y_t) - V: Eq. (20) raises the token's logit where it is above 0", signed=True),
    Quantity("entropy", "entropy", "nats", "H(pi(. | y_<t))"),
    Quantity("oracle_q", "oracle Q", "tokens", "edit distance saved by the best completion after the token",
             signed=True, coloured=False),
    Quantity("oracle_target", "oracle target", "", "probability of the token under the exact oracle's softmax(Q / tau)",
             most=1.0),
    Quantity("learnt_q", "learnt Q", "tokens", "Q(y_<t, y_t) of the run's learnt oracle", signed=True, coloured=False),
    Quantity("learnt_target", "learnt target", "", "probability of the token under the learnt oracle's softmax(Q / tau)",
             most=1.0),
)  # fmt: skip
"""All numbers of a token, in the order of tables."""

COLOURS = (
    "A token has the colour of its advantage, or of its reward where there is no critic. "
    "Blue is above 0, orange below; violet is a size."
)
"""What the colours say."""

WORDS = (("oracle_wants", "oracle wants"), ("learnt_wants", "learnt wants"))
"""What oracles would have taken: fields of `TokenCredit` and their titles."""

_ABOVE, _BELOW, _SIZE = (33, 102, 172), (201, 98, 15), (102, 58, 140)
_DARK_INK, _LIGHT_INK = "#000000", "#ffffff"
_TURN = 0.179  # luminance of a background on which both have the same contrast, 4.6

Limits = dict[str, float]
"""The end of each coloured quantity's scale."""


def limits_of(sentences: Iterable[CreditedSentence]) -> Limits:
    """Scales that all hypotheses of these sentences share, so that their colours can be compared."""
    tokens = [
        token for sentence in sentences for hypothesis in sentence.hypotheses for token in hypothesis.tokens
    ]
    found = {}
    for quantity in QUANTITIES:
        sizes = [abs(value) for token in tokens if (value := number_of(token, quantity)) is not None]
        found[quantity.field] = quantity.most or max(sizes, default=0.0) or 1.0
    return found


def present(tokens: Sequence[TokenCredit], *, coloured: bool = False) -> list[Quantity]:
    """The quantities that any of the tokens has."""
    return [
        quantity
        for quantity in QUANTITIES
        if (quantity.coloured or not coloured)
        and any(number_of(token, quantity) is not None for token in tokens)
    ]


def title_of(quantity: Quantity) -> str:
    """Its title with its unit."""
    return f"{quantity.title} ({quantity.unit})" if quantity.unit else quantity.title


def number_of(token: TokenCredit, quantity: Quantity) -> float | None:
    """A number of a token."""
    value: float | None = getattr(token, quantity.field)
    return value


def shade(quantity: Quantity, value: float | None, limit: float) -> tuple[str, str]:
    """Background and ink of a number, `#rrggbb` both; white where there is none."""
    share = 0.0 if value is None else max(-1.0, min(1.0, value / limit))
    end = _SIZE if not quantity.signed else _ABOVE if share > 0 else _BELOW
    red, green, blue = (round(255 + (part - 255) * abs(share)) for part in end)
    luminance = 0.2126 * _linear(red) + 0.7152 * _linear(green) + 0.0722 * _linear(blue)
    return f"#{red:02x}{green:02x}{blue:02x}", _DARK_INK if luminance > _TURN else _LIGHT_INK


def _linear(part: int) -> float:
    """Light of a part of a colour, sRGB's 0 to 255 as 0 to 1."""
    share = part / 255
    return share / 12.92 if share <= 0.04045 else float(((share + 0.055) / 1.055) ** 2.4)


def ends(quantity: Quantity) -> tuple[str, str]:
    """The colours at the two ends of a scale."""
    return shade(quantity, -1.0 if quantity.signed else 0.0, 1.0)[0], shade(quantity, 1.0, 1.0)[0]


def shown(value: float | None, digits: int = 2) -> str:
    """A number as text, never `-0.00`."""
    return NOTHING if value is None else f"{round(value, digits) + 0.0:.{digits}f}"
