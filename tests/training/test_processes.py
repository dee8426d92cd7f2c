"""Several processes train what one does: losses, gradients, draws, checkpoints; a lost process ends the job."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training import shared_updates
from training.harness import Killed, die_before, metrics_of, same_run, weights_of
from training.jobs import Job, TrainingJob, job_environments

from softbellman import config
from softbellman.data import Batch
from softbellman.training import run
from softbellman.training.processes import Group, Processes, set_threads
from softbellman.training.settings import CheckpointSettings, Settings
from softbellman.training.stages import JointStage

# Exchanges and updates ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found."""
    place = tmp_path_factory.mktemp("job")
    assert Job(shared_updates.find, place).codes() == [0, 0]
    return [torch.load(place / f"{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """The updates of one process."""
    torch.set_num_threads(1)
    return shared_updates.all_updates()


def test_what_processes_tell_each_other(found: list[dict[str, Any]]) -> None:
    for one in (own["exchanges"] for own in found):
        assert one["largest"] == 6
        assert one["agree"] == {"rank": 0}
        assert one["gather"] == [0, 1]
        assert one["spread"] == [(0, 0), (1, 1), (2, 0), (3, 1), (4, 0)]
        assert one["sent"] == 6.0
        assert one["weights"].startswith(
            "the weights of stage actor after update 3 differ between the processes"
        )
        assert one["differ"] == "the ranks differ between the processes 0 and 1; they must be the same"
    assert found[0]["exchanges"]["together"] == "ValueError: no such folder"
    assert found[1]["exchanges"]["together"] == "LostProcess: process 0 of 2 failed: no such folder"


@pytest.mark.parametrize("case", shared_updates.CASES)
def test_updates_are_those_of_one_process(
    found: list[dict[str, Any]], alone: dict[str, Any], case: str
) -> None:
    """Sums of losses, norms and gradients of the same batches, and what a validation then says."""
    largest = 0.0
    ours, theirs = (one["updates"][case] for one in found)
    for (sums, gradients), (wanted, expected) in zip(ours, alone[case], strict=True):
        assert sums == pytest.approx(wanted, rel=1e-6, abs=1e-6, nan_ok=True)
        assert gradients.keys() == expected.keys()
        for name, gradient in expected.items():
            scale = float(gradient.abs().max())
            torch.testing.assert_close(gradients[name], gradient, rtol=0, atol=2e-5 * scale + 1e-7, msg=name)
            largest = max(largest, float((gradients[name] - gradient).abs().max()) / max(scale, 1e-3))
    for (sums, gradients), (wanted, expected) in zip(theirs, ours, strict=True):
        assert sums == pytest.approx(wanted, rel=0, abs=0, nan_ok=True)
        assert all(torch.equal(gradients[name], gradient) for name, gradient in expected.items())
    losses = [
        abs(sums[name] / value - 1)
        for (sums, _), (wanted, _) in zip(ours, alone[case], strict=True)
        for name, value in wanted.items()
        if value
    ]
    print(f"{case}: largest relative difference of a loss {max(losses):.1e}, of a gradient {largest:.1e}")


@pytest.mark.parametrize(("rows", "count"), ((7, 2), (8, 3), (1, 2), (2, 5), (4, 4)))
def test_every_row_is_trained_on_once(rows: int, count: int) -> None:
    tokens = torch.arange(3 * rows).view(rows, 3) + 4
    whole = Batch(tokens, tokens, tokens[:, None], torch.full((rows, 1), 3), torch.arange(rows))
    parts = [Group(rank, count, minutes=1.0).share(whole) for rank in range(count)]
    counted = [part for part in parts if part.share]
    assert torch.equal(torch.cat([part.index for part in counted]), whole.index)
    assert [part.first for part in counted] == [int(part.index[0]) for part in counted]
    assert sum(part.share for part in parts) == pytest.approx(1.0)
    assert all(len(part) >= 1 for part in parts)
    assert Processes().share(whole) is whole


def test_a_process_takes_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0))
    for name, value in job_environments(2)[0].items():
        monkeypatch.setenv(name, value)
    for asked, variable, wanted in ((0, "1", max(1, cores // 2)), (3, "1", 3), (0, "5", threads)):
        torch.set_num_threads(threads)
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
        set_threads(asked)
        assert torch.get_num_threads() == wanted


# Runs -----------------------------------------------------------------------------------------------------------------

TOLERANCE = 1e-6


@pytest.fixture
def small(tiny_settings: Settings) -> Settings:
    """Six updates of each stage, a checkpoint after each."""
    return replace(
        tiny_settings,
        data=replace(tiny_settings.data, pairs=120),
        actor=replace(tiny_settings.actor, schedule=replace(tiny_settings.actor.schedule, epochs=1)),
        joint=replace(tiny_settings.joint, schedule=replace(tiny_settings.joint.schedule, interval=3)),
        checkpoint=CheckpointSettings(updates=1),
    )


@pytest.fixture
def dry(small: Settings) -> Settings:
    """Without dropout, whose masks depend on the number of processes."""
    return replace(small, actor=replace(small.actor, dropout=0.0), critic=replace(small.critic, dropout=0.0))


def same_losses(left: Path, right: Path) -> float:
    """Two runs did the same within the rounding of sums; returns the largest relative difference."""
    largest = 0.0
    for found, wanted in zip(metrics_of(left), metrics_of(right), strict=True):
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            if isinstance(value, float):
                assert found[name] == pytest.approx(value, rel=TOLERANCE, abs=TOLERANCE), (name, wanted)
                largest = max(largest, abs(found[name] - value) / max(abs(value), 1.0))
            elif name == "measures":  # of health: {name: {"value": number, "unit": text}}
                assert found[name].keys() == value.keys()
                for measure, number in value.items():
                    assert found[name][measure]["value"] == pytest.approx(number["value"], rel=1e-4, abs=1e-4)
            else:
                assert found[name] == value, (name, wanted)
    for path in (right / "hypotheses").glob("*.txt"):
        assert (left / "hypotheses" / path.name).read_bytes() == path.read_bytes()
    return largest


def test_two_processes_continue_the_run_of_one_and_the_reverse(
    dry: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(replace(dry, output=str(tmp_path / "whole"))).folder
    by_one = replace(dry, output=str(tmp_path / "by-one"))
    assert TrainingJob(by_one, tmp_path, killed_at=2).codes() == [-signal.SIGKILL] * 2
    run(by_one, resume=Path(by_one.output))
    differences = [same_losses(Path(by_one.output), whole)]

    die_before(monkeypatch, JointStage, 2)
    by_two = replace(dry, output=str(tmp_path / "by-two"))
    with pytest.raises(Killed):
        run(by_two)
    TrainingJob(by_two, tmp_path, resume=Path(by_two.output)).finish()
    differences.append(same_losses(Path(by_two.output), whole))
    print(f"largest relative differences: {', '.join(f'{difference:.1e}' for difference in differences)}")


def test_random_kills_of_two_processes_lose_nothing(small: Settings, tmp_path: Path) -> None:
    """Bit for bit, with dropout, mid-write included; one process writes."""
    whole = replace(small, output=str(tmp_path / "whole"), cache=str(tmp_path / "cache"))
    TrainingJob(whole, tmp_path).finish()
    session = json.loads((tmp_path / "whole" / "record.json").read_text())["sessions"][-1]
    assert session["processes"] == 2 and session["status"] == "finished"
    assert (tmp_path / "whole" / "log.txt").read_text().count("stage joint is done") == 1

    folder, chance, kills = Path(small.output), random.Random(4), 0
    for _ in range(10):
        resume = folder if (folder / "record.json").exists() else None
        job, before = TrainingJob(small, tmp_path, resume=resume), progress(folder)
        job.wait_for(
            lambda job=job, before=before: progress(folder) != before or job.codes_now() != [None] * 2
        )
        time.sleep(chance.uniform(0.0, 0.1))
        job.kill()
        if job.codes_now() == [0, 0]:
            break
        kills += 1
    TrainingJob(small, tmp_path, resume=folder).finish()
    assert kills >= 3
    same_run(folder, Path(whole.output))
    assert weights_of(folder).keys() == {
        f"{stage}-{which}" for stage in ("actor", "critic", "joint") for which in ("best", "last")
    }
    assert not list(tmp_path.rglob("*.part")), "temporary files of killed processes"

    cached = replace(whole, output=str(tmp_path / "cached"))
    TrainingJob(cached, tmp_path).finish()
    same_run(Path(cached.output), Path(whole.output))
    assert {path.name.partition("-")[0] for path in (tmp_path / "cache").iterdir()} == {"actor", "critic"}


def progress(folder: Path) -> list[str]:
    """The checkpoints that count."""
    return sorted(path.name for path in folder.glob("checkpoints/*.json"))


# Ends -----------------------------------------------------------------------------------------------------------------


def long_run(settings: Settings) -> Settings:
    """Maximum likelihood that does not end by itself while a test looks."""
    schedule = replace(settings.actor.schedule, epochs=500, max_decays=500, collapse=0.0)
    return replace(settings, algorithm="mle", actor=replace(settings.actor, schedule=schedule))


def test_a_signal_to_one_process_stops_all_after_the_same_update(
    tiny_settings: Settings, tmp_path: Path
) -> None:
    job, folder = TrainingJob(long_run(tiny_settings), tmp_path), Path(tiny_settings.output)
    job.wait_for(lambda: (folder / "metrics.jsonl").exists())
    for _ in range(2):  # the second must not stop one of them at once
        job.signal(1, signal.SIGTERM)
    assert job.codes() == [143, 143]
    assert "stopped by SIGTERM; softbellman-train --resume" in job.errors(0) and not job.errors(1)
    newest = json.loads(max(folder.glob("checkpoints/actor-0*.json")).read_text())
    assert newest["step"] > 0 and not newest["ended"]


@pytest.mark.parametrize(
    ("number", "minutes", "seconds"), ((signal.SIGKILL, 1.0, 30.0), (signal.SIGSTOP, 0.2, 60.0))
)
def test_a_lost_process_ends_the_job_with_a_sentence(
    tiny_settings: Settings, tmp_path: Path, number: int, minutes: float, seconds: float
) -> None:
    """At once where it died, after `process_timeout` where it does not answer."""
    settings = replace(long_run(tiny_settings), process_timeout=minutes)
    job, folder = TrainingJob(settings, tmp_path), Path(settings.output)
    job.wait_for(lambda: (folder / "metrics.jsonl").exists())
    job.signal(1, number)
    started = time.monotonic()
    job.processes[0].join(60)
    assert time.monotonic() - started < seconds
    job.kill()
    assert job.processes[0].exitcode == 2
    err = job.errors(0)
    sentence = f"process 0 of 2 lost another one: it ended, or did not answer for {minutes:g} minutes"
    assert f"softbellman: error: {sentence}" in err and "Traceback" not in err
    session = json.loads((folder / "record.json").read_text())["sessions"][-1]
    assert session["status"] == "failed" and session["reason"].startswith(sentence)


def test_sigterm_to_torchrun_writes_one_checkpoint(tiny_settings: Settings, tmp_path: Path) -> None:
    """By the console script; all processes stop after the same update, which a checkpoint has."""
    settings, folder = long_run(tiny_settings), Path(tiny_settings.output)
    (tmp_path / "settings.yaml").write_text(config.dump(settings))
    script = Path(sys.executable).with_name("softbellman-train")
    program = [str(script)] if script.exists() else ["-m", "softbellman.cli.train"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launched = subprocess.Popen(
        [*launcher, *program, "--config", str(tmp_path / "settings.yaml"), "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(6000):
        if (folder / "metrics.jsonl").exists() or launched.poll() is not None:
            break
        time.sleep(0.01)
    launched.send_signal(signal.SIGTERM)
    out, err = launched.communicate(timeout=60)
    record = json.loads((folder / "record.json").read_text())
    assert record["sessions"][-1]["status"] == "stopped", err
    assert record["sessions"][-1]["processes"] == 2
    assert err.count("stopped by SIGTERM; softbellman-train --resume") == 1
    newest = max(folder.glob("checkpoints/actor-0*.json"))
    assert json.loads(newest.read_text())["step"] > 0
    assert out.count("actor") > 0
