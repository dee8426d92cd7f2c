"""Streams of text, line by line, and files that cannot be read as one. Needs no torch."""

from __future__ import annotations

import itertools
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

LONGEST_LINE = 1 << 20
"""Bytes of the longest line of text that is read. A few megabytes of gzip can unpack to one line of gigabytes."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


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
        LineError: a line of more than `LONGEST_LINE` bytes, or bytes that are not UTF-8.
    """
    for number in itertools.count(1):
        raw = stream.readline(LONGEST_LINE + 1)
        if not raw:
            return
        if len(raw) > LONGEST_LINE and not raw.endswith(b"\n"):
            raise LineError(f"the line is longer than {LONGEST_LINE:,} bytes", number)
        if number == 1:
            raw = raw.removeprefix(_BYTE_ORDER_MARK)
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            message = f"invalid UTF-8 (byte 0x{raw[error.start]:02x} at column {error.start + 1})"
            raise LineError(message, number) from None
        yield line.removesuffix("\n").removesuffix("\r")


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
