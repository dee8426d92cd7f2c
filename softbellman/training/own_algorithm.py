"""Algorithms by name: those of the package, and the user's own, `FILE.py:NAME`, `MODULE:NAME` or handed over in Python."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from softbellman.config import ConfigError
from softbellman.core.objects import (
    PYTHON,
    UserObject,
    absolute_name,
    facts_of,
    hand_over,
    is_object_name,
    load_object,
    source_of,
    what_changed,
)
from softbellman.training.algorithms import ALGORITHMS, Algorithm
from softbellman.training.files import DamagedFile
from softbellman.training.record import recorded_objects
from softbellman.training.settings import Settings
from softbellman.training.stages.spec import StageSpec


def algorithm_of(settings: Settings) -> Algorithm:
    """The algorithm of a run.

    Raises:
        ValueError: there is none of this name, or the name leads to something else.
        UserCodeError: the user's file or module raised.
    """
    return find_algorithm(settings.algorithm)


def find_algorithm(name: str) -> Algorithm:
    """The algorithm of a name, as `algorithm_of`."""
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    found: Algorithm = _find(name).value
    return found


def algorithm_object(settings: Settings) -> UserObject | None:
    """The user's own algorithm, for the record of a run and its cache keys; None of one of the package."""
    return None if settings.algorithm in ALGORITHMS else _find(settings.algorithm)


def _find(name: str) -> UserObject:
    found = load_object(name, key="algorithm")
    if not isinstance(found.value, Algorithm):
        raise ConfigError(
            f"algorithm must name a softbellman.training.Algorithm, got {name}, of type {type(found.value).__name__}"
        )
    return found


def hand_over_algorithm(algorithm: Algorithm) -> str:
    """The name by which settings of this process find an algorithm that no name leads to, `python:TITLE`.

    Raises:
        TypeError: it is no `Algorithm`.
    """
    if not isinstance(algorithm, Algorithm):
        raise TypeError(f"algorithm must be a softbellman.training.Algorithm, got {algorithm!r}")
    packaged = next((name for name, known in ALGORITHMS.items() if known is algorithm), None)
    if packaged is not None:
        return packaged
    name = f"{PYTHON}:{re.sub(r'[^A-Za-z0-9]+', '_', algorithm.title).strip('_') or 'algorithm'}"
    known = UserObject(name, algorithm, "", _digest(algorithm), algorithm.version or "")
    return hand_over(algorithm, key="algorithm", known=known)


def settle_algorithm(settings: Settings) -> Settings:
    """The settings with the whole path of the algorithm's file, so that a run finds it from any folder."""
    if not is_object_name(settings.algorithm):
        return settings
    return replace(settings, algorithm=absolute_name(settings.algorithm))


def check_own_algorithm(settings: Settings, folder: Path) -> None:
    """Raises DamagedFile where the algorithm's source is not the one that the run of a folder was trained with."""
    found = algorithm_object(settings)
    if found is None:
        return
    recorded = facts_of(recorded_objects(folder), found.name)
    change = "is not in its record" if recorded is None else what_changed(recorded, found)
    if change is not None:
        raise DamagedFile(
            f"the algorithm {found.name} {change}: the run {folder} was trained with another one; restore it"
        )


def _digest(algorithm: Algorithm) -> str:
    """Digest of what an algorithm without a file is: its stages, and the sources of those of the user's own."""
    found = hashlib.sha256(repr((algorithm.stages, algorithm.reader)).encode())
    for value in (algorithm.definition, *(part for spec in algorithm.own for part in _parts(spec))):
        found.update(source_of(value).encode())
    return found.hexdigest()


def _parts(spec: StageSpec) -> tuple[Any, ...]:
    return spec.build, spec.settings, spec.check, spec.also_reads
