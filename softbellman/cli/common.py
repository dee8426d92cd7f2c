"""What all commands share: one-line errors, exit codes, standard input as text."""

from __future__ import annotations

import argparse
import io
import logging
import math
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

WIDTH = 100
"""Help is wrapped at this many columns, or at the terminal's where that is narrower."""

MOST = 2**31 - 1
"""The largest count that an option takes."""

USER_ERROR = 2
INTERRUPTED = 130


class UserError(Exception):
    """Something the user can put right; the message is one line."""


class Parser(argparse.ArgumentParser):
    """argparse with full option names only and errors of one line."""

    def __init__(self, **options: object) -> None:
        options.setdefault("formatter_class", Formatter)
        super().__init__(allow_abbrev=False, **options)  # type: ignore[arg-type]
        self.add_argument("--debug", action="store_true", help="show the full trace of an error")

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} ({self.prog} --help explains)")


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help no wider than `WIDTH` columns, with defaults where options have them."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=help_width(), max_help_position=30)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        if action.default not in (None, False, argparse.SUPPRESS) and "default" not in text:
            text += " (default: %(default)s)"
        return text


def help_width() -> int:
    """Columns of help texts."""
    return max(40, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))


def run_command(command: Callable[[Sequence[str]], int], arguments: Sequence[str] | None) -> int:
    """Runs a command and turns what goes wrong into one line and an exit code.

    Errors of the user's input are ValueError and OSError with a sentence of their own throughout the package.
    `--debug` or SOFTBELLMAN_DEBUG=1 shows the trace as well.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    replace_closed_streams()
    write_utf8()
    show_warnings()
    debug = "--debug" in arguments or os.environ.get("SOFTBELLMAN_DEBUG", "") not in ("", "0")
    try:
        if any("\0" in word for word in arguments):
            raise UserError("an argument holds a NUL character, which no path and no text can")
        code = command(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of our output is gone (`| head`); the interpreter must not flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("softbellman: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (UserError, ValueError, OSError, ImportError, ArithmeticError, MemoryError, RuntimeError) as error:
        memory = isinstance(error, MemoryError) or "allocate memory" in str(error)
        if isinstance(error, RuntimeError) and not memory:
            raise
        if memory:
            error = UserError("there is not enough memory; smaller sizes or batches need less")
        if debug:
            traceback.print_exc()
        print(f"softbellman: error: {_one_line(error)}", file=sys.stderr)
        return USER_ERROR


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and not isinstance(error, ValueError) and error.filename and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    return text or type(error).__name__


def replace_closed_streams() -> None:
    """What is written to a standard stream that was closed (`>&-`, a daemon) goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - until the end of the process


def write_utf8() -> None:
    """Standard output and error are UTF-8 whatever the locale; what no UTF-8 can hold, a broken file name, is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


class WarningLines(logging.Handler):
    """Every warning that is logged becomes a line on standard error."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        print(f"softbellman: warning: {record.getMessage()}", file=sys.stderr)


_WARNING_LINES = WarningLines()


def show_warnings() -> None:
    """Shows what this package and sacrebleu warn of."""
    for name in ("softbellman", "sacrebleu"):
        logging.getLogger(name).addHandler(_WARNING_LINES)  # once, however often it is called


def typed_text(text: str) -> str:
    """argparse type of a text: what was typed as UTF-8 is read as such in an ASCII locale, too."""
    return os.fsencode(text).decode("utf-8", "surrogateescape")


def standard_input() -> Iterator[str]:
    """The lines of standard input without line feeds and carriage returns; a line that is no text is an error."""
    from softbellman.core.files import LineError, text_lines

    if sys.stdin is None:
        raise UserError("standard input is closed")
    try:
        yield from text_lines(sys.stdin.buffer)
    except LineError as error:
        raise UserError(f"standard input, line {error.line}: {error}") from None


def finite(text: str) -> float:
    """argparse type of a number that is neither infinite nor NaN."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expects a finite number, given {shortened(text)}")
    return value


def positive(text: str) -> int:
    """argparse type of a whole number above zero."""
    value = _whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expects a whole number above zero, given {shortened(text)}")
    return value


def counted(text: str) -> int:
    """argparse type of a whole number of at least zero."""
    value = _whole(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expects a whole number of at least zero, given {shortened(text)}")
    return value


def _whole(text: str) -> int:
    """The number that digits spell, -1 of other texts; one that nothing can count is an error."""
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit()):
        return -1
    if len(digits.lstrip("0")) > len(str(MOST)) or int(digits) > MOST:
        raise argparse.ArgumentTypeError(
            f"expects a whole number of at most {MOST:,}, given {shortened(text)}"
        )
    return int(digits)


def shortened(text: str, length: int = 40) -> str:
    """A text as an error shows it, its beginning alone where it is long."""
    return repr(text) if len(text) <= length else f"{text[:length]!r}... ({len(text):,} characters)"
