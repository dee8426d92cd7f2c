"""Reading text and JSON files, with errors that name the file and the line."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from softbellman.core.files import LineError, is_named_pipe, text_lines
from softbellman.data.errors import DataError, MissingFileError


def read_lines(path: str | Path) -> list[str]:
    """The lines of a UTF-8 file without their line ends. A name ending in `.gz` is read through gzip.

    Only a line feed, alone or after a carriage return, ends a line: exotic separators inside a sentence cannot shift
    the alignment of two files. A byte order mark at the start is dropped. A last line without a line end counts.

    Raises:
        MissingFileError: there is no such file.
        DataError: a directory, a named pipe, an unreadable file, a damaged gzip stream, bytes that are not UTF-8, a line
            of more than 1,048,576 bytes, or an only line that holds carriage returns; names the file and, for the last
            four, the line.
    """
    path = Path(path)
    refuse_named_pipe(path)
    lines: list[str] = []
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            for line in text_lines(file):  # type: ignore[arg-type]  # a GzipFile reads as a BinaryIO does
                lines.append(line)
    except FileNotFoundError:
        raise MissingFileError("the file does not exist", path=path) from None
    except LineError as error:
        raise DataError(str(error), path=path, line=error.line) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"the gzip stream is damaged ({error})", path=path, line=len(lines) + 1) from error
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror or error})", path=path) from error
    except MemoryError:
        count = len(lines)
        lines.clear()
        raise DataError(f"the file does not fit in memory (after {count:,} lines)", path=path) from None
    return lines


def read_json(path: str | Path) -> Any:
    """What a JSON file holds.

    Raises:
        MissingFileError: there is no such file.
        DataError: it cannot be read, is not JSON, or is nested too deeply; names the file.
    """
    path = Path(path)
    refuse_named_pipe(path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise MissingFileError("the file does not exist", path=path) from None
    except RecursionError:
        raise DataError("the file cannot be read as JSON: it is nested too deeply", path=path) from None
    except MemoryError:
        raise DataError("the file does not fit in memory", path=path) from None
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror or error})", path=path) from error
    except ValueError as error:  # no JSON, no UTF-8, a number of thousands of digits
        raise DataError(f"the file cannot be read as JSON: {error}", path=path) from error


def refuse_named_pipe(path: str | Path) -> None:
    """Raises DataError where opening a file would wait for a writer without end."""
    if is_named_pipe(path):
        raise DataError("the file is a named pipe; write its text to a file", path=path)
