"""The files of a run: lines that are added, JSON, what killed processes left."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from softbellman.core.files import PART, write_atomically


class DamagedFile(ValueError):
    """A file that does not hold what was written; the message names it."""


def append(path: Path, text: str) -> None:
    """Add text to the end of a file and flush it to the disk; an OSError names `path`."""
    if path.exists() and not path.is_file():
        raise DamagedFile(f"{path} is no plain file")
    try:
        with open(path, "a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def sweep(folder: Path) -> None:
    """Delete what killed processes left half written; nobody may be writing there."""
    for path in folder.rglob(f".*{PART}"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """The value of a JSON file; DamagedFile names the file where it is none."""
    if path.exists() and not path.is_file():
        raise DamagedFile(f"{path} is no plain file")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise DamagedFile(f"{path} is damaged: it is not JSON") from None


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomically(
        path,
        (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(
            errors="backslashreplace"
        ),
    )
