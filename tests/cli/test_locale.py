"""Every command writes UTF-8, whatever the locale says."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from softbellman import config
from softbellman.cli.common import typed_text
from softbellman.cli.main import COMMANDS, main
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import DataSettings, Settings

Ascii = Callable[..., str]


@pytest.fixture
def in_ascii(monkeypatch: pytest.MonkeyPatch) -> Ascii:
    """in_ascii(*words, stdin=b"...") runs a command whose streams are ASCII, as in the C locale; gives what it wrote."""

    def run(*words: str, stdin: bytes = b"", code: int = 0) -> str:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2))
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="ascii"))
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        try:
            ended = main(words)
        except SystemExit as error:
            ended = int(error.code or 0)
        for stream in (out, err):
            stream.flush()
        written = [stream.buffer.getvalue().decode() for stream in (out, err)]
        assert ended == code, written
        return "".join(written)

    return run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run in a folder whose name is not ASCII."""
    folder = RunFolder(tmp_path / "größe")
    folder.create(config.dump(Settings(algorithm="mle", data=DataSettings())))
    for value in (21.25, 22.5):
        folder.log(kind="test", stage="actor", system="MLE", dev_bleu=20.5, test_bleu=value)
    return folder.path


def test_oracle(in_ascii: Ascii, tmp_path: Path) -> None:
    words = [
        "--reference",
        "größe der bäume",
        "--hypothesis",
        "größe die bäume",
        "--json",
        str(tmp_path / "ö.json"),
    ]
    shown = in_ascii("oracle", *words)
    assert "reference:   größe der bäume" in shown and "bäume" in (tmp_path / "ö.json").read_text("utf-8")


def test_table(in_ascii: Ascii, run: Path, tmp_path: Path) -> None:
    assert "mean ± sample standard deviation" in in_ascii("table", str(run))
    assert "größe" in in_ascii("table", str(run), "--format", "json")
    assert "ärger is not a run folder" in in_ascii("table", str(tmp_path / "ärger"), code=2)


def test_score(in_ascii: Ascii, tmp_path: Path) -> None:
    path = tmp_path / "tür.txt"
    path.write_text("größe\n", encoding="utf-8")
    assert "BLEU = " in in_ascii("score", "--references", str(path), stdin="größe\n".encode())
    assert "tür.txt has 1 lines" in in_ascii("score", "--references", str(path), stdin=b"a\nb\n", code=2)


def test_train(in_ascii: Ascii, tmp_path: Path) -> None:
    shown = in_ascii("train", "--print-config", "--output", "größe")
    path = tmp_path / "settings.yaml"
    path.write_text(shown, encoding="utf-8")
    assert config.load(Settings, path).output == "größe"
    assert "größe: there is no such settings file" in in_ascii("train", "--config", "größe", code=2)


def test_data_and_captions(in_ascii: Ascii, tmp_path: Path) -> None:
    sizes = ["--pairs", "2", "--dev_pairs", "1", "--test_pairs", "1"]
    for kind in ("builtin", "scenes"):
        folder = tmp_path / f"täglich-{kind}"
        assert str(folder) in in_ascii("data", "export", kind, str(folder), *sizes)
    assert "süd" in in_ascii("captions", "scenes", "--output", str(tmp_path / "süd"), "--count", "1")


@pytest.mark.parametrize("command", ["translate", "caption"])
def test_errors_of_the_others(in_ascii: Ascii, command: str) -> None:
    assert "größe is not a run folder" in in_ascii(command, "größe", code=2)


@pytest.mark.parametrize("command", [*COMMANDS])
def test_help(in_ascii: Ascii, command: str) -> None:
    assert "usage: softbellman" in in_ascii(command, "--help")


def test_a_name_that_is_no_text_is_escaped(in_ascii: Ascii) -> None:
    assert "\\udcff is not a run folder" in in_ascii("table", "\udcff", code=2)


def test_closed_streams_are_no_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["score", "--references", os.devnull]) == 2
    assert "standard input is closed" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["--version"]) == 0


def test_words_typed_in_an_ascii_locale_are_text() -> None:
    assert typed_text(os.fsdecode("größe".encode())) == "größe"


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
    ],
    ids=["C", "C without UTF-8", "ascii"],
)
def test_a_process_of_its_own(environment: dict[str, str]) -> None:
    words = ["oracle", "--reference", "größe", "--hypothesis", "größe baum"]
    found = subprocess.run(
        [sys.executable, "-m", "softbellman", *words], env={**os.environ, **environment},
        capture_output=True, timeout=120,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr.decode()
    assert "hypothesis:  größe baum" in found.stdout.decode()
