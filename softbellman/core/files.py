"""Text line by line, and files that a kill, a full disk or a second process does not spoil. Needs no torch."""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

LONGEST_LINE = 1 << 20
"""Bytes of the longest line of text that is read. A few megabytes of gzip can unpack to one line of gigabytes."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_RETURNS = r"holds carriage returns, but only a line feed ends a line; tr '\r' '\n' makes line feeds of them"

PART = ".part"
"""How the names of files end that are not written to their end."""


class LineError(ValueError):
    """A line that is no text; says what is wrong with it.

    Attributes:
        line: its number, counted from 1.
    """

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def text_lines(stream: BinaryIO) -> Iterator[str]:
    """The lines of a UTF-8 stream without their line ends and without a byte order mark at the start.

    Only a line feed, alone or after a carriage return, ends a line: exotic separators inside a sentence cannot shift
    the alignment of two files. A last line without a line end counts.

    Raises:
        LineError: a line of more than `LONGEST_LINE` bytes, bytes that are not UTF-8, or (after it) an only line that
            holds carriage returns, as text with the line ends of old Macs does.
    """
    returns = False
    for number in itertools.count(1):
        raw = stream.readline(LONGEST_LINE + 1)
        if not raw and returns and number == 2:
            raise LineError(f"the only line {_RETURNS}", 1)
        if not raw:
            return
        if len(raw) > LONGEST_LINE and not raw.endswith(b"\n"):
            why = f" and {_RETURNS}" if number == 1 and b"\r" in raw[:-1] else ""
            raise LineError(f"the line is longer than {LONGEST_LINE:,} bytes{why}", number)
        if number == 1:
            raw = raw.removeprefix(_BYTE_ORDER_MARK)
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            message = f"invalid UTF-8 (byte 0x{raw[error.start]:02x} at column {error.start + 1})"
            raise LineError(message, number) from None
        line = line.removesuffix("\n").removesuffix("\r")
        returns = number == 1 and "\r" in line
        yield line


def is_named_pipe(path: str | Path) -> bool:
    """Whether opening a path would wait for a writer that may never come.

    A pipe that the shell made for a command, `<(zcat FILE)` or `/dev/stdin`, has its writer.
    """
    path = Path(path)
    if str(path).startswith(("/dev/fd/", "/dev/stdin", "/proc/")):
        return False
    try:
        return stat.S_ISFIFO(path.stat().st_mode)
    except (OSError, ValueError):
        return False  # opening it says what is wrong


def beside(path: Path) -> Path:
    """The temporary name of a file (or folder) that is being written by this process."""
    return path.with_name(f".{path.name}.{os.getpid()}{PART}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name to write under. At the end it is flushed to the disk and renamed: there is never half a file.

    Args:
        path: the file's own name; its folder is made where there is none.

    Yields:
        The temporary name, which is gone where the block raises.

    Raises:
        OSError: the disk is full or not writable; it names `path`, which is as it was.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "text"
        >>> with replacing(path) as temporary:
        ...     _ = temporary.write_text("whole")
        >>> path.read_text()
        'whole'
    """
    temporary = beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        flush_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file, see `replacing`.

    Raises:
        OSError: the disk is full or not writable; it names `path`, which is as it was.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder: a rename outlives a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
