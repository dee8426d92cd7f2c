"""Reading text files line by line, plain or gzip, with errors that name the file and the line."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from softbellman.data.errors import DataError, MissingFileError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 file without their line ends. A name ending in `.gz` is read through gzip.

    Only a line feed, alone or after a carriage return, ends a line: exotic separators inside a sentence cannot shift
    the alignment of two files. A byte order mark at the start is dropped. A last line without a line end counts.

    Raises:
        MissingFileError: there is no such file.
        DataError: a directory, an unreadable file, a damaged gzip stream, or bytes that are not UTF-8; names
            the file and, for the last two, the line.
    """
    path = Path(path)
    lines: list[str] = []
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            for number, raw in enumerate(file, start=1):
                if number == 1:
                    raw = raw.removeprefix(_BYTE_ORDER_MARK)
                lines.append(_decode(raw, path, number))
    except FileNotFoundError:
        raise MissingFileError("the file does not exist", path=path) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"the gzip stream is damaged ({error})", path=path, line=len(lines) + 1) from error
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror or error})", path=path) from error
    return lines


def _decode(raw: bytes, path: Path, number: int) -> str:
    try:
        line = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"invalid UTF-8 (byte 0x{raw[error.start]:02x} at column {error.start + 1})"
        raise DataError(message, path=path, line=number) from None
    return line.removesuffix("\n").removesuffix("\r")
