"""The commands as a whole: dispatch, help, errors of one line, exit codes."""

from __future__ import annotations

import importlib
import io
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from softbellman.cli import captions
from softbellman.cli.common import run_command
from softbellman.cli.main import COMMANDS
from softbellman.report.progress import Progress

RunCommand = Callable[..., Any]

ACTIONS = ("captions_scenes", "captions_sheet")


def test_help_names_every_command(softbellman: RunCommand) -> None:
    for words in ([], ["--help"], ["-h"], ["--debug"]):
        code, out, _ = softbellman(*words)
        assert code == 0 and all(name in out for name in COMMANDS)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_each_command_explains_itself_within_100_columns(softbellman: RunCommand, command: str) -> None:
    code, out, err = softbellman(command, "--help")
    assert code == 0 and not err
    assert f"usage: softbellman{'-' if command == 'train' else ' '}{command}" in out
    assert max(map(len, out.splitlines())) <= 100


def test_version(softbellman: RunCommand) -> None:
    import softbellman as package

    assert softbellman("--version") == (0, f"softbellman {package.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "unknown command 'trian'; nearest: 'train'"),
        (["score"], "the following arguments are required: --references"),
        (["score", "--references", "nowhere.txt"], "nowhere.txt"),
        (["translate", "nowhere"], "nowhere"),
        (["translate", "nowhere", "--beam", "0"], "whole number above zero, given '0'"),
        (["train", "--resume", "nowhere"], "nowhere is not a run folder: it does not exist"),
        (["train", "--resume", "a", "--config", "b"], "--config and --resume exclude each other"),
        (["train", "stray"], "unrecognized arguments: stray"),
    ],
)
def test_errors_are_one_line(softbellman: RunCommand, words: list[str], message: str) -> None:
    code, out, err = softbellman(*words)
    assert code == 2 and out == ""
    assert err.startswith("softbellman: error: ") and err.count("\n") == 1 and message in err


@pytest.mark.parametrize("where", ["word", "environment"])
def test_debug_shows_the_trace(softbellman: RunCommand, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    words = ["translate", "nowhere"]
    if where == "environment":
        monkeypatch.setenv("SOFTBELLMAN_DEBUG", "1")
    else:
        words = ["--debug", *words]
    code, _, err = softbellman(*words)
    assert code == 2 and "Traceback" in err and err.splitlines()[-1].startswith("softbellman: error: ")


def test_a_bug_is_not_dressed_up_as_a_user_error() -> None:
    def broken(arguments: object) -> int:
        raise AttributeError("ours")

    with pytest.raises(AttributeError):
        run_command(broken, [])


def test_interruption_has_its_own_code(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(arguments: object) -> int:
        raise KeyboardInterrupt

    assert run_command(interrupted, []) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_reader_that_leaves_early_causes_no_noise() -> None:
    script = (
        "import sys; from softbellman.cli.common import run_command\n"
        "def command(words):\n"
        "    [print('x' * 1000) for _ in range(10000)]\n"
        "    return 0\n"
        "sys.exit(run_command(command, []))"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None and child.stderr is not None
    child.stdout.read(10)
    child.stdout.close()
    assert child.stderr.read() == b"" and child.wait() == 141


def test_descriptions_are_in_short_sentences() -> None:
    """At most 25 words; examples are left out."""
    modules = [importlib.import_module(f"softbellman.cli.{name}") for name in (*COMMANDS, *ACTIONS)]
    texts = [module.DESCRIPTION for module in modules] + [captions.EXTRACT]
    for text in texts:
        prose, *_ = re.split(r"\nexamples?:", text)
        for paragraph in prose.split("\n\n"):
            for sentence in re.split(r"(?<=[.!?])\s", " ".join(paragraph.split())):
                assert len(sentence.split()) <= 25, sentence


@pytest.mark.parametrize("closed", (">&-", "2>&-", ">&- 2>&-"))
def test_closed_streams_are_no_error(closed: str) -> None:
    command = f"{sys.executable} -m softbellman info {closed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr


def test_memory_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def ask(words: Sequence[str]) -> int:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")

    assert run_command(ask, []) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_other_runtime_errors_keep_their_trace() -> None:
    def fail(words: Sequence[str]) -> int:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        run_command(fail, [])


def test_work_goes_on_where_nobody_reads_its_lines() -> None:
    class Closed(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError(32, "Broken pipe")

    progress = Progress(out=Closed(), bars=io.StringIO())
    progress.line("one")
    progress.line("two", always=True)
