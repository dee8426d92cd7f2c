"""The mean of checkpoints: its numbers, its place among checkpoints, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from softbellman.cli.main import main
from softbellman.training import load_run, run
from softbellman.training.averaging import average_weights, checkpoints_of
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import CheckpointSettings, Settings


@pytest.fixture
def folder(tiny_settings: Settings) -> RunFolder:
    settings = replace(tiny_settings, algorithm="mle", checkpoint=CheckpointSettings(keep=4, updates=3))
    return RunFolder(run(settings).folder)


def test_the_mean_of_the_last_checkpoints(
    folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = checkpoints_of(folder, "actor", last=3)
    every = checkpoints_of(folder, "actor")
    assert len(paths) == 3 and paths == every[-3:] and len(every) >= 4
    output = tmp_path / "mean.safetensors"
    assert main(["average", str(folder.path), "--last", "3", "--output", str(output)]) == 0
    numbers = ", ".join(str(int(path.stem.split("-")[1])) for path in paths)
    assert f"the mean of checkpoints {numbers} of stage actor" in capsys.readouterr().out
    files = [load_file(path) for path in paths]
    found = load_file(output)
    assert found.keys() == files[0].keys()
    moved = 0
    for name, value in found.items():
        wanted = torch.stack([file[name].double() for file in files]).mean(0).to(value.dtype)
        torch.testing.assert_close(value, wanted, rtol=1e-6, atol=1e-7)
        moved += not torch.equal(value, files[-1][name])
    assert moved > 5
    actor = load_run(folder.path, str(output))
    for name, value in actor.model.state_dict().items():
        assert torch.equal(value, found[f"actor.{name}"])


def test_chosen_checkpoints(folder: RunFolder, tmp_path: Path) -> None:
    newest = int(checkpoints_of(folder, "actor")[-1].stem.split("-")[1])
    alone = checkpoints_of(folder, "actor", numbers=[newest])
    average_weights(folder, "actor", alone, tmp_path / "one.safetensors")
    first, second = load_file(tmp_path / "one.safetensors"), load_file(alone[0])
    assert all(torch.equal(first[name], second[name]) for name in second)


def test_what_is_refused(folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(*words: str) -> str:
        assert main(["average", str(folder.path), *words]) == 2
        shown = capsys.readouterr().err
        assert shown.count("\n") == 1
        return shown

    output = ["--output", str(tmp_path / "x.safetensors")]
    assert "has no checkpoint 999 of stage actor; present: " in error("--checkpoints", "999", *output)
    assert "and the last 50 are asked for; checkpoint.keep says how many" in error("--last", "50", *output)
    assert "the stages of" in error("--stage", "joint", *output)
    assert "must end in .safetensors" in error("--output", str(tmp_path / "x.bin"))
    (tmp_path / "x.safetensors").write_text("")
    assert "exists already" in error(*output)
    path = checkpoints_of(folder, "actor")[-1]
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    assert "is damaged or was replaced" in error("--output", str(tmp_path / "y.safetensors"))
    assert not (tmp_path / "y.safetensors").exists()
    with pytest.raises(ValueError, match="is missing"):
        load_run(folder.path, str(tmp_path / "nowhere.safetensors"))
