"""Runs a command in this process, with its standard input given and its output kept."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest


class Outcome(NamedTuple):
    """Exit code and what was written."""

    code: int
    out: str
    err: str


RunCommand = Callable[..., Outcome]


@pytest.fixture
def softbellman(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunCommand:
    """softbellman(*words, stdin=b"...") -> Outcome, as the console script would end."""
    from softbellman.cli.main import main

    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("SOFTBELLMAN_DEBUG", raising=False)

    def run(*words: str, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        try:
            code = main(words)
        except SystemExit as ended:
            code = int(ended.code or 0)
        seen: Sequence[str] = capsys.readouterr()
        return Outcome(code, seen[0], seen[1])

    return run
