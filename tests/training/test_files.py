"""Files are whole or as they were: on a full disk, when the process is killed, when others wrote there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from softbellman.core.files import beside, replacing, write_atomically
from softbellman.training.files import (
    DamagedFile,
    append,
    read_json,
    sweep,
    write_json,
)


@pytest.mark.parametrize("failing", ("fsync", "replace"))
def test_a_full_disk_names_the_file_which_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "weights"
    write_atomically(path, b"before")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(path, b"after")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "error", [ValueError("no picture"), KeyboardInterrupt(), OSError(errno.EIO, "broken")]
)
def test_what_fails_while_it_is_written_leaves_the_file_and_no_other(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "deeper" / "picture.png"
    write_atomically(path, b"before")
    with pytest.raises(type(error)), replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"before" and list(path.parent.iterdir()) == [path]
    with replacing(path) as temporary:
        temporary.write_bytes(b"after")
        assert path.read_bytes() == b"before"
    assert path.read_bytes() == b"after" and list(path.parent.iterdir()) == [path]


def test_a_full_disk_names_the_file_that_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    append(path, "ü\n")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        append(path, "more\n")
    assert caught.value.filename == str(path)
    assert path.read_text().startswith("ü\n")


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    for path in (tmp_path / "a.json", tmp_path / "deeper" / "b.state"):
        beside(path).write_bytes(b"half")
        path.write_bytes(b"whole")
    beside(tmp_path / "entry").mkdir()
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.json", "b.state", "deeper"]


def test_json_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"ü": [1, None]})
    assert read_json(path) == {"ü": [1, None]}
    for content in (b"", b"{", b"\xff", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(DamagedFile, match=r"x\.json is damaged"):
            read_json(path)
