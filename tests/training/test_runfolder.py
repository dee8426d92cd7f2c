"""Run folders: creation, metrics that survive a kill, hypotheses, atomic files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from softbellman.training.runfolder import RunFolder, RunFolderError, new_run_path, read_metrics


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    made.create("seed: 1\n")
    (made.path / "record.json").write_text("{}")
    return made


def log_stage(folder: RunFolder, stage: str, steps: int) -> None:
    for step in range(steps + 1):
        folder.log(stage=stage, kind="dev", epoch=float(step), step=step, dev_bleu=float(step % 3))


def keys(folder: RunFolder) -> list[tuple[str, int]]:
    return [(record["stage"], record.get("step", -1)) for record in folder.read_metrics()]


def test_a_folder_holds_one_run(folder: RunFolder, tmp_path: Path) -> None:
    assert folder.config_path.read_text() == "seed: 1\n" and folder.checkpoints.is_dir()
    with pytest.raises(RunFolderError, match="already holds a run; continue it with --resume"):
        RunFolder(folder.path).create("seed: 2\n")
    assert folder.config_path.read_text() == "seed: 1\n"
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="is a file"):
        RunFolder(tmp_path / "file").create("")
    assert RunFolder.open(folder.path).path == folder.path
    with pytest.raises(RunFolderError, match="does not exist"):
        RunFolder.open(tmp_path / "nowhere")
    with pytest.raises(RunFolderError, match="it is a file"):
        RunFolder.open(tmp_path / "file")
    with pytest.raises(RunFolderError, match=r"holds no config\.yaml"):
        RunFolder.open(tmp_path)
    assert folder.weights("joint", "best") == folder.path / "checkpoints" / "joint-best.safetensors"
    (folder.path / "record.json").unlink()
    RunFolder(folder.path).create("seed: 2\n")  # of a start that was killed


def test_the_line_that_continues_a_run_is_quoted(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "r/erac \u00e5 #1")
    folder.create("seed: 1\n")
    (folder.path / "record.json").write_text("{}")
    with pytest.raises(RunFolderError) as caught:
        folder.check_free()
    assert str(caught.value).endswith(f"continue it with --resume '{folder.path}'")


def test_records_are_json_lines_of_plain_numbers(folder: RunFolder) -> None:
    folder.log(stage="actor", kind="train", loss=torch.tensor(0.5), rank=math.nan, rate=math.inf, text="ü")
    folder.log(stage="actor", kind="dev", step=3)
    first, second = folder.metrics_path.read_text().splitlines()
    expected = {"stage": "actor", "kind": "train", "loss": 0.5, "rank": None, "rate": None, "text": "ü"}
    assert json.loads(first) == expected and json.loads(second)["step"] == 3


def test_truncation_drops_only_what_will_be_repeated(folder: RunFolder) -> None:
    log_stage(folder, "actor", 2)
    log_stage(folder, "critic", 4)
    folder.log(stage="actor", kind="test", test_bleu=1.0)
    assert folder.count_records("actor") == 3 and folder.count_records("critic") == 5
    assert folder.truncate_metrics("critic", 3) == 2
    assert keys(folder) == [
        *(("actor", i) for i in range(3)),
        *(("critic", i) for i in range(3)),
        ("actor", -1),
    ]
    assert folder.truncate_metrics("actor", 3) == 1
    assert ("actor", -1) not in keys(folder) and len(keys(folder)) == 6
    assert folder.truncate_metrics("critic", None) == 3
    assert keys(folder) == [("actor", 0), ("actor", 1), ("actor", 2)]


def test_half_a_line_left_by_a_kill_is_forgotten(folder: RunFolder) -> None:
    log_stage(folder, "actor", 2)
    with open(folder.metrics_path, "a") as stream:
        stream.write('{"stage": "actor", "st')
    assert len(folder.read_metrics()) == 3
    (folder.path / "checkpoints" / ".actor-best.safetensors.17.part").write_text("half")
    folder.repair()
    folder.log(stage="actor", kind="dev", step=3)
    assert keys(folder)[-1] == ("actor", 3) and len(keys(folder)) == 4
    assert not list(folder.checkpoints.iterdir())
    folder.metrics_path.write_text('{"stage": 1}\n{broken}\n{"stage": 2}\n')
    with pytest.raises(RunFolderError, match=r"metrics\.jsonl:2: not a JSON object"):
        read_metrics(folder.metrics_path)
    assert [record["stage"] for record in folder.read_metrics()] == [1, 2], "a run goes on without the line"


def test_copies(folder: RunFolder, tmp_path: Path) -> None:
    log_stage(folder, "actor", 5)
    log_stage(folder, "joint", 1)
    folder.log(stage="actor", kind="test", dev_bleu=99.0)
    folder.copy_metrics("actor", tmp_path / "kept.jsonl")
    assert [record["step"] for record in read_metrics(tmp_path / "kept.jsonl")] == list(range(6))
    other = RunFolder(tmp_path / "other")
    other.append_metrics(tmp_path / "kept.jsonl")
    assert other.read_metrics() == folder.read_metrics()[:6]


def test_hypotheses_keep_their_lines(folder: RunFolder) -> None:
    path = folder.write_hypotheses("test-joint", ["a b", "", "grün\u2028"])
    assert path == folder.path / "hypotheses" / "test-joint.txt"
    assert path.read_bytes().decode() == "a b\n\ngrün\u2028\n"
    assert folder.read_hypotheses("test-joint") == ["a b", "", "grün\u2028"]
    with pytest.raises(RunFolderError, match=r"test-actor\.txt does not exist"):
        folder.read_hypotheses("test-actor")
    with pytest.raises(ValueError, match="line 2 contains a line break"):
        folder.write_hypotheses("test-joint", ["a", "b\nc"])
    assert not [item for item in path.parent.iterdir() if item != path]


def test_new_runs_get_new_paths(tmp_path: Path) -> None:
    paths = []
    for _ in range(3):
        paths.append(new_run_path("erac", parent=tmp_path))
        paths[-1].mkdir()
    assert len(set(paths)) == 3 and all(path.name.startswith("erac-2") for path in paths)
