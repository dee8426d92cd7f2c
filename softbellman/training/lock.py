"""One process at a time in a run folder."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from pathlib import Path
from types import TracebackType

NAME = "lock"


class LockedError(ValueError):
    """Another process holds the folder."""


class NoLockError(ValueError):
    """What stands in the place of the lock is no file, and cannot be locked."""


class FolderMovedError(ValueError):
    """The folder that was locked is somewhere else now, or gone."""


class FolderLock:
    """An exclusive lock on a folder that exists, for as long as the block runs; the system frees it when the process ends.

    Args:
        folder: what is locked, by a file `lock` in it that names the process.

    Raises:
        LockedError: on entering, another process holds it.
        NoLockError: on entering, a folder or a named pipe stands in the file's place.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._descriptor = -1

    def __enter__(self) -> FolderLock:
        if self._path.is_dir():
            raise self._no_file()
        # a pipe in the file's place must not make anybody wait
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise self._no_file()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            raise LockedError(f"{self._path.parent} is in use by {holder}; wait for it, or stop it") from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        self._descriptor = descriptor
        return self

    def _no_file(self) -> NoLockError:
        return NoLockError(
            f"{self._path} is no plain file, so that no process can hold the folder; remove it"
        )

    def check(self) -> None:
        """Raises FolderMovedError where the folder or its lock is no longer the one that this process holds."""
        try:
            held = os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except OSError:
            held = False
        if not held:
            raise FolderMovedError(
                f"{self._path.parent} was moved or deleted, or its file {NAME} was, while a run wrote there; --resume with "
                "its new place continues from the last checkpoint"
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
