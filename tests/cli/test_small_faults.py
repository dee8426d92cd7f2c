"""Strange values, paths and folders: each is a sentence or is survived, and nothing is written outside."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from softbellman.config import ConfigError, load
from softbellman.training.lock import FolderLock, NoLockError
from softbellman.training.settings import Settings

RunCommand = Callable[..., Any]

TINY = {
    "algorithm": "mle", "threads": "1", "data.pairs": "60", "data.dev_pairs": "6", "data.test_pairs": "6",
    "data.min_frequency": "1", "model.embedding": "8", "model.hidden": "8", "model.attention_size": "8",
    "actor.schedule.max_updates": "2", "actor.schedule.batch_size": "10", "evaluation.max_length": "8", "evaluation.beam": "1",
}  # fmt: skip


def train_words(run: Path) -> list[str]:
    return [
        "train",
        "--quiet",
        "--output",
        str(run),
        *(word for key, value in TINY.items() for word in (f"--{key}", value)),
    ]


def error(outcome: Any) -> str:
    code, out, err = outcome
    assert code == 2 and not out and err.count("\n") == 1
    assert err.startswith("softbellman: error: ") and len(err) < 500
    return str(err)


def test_resume_with_another_output_is_refused(softbellman: RunCommand, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert softbellman(*train_words(run)).code == 0
    before = (run / "config.yaml").read_bytes(), (run / "record.json").read_bytes()
    words = ["train", "--resume", str(run), "--output", str(tmp_path / "other")]
    assert "--output and --resume exclude each other" in error(softbellman(*words))
    assert not (tmp_path / "other").exists()
    assert before == ((run / "config.yaml").read_bytes(), (run / "record.json").read_bytes())


def test_a_folder_in_the_place_of_the_curve_ends_no_run(softbellman: RunCommand, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "curve.png" / "inner").mkdir(parents=True)
    code, out, err = softbellman(*train_words(run))
    assert code == 0 and "MLE" in out
    assert f"softbellman: {run / 'curve.png'} cannot be written: Is a directory" in err
    assert (run / "hypotheses" / "test-actor.txt").is_file()


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_lock_that_is_no_file_is_a_sentence(softbellman: RunCommand, tmp_path: Path, kind: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    if kind == "pipe":
        os.mkfifo(run / "lock")
    else:
        (run / "lock").mkdir()
    wanted = f"{run / 'lock'} is no plain file, so that no process can hold the folder; remove it"
    assert wanted in error(softbellman(*train_words(run)))
    with pytest.raises(NoLockError, match="is no plain file"), FolderLock(run):
        pass
    assert sorted(path.name for path in run.iterdir()) == ["lock"]


@pytest.mark.parametrize("option", ["--train", "--dev", "--test", "--source", "--target"])
@pytest.mark.parametrize("name", ["../up", "/tmp/up", "a/b", "", "..", "a\tb"])
def test_exports_stay_in_their_folder(
    softbellman: RunCommand, tmp_path: Path, option: str, name: str
) -> None:
    folder = tmp_path / "in" / "corpus"
    sizes = ["--pairs", "20", "--dev_pairs", "4", "--test_pairs", "4"]
    words = ["data", "export", "builtin", str(folder), *sizes, f"{option}={name}"]
    assert "cannot be the name of a split or a side" in error(softbellman(*words))
    if option not in ("--source", "--target"):
        assert "cannot be the name of a split" in error(
            softbellman("data", "export", "scenes", str(folder), *sizes, f"{option}={name}")
        )
    assert not list(tmp_path.rglob("*up*")) and not folder.exists()


def test_a_full_disk_leaves_no_half_picture(
    softbellman: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def imsave(path: Any, pixels: Any, **options: Any) -> None:
        Path(path).write_bytes(b"half")
        written.append(Path(path))
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("matplotlib.image.imsave", imsave)
    sizes = ["--pairs", "4", "--dev_pairs", "2", "--test_pairs", "2"]
    shown = error(softbellman("data", "export", "scenes", str(tmp_path / "s"), *sizes))
    assert "No space left on device" in shown and ".part" not in shown
    assert len(list((tmp_path / "s").glob("*.png"))) == 2 and not list((tmp_path / "s").glob(".*"))


def test_a_full_disk_leaves_no_half_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from softbellman.data import generate_builtin

    splits = generate_builtin(pairs=20, dev_pairs=4, test_pairs=4)
    monkeypatch.setattr("os.fsync", _no_space)
    with pytest.raises(OSError, match="No space left on device"):
        splits["train"].write(tmp_path / "c", "train")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def _no_space(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("seed", "9" * 5000),
        ("actor.schedule.epochs", "9" * 5000),
        ("joint.schedule.epochs", "x" * 5000),
        ("credit.tau", "y" * 5000),
        ("algorithm", "z" * 5000),
        ("evaluation.beam", "-" + "9" * 4000),
        ("k" * 5000 + ".tau", "1"),
    ],
)
def test_long_values_are_not_echoed_whole(softbellman: RunCommand, key: str, text: str) -> None:
    shown = error(softbellman("train", f"--{key}={text}", "--print-config"))
    assert "characters)" in shown or "more than 40 digits" in shown


def test_long_values_in_files_are_not_echoed_whole(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"seed: {'9' * 5000}\n")
    with pytest.raises(ConfigError) as caught:
        load(Settings, path)
    assert len(str(caught.value)) < 300 and "5,000 characters" in str(caught.value)


def test_nul_characters_are_named(softbellman: RunCommand, tmp_path: Path) -> None:
    for words in (["translate", "a\0b"], ["show", "a\0b"], ["train", "--output", "a\0b"]):
        assert "an argument holds a NUL character" in error(softbellman(*words))
    path = tmp_path / "c.yaml"
    path.write_text('data: {kind: parallel, path: "a\\0b"}\n')
    with pytest.raises(ConfigError, match=r"data\.path holds a NUL character, which no path can: 'a\\x00b'"):
        load(Settings, path)


def test_a_length_penalty_that_overflows_is_out_of_range(softbellman: RunCommand) -> None:
    shown = error(softbellman("train", "--evaluation.length_penalty", "1e308", "--print-config"))
    assert "'evaluation.length_penalty' must be from -20 to 20, given 1e+308" in shown
