"""Files that a kill, a full disk or a second process does not spoil: written aside, flushed, renamed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

PART = ".part"
"""How the names of files end that are not written to their end."""


class DamagedFile(ValueError):
    """A file that does not hold what was written; the message names it."""


def beside(path: Path) -> Path:
    """The temporary name of a file (or folder) that is being written by this process."""
    return path.with_name(f".{path.name}.{os.getpid()}{PART}")


def write_atomically(path: Path, content: bytes) -> None:
    """Write under a temporary name, flush to the disk, rename, flush the folder: there is never half a file.

    Raises:
        OSError: the disk is full or not writable; it names `path`, which is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path)
    try:
        with open(temporary, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        flush_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


def append(path: Path, text: str) -> None:
    """Add text to the end of a file and flush it to the disk; an OSError names `path`."""
    try:
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder: a rename outlives a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Delete what killed processes left half written; nobody may be writing there."""
    for path in folder.rglob(f".*{PART}"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def read_json(path: Path) -> Any:
    """The value of a JSON file; DamagedFile names the file where it is none."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise DamagedFile(f"{path} is damaged: it is not JSON") from None


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomically(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())
