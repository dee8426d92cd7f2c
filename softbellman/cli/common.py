"""What all commands share: one-line errors, exit codes, standard input as text."""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

WIDTH = 100
"""Help is wrapped at this many columns, or at the terminal's where that is narrower."""

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
    debug = "--debug" in arguments or os.environ.get("SOFTBELLMAN_DEBUG", "") not in ("", "0")
    try:
        code = command(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of our output is gone (`| head`); the interpreter must not flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("softbellman: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (UserError, ValueError, OSError, ImportError, ArithmeticError) as error:
        if debug:
            traceback.print_exc()
        print(f"softbellman: error: {_one_line(error)}", file=sys.stderr)
        return USER_ERROR


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and not isinstance(error, ValueError) and error.filename and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    return text or type(error).__name__


def standard_input() -> Iterator[str]:
    """The lines of standard input without line feeds and carriage returns; bytes that are not UTF-8 are an error."""
    for number, raw in enumerate(sys.stdin.buffer, start=1):
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        try:
            line = raw.decode()
        except UnicodeDecodeError:
            raise UserError(f"standard input, line {number}: invalid UTF-8") from None
        yield line.removesuffix("\n").removesuffix("\r")


def finite(text: str) -> float:
    """argparse type of a number that is neither infinite nor NaN."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expects a finite number, given {text!r}")
    return value


def positive(text: str) -> int:
    """argparse type of a whole number above zero."""
    value = int(text) if text.strip().isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expects a whole number above zero, given {text!r}")
    return value
