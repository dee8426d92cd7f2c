"""What can be wrong about one field of a call of the native core, for every kind of field of csrc/bind/fields.h.

Only mistakes that the other fields contradict, or that no field may have, are drawn: a field that says of its memory what is
not so, and is contradicted by none, is nothing that a check could find.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Fields = dict[str, Any]
Values = st.SearchStrategy[Any]

NO_NUMBER = st.one_of(
    st.floats(), st.text(max_size=3), st.binary(max_size=3), st.lists(st.integers(), max_size=2), st.just({})
)
NO_INTEGER = st.one_of(NO_NUMBER, st.integers(2**63, 2**80), st.integers(-(2**80), -(2**63) - 1))
NO_COUNTER = st.one_of(NO_NUMBER, st.integers(2**64, 2**80), st.integers(-(2**80), -1), st.none())
NO_FLOAT = st.one_of(
    st.just(float("nan")), st.just(float("inf")), st.floats(max_value=-1e-300), st.text(max_size=3), st.none()
)
NO_TUPLE = st.one_of(
    st.none(), st.integers(), st.text(max_size=3), st.just(()), st.tuples(st.integers(), st.integers())
)
SIZES = st.one_of(
    st.integers(-3, 40),
    st.sampled_from([2**31 - 1, 2**31, 2**32, 2**32 + 1, 2**40, 2**62, 2**63 - 1, -(2**63)]),
)
OPTIONAL_IDS = ("eos_id", "unmatched_id")
COUNTERS = ("seed", "offset", "row_base")
COUNTED = (
    "rows",
    "counts",
    "token_slots",
    "ngram_slots",
    "workspace",
)  # their number of elements is their own
WRITTEN = ("grad_logits", "grad_q", "grad_other")


def other_than(size: int) -> Values:
    """Sizes but this one; what it becomes in 32 bits among them."""
    return st.one_of(SIZES, st.sampled_from([size - 1, size + 1, size + 2**32])).filter(
        lambda other: other != size
    )


def replaced(value: tuple[int, ...], position: int, by: Values) -> Values:
    return by.map(lambda other: (*value[:position], other, *value[position + 1 :]))


def of_any_tuple(value: tuple[int, ...]) -> list[Values]:
    numbers = (
        3 if len(value) == 4 else len(value)
    )  # the fourth of an array only marks a copy, and may be left out
    wrong = [
        NO_TUPLE.filter(lambda other: other is not None),
        st.just(value[: numbers - 1]),
        st.just((*value, 1, 1, 1, 1)),
    ]
    return wrong + [replaced(value, position, NO_INTEGER) for position in range(numbers)]


def of_array(name: str, value: tuple[int, ...]) -> list[Values]:
    count, code = value[1:3]
    wrong = [replaced(value, 2, st.integers(-2, 9).filter(lambda other: other != code))]
    wrong.append(replaced(value, 1, st.integers(-(2**63), -1) if name in COUNTED else other_than(count)))
    if count > 0:
        wrong.append(replaced(value, 0, st.just(0)))
    return wrong


def of_matrix(name: str, value: tuple[int, ...], fields: Fields) -> list[Values]:
    _, _, rows, vocabulary, code = value
    contradicted = sum(isinstance(field, tuple) and len(field) == 5 for field in fields.values()) > 1
    wrong = [replaced(value, 2, other_than(rows)), replaced(value, 3, st.integers(-(2**63), 0))]
    wrong.append(replaced(value, 4, st.integers(-2, 9).filter(lambda other: not 0 <= other <= 3)))
    if contradicted:
        wrong.append(replaced(value, 3, other_than(vocabulary)))
        wrong.append(replaced(value, 4, st.integers(0, 3).filter(lambda other: other != code)))
    if rows > 1:
        least = vocabulary if name in WRITTEN else 0
        wrong.append(replaced(value, 1, st.one_of(st.just(least - 1), st.integers(-(2**63), -1))))
    if rows > 0:
        wrong.append(replaced(value, 0, st.just(0)))
    return wrong


def of_tokens(name: str, value: tuple[int, ...], fields: Fields) -> list[Values]:
    _, _, _, sources, rows, length, _ = value
    wrong = [replaced(value, position, st.integers(-(2**63), -1)) for position in (3, 4, 5)]
    wrong.append(replaced(value, 5, st.integers(2**31, 2**63 - 1)))
    wrong.append(replaced(value, 6, st.integers(-2, 9).filter(lambda other: other != 4)))
    if name in ("hypotheses", "references") and "hypotheses" in fields:
        wrong.append(replaced(value, 3, other_than(sources)))
    if name == "hypotheses" and "out" in fields:
        wrong.append(replaced(value, 4, other_than(rows)))
    if sources * rows * length > 0:
        wrong.append(replaced(value, 0, st.just(0)))
    return wrong


def wrong_values(name: str, fields: Fields) -> list[Values]:
    """What the field must not be, with the others as they are; empty where it may be anything of its kind."""
    value = fields[name]
    if isinstance(value, tuple):
        of_kind = {5: of_matrix, 7: of_tokens}.get(len(value))
        return of_any_tuple(value) + (of_kind(name, value, fields) if of_kind else of_array(name, value))
    if name in COUNTERS:
        return [NO_COUNTER]
    if isinstance(value, bool | int):
        wrong = [NO_INTEGER] if name in OPTIONAL_IDS else [NO_INTEGER, st.none()]
        return [*wrong, st.sampled_from([0, -1, 2**20 + 1])] if name == "threads" else wrong
    if isinstance(value, float):
        return [NO_FLOAT]
    return []


def mistakes(fields: Fields) -> st.SearchStrategy[tuple[str, Any]]:
    """A field of the call and a value that it must not have."""
    wrong = {name: values for name in fields if (values := wrong_values(name, fields))}
    return st.sampled_from(sorted(wrong)).flatmap(
        lambda name: st.tuples(st.just(name), st.one_of(wrong[name]))
    )
