"""The errors of the data layer: one sentence that names the file and, where there is one, the line."""

from __future__ import annotations

from pathlib import Path


class DataError(ValueError):
    """A text, a vocabulary or a tokenizer file that cannot be used as it stands.

    Args:
        message: what is wrong, without the place.
        path: the file at fault.
        line: its line number, counted from 1.
    """

    def __init__(self, message: str, *, path: str | Path | None = None, line: int | None = None) -> None:
        place = "" if path is None else f"{path}: " if line is None else f"{path}, line {line}: "
        super().__init__(place + message)
        self.path = None if path is None else str(path)
        self.line = line


class MissingFileError(DataError, FileNotFoundError):
    """A file that does not exist; both a `DataError` and a `FileNotFoundError`."""

    def __str__(self) -> str:
        return str(self.args[0])
