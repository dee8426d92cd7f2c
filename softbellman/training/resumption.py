"""What may differ when a run is continued: the machine, and how long its last stage goes on. All else makes another run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from softbellman import config
from softbellman.training.algorithms import ALGORITHMS
from softbellman.training.files import DamagedFile
from softbellman.training.record import RunRecord
from softbellman.training.settings import Settings

FREE = (
    "threads", "process_timeout", "keep_memory", "device", "output", "cache", "data.path", "data.features", "data.names",
)  # fmt: skip
FREE_SECTIONS = ("checkpoint",)
"""Keys that change no result, or whose change is noticed by the digests of the data."""

LONGER = ("schedule.epochs", "schedule.max_updates")
"""Keys of the last stage that may grow."""

_SHOWN = 3


class ResumeError(ValueError):
    """A run cannot be continued like this; the message is one line for the user."""


def changed_settings(record: RunRecord, settings: Settings) -> dict[str, Any]:
    """The settings that differ from those in force, by key.

    Args:
        record: of the run.
        settings: what the run shall be continued with.

    Raises:
        ResumeError: names the settings that cannot change.
    """
    given = config.flatten(settings)
    last_stage = ALGORITHMS[settings.algorithm].last_stage(settings)
    keys = [*record.settings, *(key for key in given if key not in record.settings)]
    changed = {key: given.get(key) for key in keys if given.get(key) != record.settings.get(key)}
    refused = [key for key, value in changed.items() if not _may_change(record, key, value, last_stage)]
    if not refused:
        return changed
    shown = [
        f"{key} is {_show(record.settings.get(key))}, given {_show(given.get(key))}"
        for key in refused[:_SHOWN]
    ]
    more = f" (and {len(refused) - _SHOWN} more)" if len(refused) > _SHOWN else ""
    raise ResumeError(
        f"a run cannot be continued with other settings: {'; '.join(shown)}{more}. "
        f"Leave them as they are in {record.path}, or start a new run. "
        f"More epochs of the last stage ({last_stage}.schedule.epochs), threads, device, cache and checkpoint.* may change"
    )


def _may_change(record: RunRecord, key: str, value: Any, last_stage: str) -> bool:
    if key in FREE or key.partition(".")[0] in FREE_SECTIONS:
        return True
    if key not in [f"{last_stage}.{name}" for name in LONGER]:
        return False
    known = record.settings.get(key)
    if not isinstance(known, int) or not isinstance(value, int):
        return False
    unlimited = key.endswith("max_updates") and value == 0
    return unlimited or (value > known and not (key.endswith("max_updates") and known == 0))


def _show(value: Any) -> str:
    return "nothing" if value is None else repr(value) if isinstance(value, str) else str(value)


def check_data(record: RunRecord, found: Mapping[str, str]) -> None:
    """Raises ResumeError where the data are not those that the run was started with; names the parts that differ."""
    parts: Sequence[str] = [name for name in record.data if record.data[name] != found.get(name)]
    if parts:
        raise ResumeError(
            f"the data are not those that the run was started with: {', '.join(parts).replace('_', ' ')} changed "
            f"since; restore the files, or start a new run"
        )


def check_vocabulary(path: str, kept: Sequence[str], found: Sequence[str]) -> None:
    """Raises DamagedFile where a run folder's vocabulary is not that of its data."""
    if tuple(kept) != tuple(found):
        raise DamagedFile(f"{path} was changed: it is not the vocabulary that the run was started with")
