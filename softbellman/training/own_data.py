"""Data sets of the user's own: `data.kind: FILE.py:NAME` or `MODULE:NAME` names what gives the pairs of each split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

from softbellman.core.objects import (
    UserCodeError,
    UserObject,
    absolute_name,
    is_object_name,
    load_object,
)
from softbellman.data import DataError, ParallelText
from softbellman.training.settings import DataSettings, Settings


def settle_data(settings: Settings) -> Settings:
    """The settings with the whole path of the data's file, so that a run finds it from any folder."""
    kind = settings.data.kind
    if not is_object_name(kind):
        return settings
    return replace(settings, data=replace(settings.data, kind=absolute_name(kind)))


def data_object(settings: DataSettings) -> UserObject | None:
    """What gives the pairs, for the record of a run; None of data of the package."""
    return load_object(settings.kind, key="data.kind") if is_object_name(settings.kind) else None


def read_own(settings: DataSettings) -> tuple[ParallelText, ParallelText, ParallelText]:
    """The training, validation and test pairs of the object that `data.kind` names.

    It is called with the name of a split, `data.train`, `data.dev` or `data.test`; a mapping is asked for it. It gives pairs of
    a source and a target, or of a source and a list of references. Mappings, such as rows of a data set of Hugging Face, are
    read by the keys `data.source` and `data.target`, which may lie within `translation`; None in them is an empty text.

    Raises:
        DataError: there is no such split, or nothing that could give one; else names the split, and the number of the
            first pair that is not one, from 1.
        UserCodeError: the user's code raised.
    """
    found = data_object(settings)
    assert found is not None
    return (
        _read(found, settings.train, settings, settings.empty_lines),
        _read(found, settings.dev, settings),
        _read(found, settings.test, settings),
    )


def _read(
    found: UserObject, split: str, settings: DataSettings, empty: Literal["skip", "refuse", "keep"] = "keep"
) -> ParallelText:
    origin = f"{found.name}, split {split}"
    rows = _ask(found, split, origin)
    sources: list[str] = []
    references: list[list[str]] = []
    skipped = 0
    for number, row in enumerate(_guarded(rows, origin), start=1):
        source, targets = _pair(row, settings, origin, number)
        present = [target for target in targets if target]
        if empty == "skip" and not (source and present):
            skipped += 1
            continue
        if not present or (empty == "refuse" and not (source and all(targets))):
            raise DataError(f"pair {number} has an empty side", path=origin)
        sources.append(source)
        references.append(present)
    if not sources:
        raise DataError("there is no pair with two sides", path=origin)
    return ParallelText(sources, references, source_origin=origin, target_origin=origin, skipped=skipped)


def _ask(found: UserObject, split: str, origin: str) -> Iterable[Any]:
    value, of_splits = found.value, isinstance(found.value, Mapping)
    if of_splits and split not in value:
        raise DataError(
            f"there is no such split, but {_names(value)}: name them by data.train, data.dev and data.test",
            path=origin,
        )
    if not (of_splits or callable(value)):
        raise DataError(
            f"must be a function of a split's name, or a mapping from these names, got {type(value).__name__}",
            path=origin,
        )
    try:
        rows = value[split] if of_splits else value(split)
    except Exception as error:
        raise UserCodeError(f"data.kind {origin}: {_words(error)}") from error
    if isinstance(rows, Mapping):
        raise DataError(
            f"pairs are wanted, got a mapping with {_names(rows)}: return the pairs of the split, or name the mapping "
            "itself",
            path=origin,
        )
    if not isinstance(rows, Iterable) or isinstance(rows, (str, bytes)):
        raise DataError(f"pairs must be iterable, got {type(rows).__name__}", path=origin)
    return rows


def _guarded(rows: Iterable[Any], origin: str) -> Iterable[Any]:
    """The rows; what their code raises is told as the user's."""
    try:
        yield from rows
    except Exception as error:
        raise UserCodeError(f"data.kind {origin}: {_words(error)}") from error


def _pair(row: Any, settings: DataSettings, origin: str, number: int) -> tuple[str, list[str]]:
    if isinstance(row, Mapping):
        inside = row.get("translation", row)
        keys = (settings.source, settings.target)
        missing = [key for key in keys if key not in inside]
        if missing:
            raise DataError(
                f"pair {number} has no key {missing[0]!r}, but {', '.join(map(repr, inside))}: name the keys by "
                "data.source and data.target",
                path=origin,
            )
        row = ["" if inside[key] is None else inside[key] for key in keys]
    if isinstance(row, (list, tuple)) and len(row) == 2:
        source, target = row
        listed = isinstance(target, Iterable) and not isinstance(target, (str, bytes, Mapping))
        targets = list(target) if listed else [target]
        if all(isinstance(text, str) for text in (source, *targets)):
            return source.strip(), [one.strip() for one in targets]
    raise DataError(
        f"pair {number} must be (source text, target text or list of references), got {_shown(row)}",
        path=origin,
    )


def _shown(row: Any) -> str:
    text = " ".join(repr(row).split())
    return text if len(text) <= 80 else f"{text[:80]}..."


def _names(mapping: Mapping[Any, Any]) -> str:
    return ", ".join(repr(name) for name in mapping) or "nothing"


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
