"""Runs that are stopped: by signals, by a kill at any moment, by a second process. Checkpoints change no number."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from training.harness import Killed, TrainingProcess, die_before, same_run

from softbellman.training import run
from softbellman.training.lock import FolderLock, LockedError
from softbellman.training.settings import CheckpointSettings, Settings
from softbellman.training.stages import ActorStage, JointStage, actor_critic
from softbellman.training.stopping import Stopped


@pytest.fixture
def whole(tiny_settings: Settings, tmp_path: Path) -> Path:
    """The run that nothing stops."""
    return run(replace(tiny_settings, output=str(tmp_path / "whole"))).folder


@pytest.mark.parametrize("kill_at", (2, 4, 6, 9))
def test_checkpoints_between_validations_change_no_number(
    tiny_settings: Settings, whole: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    """With dropout and draws, whose random state has to be kept."""
    settings = replace(tiny_settings, checkpoint=CheckpointSettings(updates=1, keep=1))
    die_before(monkeypatch, JointStage, kill_at)
    with pytest.raises(Killed):
        run(settings)
    steps = [
        json.loads(path.read_text())["step"]
        for path in Path(settings.output).glob("checkpoints/joint-0*.json")
    ]
    assert max(steps) == kill_at
    folder = run(settings, resume=Path(settings.output)).folder
    same_run(folder, whole)


def test_checkpoints_by_the_clock(tiny_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(tiny_settings, algorithm="mle", checkpoint=CheckpointSettings(minutes=1e-9))
    die_before(monkeypatch, ActorStage, 7)
    with pytest.raises(Killed):
        run(settings)
    steps = [
        json.loads(path.read_text())["step"]
        for path in Path(settings.output).glob("checkpoints/actor-0*.json")
    ]
    assert max(steps) == 7


@pytest.mark.parametrize("number", (signal.SIGTERM, signal.SIGINT))
@pytest.mark.parametrize("where", ("update", "evaluate"))
def test_a_signal_finishes_the_update_and_writes_it(
    tiny_settings: Settings, whole: Path, monkeypatch: pytest.MonkeyPatch, number: int, where: str
) -> None:
    owner, name = (JointStage, where) if where == "update" else (actor_critic, "judge_joint")
    calls, called = [], getattr(owner, name)

    def signalled(self, *arguments):
        calls.append(arguments)
        if len(calls) == 3:
            signal.raise_signal(number)
        return called(self, *arguments)

    handlers = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    monkeypatch.setattr(owner, name, signalled)
    with pytest.raises(Stopped) as caught:
        run(tiny_settings)
    assert caught.value.signal == number
    assert handlers == [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    monkeypatch.setattr(owner, name, called)
    folder = Path(tiny_settings.output)
    newest = max(folder.glob("checkpoints/joint-0*.json"))
    assert json.loads(newest.read_text())["step"] == (3 if where == "update" else 10)
    record = json.loads((folder / "record.json").read_text())
    assert record["sessions"][-1]["status"] == "stopped" and record["sessions"][-1]["ended"]
    assert f"stopped by {signal.Signals(number).name}" in (folder / "log.txt").read_text()
    run(tiny_settings, resume=folder)
    same_run(folder, whole)


def test_runs_in_other_threads_leave_signals_alone(tiny_settings: Settings) -> None:
    results = []
    settings = replace(tiny_settings, algorithm="mle")
    thread = threading.Thread(target=lambda: results.append(run(settings)))
    thread.start()
    thread.join()
    assert results[0].rows


@pytest.mark.parametrize(("number", "code"), ((signal.SIGTERM, 143), (signal.SIGINT, 130)))
def test_the_command_ends_with_a_stated_code(
    tiny_settings: Settings, tmp_path: Path, number: int, code: int
) -> None:
    process = TrainingProcess(replace(tiny_settings, algorithm="mle"), tmp_path)
    folder = Path(tiny_settings.output)
    wait_for(lambda: (folder / "metrics.jsonl").exists(), process)
    process.signal(number)
    found, _, err = process.end()
    assert found == code, err
    assert f"--resume {folder} continues" in err and "Traceback" not in err


def test_random_kills_lose_nothing(tiny_settings: Settings, whole: Path, tmp_path: Path) -> None:
    """Ten kills at random moments of a run that writes a checkpoint after every update, mid-write included."""
    settings = replace(tiny_settings, checkpoint=CheckpointSettings(updates=1))
    folder, chance = Path(settings.output), random.Random(20)
    kills, process = 0, TrainingProcess(settings, tmp_path)
    while process.process.poll() is None:
        if kills < 10:
            if not (folder / "record.json").exists():
                wait_for((folder / "record.json").exists, process)
            before = state(folder)
            wait_for(lambda before=before: state(folder) != before, process)
            time.sleep(chance.uniform(0.0, 0.15))
            process.kill()
            kills += 1
            process = TrainingProcess(settings, tmp_path, resume=folder)
        else:
            break
    code, _, err = process.end()
    assert code == 0, err
    assert kills >= 5
    same_run(folder, whole)
    assert not list(folder.rglob("*.part")), "temporary files of killed processes"


def state(folder: Path) -> tuple[int, int]:
    log = folder / "log.txt"
    return len(list(folder.glob("checkpoints/*.json"))), log.stat().st_size if log.exists() else 0


def wait_for(condition, process: TrainingProcess) -> None:
    """Until it holds or the process ended."""
    for _ in range(6000):
        if condition() or process.process.poll() is not None:
            return
        time.sleep(0.01)
    raise AssertionError("nothing happened for a minute")


def test_a_folder_is_written_by_one_process(tiny_settings: Settings) -> None:
    settings = replace(tiny_settings, algorithm="mle")
    folder = run(settings).folder
    before = (folder / "record.json").read_bytes()
    with FolderLock(folder), pytest.raises(LockedError, match=r"run is in use by process \d+ on "):
        run(settings, resume=folder)
    assert (folder / "record.json").read_bytes() == before
    run(settings, resume=folder)


def test_a_start_that_fails_leaves_no_folder(tiny_settings: Settings, tmp_path: Path) -> None:
    missing = replace(tiny_settings.data, kind="parallel", path=str(tmp_path / "nowhere"))
    likelihood = replace(tiny_settings.model, image_encoder="likelihood")
    for settings in (
        replace(tiny_settings, data=missing),
        replace(tiny_settings, model=likelihood),
        replace(tiny_settings, device="cuda:7"),
        replace(tiny_settings, credit=replace(tiny_settings.credit, tau=-1.0)),
    ):
        with pytest.raises(ValueError):
            run(settings)
        assert not Path(settings.output).exists()
    run(replace(tiny_settings, algorithm="mle"))
