"""Runs as processes: at most so many, no shared stage twice at once, failures, signals, processes that go on after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from softbellman.experiments import workers as workers_module
from softbellman.experiments.plan import Job
from softbellman.experiments.workers import Stopped, Watcher, Workers
from softbellman.training.generations import Generation
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import Settings

TRAINER = """
import fcntl, json, os, re, signal, sys, time
from pathlib import Path

option, place = sys.argv[1:]
folder = Path(place) if option == "--resume" else Path(re.search(r"^output: (.*)$", open(place).read(), re.M).group(1))
folder.mkdir(parents=True, exist_ok=True)
lock = open(folder / "lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
plan = json.loads((folder.parent / "plan.json").read_text()).get(folder.name, {})
record = {"format": 1, "settings": {}, "data": {}, "changes": [], "sessions": [{"status": "running"}]}
def write(status):
    record["sessions"][-1]["status"] = status
    (folder / ".new").write_text(json.dumps(record))
    os.replace(folder / ".new", folder / "record.json")
def stop(*_):
    write("stopped")
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
write("running")
journal = open(folder.parent / "journal", "a")
def note(*words):
    journal.write(json.dumps([folder.name, os.environ.get("CUDA_VISIBLE_DEVICES"), option, *words]) + "\\n")
    journal.flush()
note("begun", time.time())
print("training", folder.name)
time.sleep(plan.get("actor", 0.3))
(folder / "checkpoints").mkdir(exist_ok=True)
(folder / "checkpoints" / "actor-000001.json").write_text((folder.parent / "ended.json").read_text())
note("actor", time.time())
time.sleep(plan.get("rest", 0.1))
note("ended", time.time())
if plan.get("fails"):
    sys.exit("it diverged")
write("finished")
"""
"""Stands for a training: takes the lock, notes times, writes a checkpoint of its first stage and a record."""


@pytest.fixture(autouse=True)
def poll_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "POLL_SECONDS", 0.02)


class Bench:
    """Jobs of the trainer above, and what it noted."""

    def __init__(self, root: Path) -> None:
        self.root, self.script = root, root / "trainer.py"
        self.script.write_text(TRAINER)
        (root / "part").mkdir()
        ended = Generation("actor", 1, 5, "", "", "", 1, 5, 1.0, 0, 1.0, "epochs")
        (root / "part" / "ended.json").write_text(json.dumps(asdict(ended)))
        self.plans: dict[str, dict[str, object]] = {}

    def job(self, name: str, shares: str = "", **plan: object) -> Job:
        self.plans[name] = plan
        (self.root / "part" / "plan.json").write_text(json.dumps(self.plans))
        folder = self.root / "part" / name
        settings = replace(Settings(), output=str(folder))
        return Job(f"part/{name}", "part", name, 1, settings, RunFolder(folder), {"actor": shares or name})

    def workers(self, count: int, **options: object) -> Workers:
        command = (sys.executable, str(self.script))
        return Workers(self.root, count=count, command=command, **options)  # type: ignore[arg-type]

    def journal(self) -> list[list[object]]:
        path = self.root / "part" / "journal"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def times(self, word: str) -> dict[str, float]:
        return {str(line[0]): float(line[4]) for line in self.journal() if line[3] == word}  # type: ignore[arg-type]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_all_are_trained_and_never_more_than_so_many(bench: Bench) -> None:
    jobs = [bench.job(f"run-{number}") for number in range(5)]
    assert bench.workers(2).run(jobs) == {}
    assert all(job.state() == "finished" for job in jobs)
    begun, ended = bench.times("begun"), bench.times("ended")
    for moment in begun.values():
        assert sum(begun[name] <= moment < ended[name] for name in begun) <= 2
    assert sorted(ended.values())[0] > sorted(begun.values())[1]  # two at a time
    assert (bench.root / "logs" / "part-run-3.log").read_text() == "training run-3\n"


def test_a_shared_stage_is_waited_for_and_others_go_first(bench: Bench) -> None:
    first = bench.job("first", "same", actor=0.8, rest=0.6)
    second = bench.job("second", "same")
    other = bench.job("other", "alone")
    bench.workers(2).run([first, second, other])
    begun, shared = bench.times("begun"), bench.times("actor")
    assert begun["second"] > shared["first"]  # it finds the stage in the cache
    assert begun["other"] < shared["first"]  # and leaves its place to others meanwhile
    assert begun["second"] < bench.times("ended")["first"]  # the rest of the first run is its own


def test_a_failure_is_named_with_its_log_and_stops_nobody(bench: Bench) -> None:
    jobs = [bench.job("bad", fails=True), bench.job("good")]
    failed = bench.workers(1).run(jobs)
    assert failed == {"part/bad": bench.root / "logs" / "part-bad.log"}
    assert "it diverged" in failed["part/bad"].read_text() and jobs[1].state() == "finished"


def test_finished_runs_are_left_and_begun_ones_are_resumed(bench: Bench) -> None:
    jobs = [bench.job("one", fails=True), bench.job("two")]
    bench.workers(1).run(jobs)
    jobs[0] = bench.job("one")
    assert bench.workers(1).run(jobs) == {}
    begun = [(line[0], line[2]) for line in bench.journal() if line[3] == "begun"]
    assert begun == [("one", "--config"), ("two", "--config"), ("one", "--resume")]


def test_devices_are_dealt_to_the_processes(bench: Bench) -> None:
    jobs = [bench.job(f"run-{number}") for number in range(4)]
    bench.workers(2, devices=["3", "5"]).run(jobs)
    seen = {str(line[0]): line[1] for line in bench.journal()}
    assert set(seen.values()) == {"3", "5"} and seen["run-0"] == "3" and seen["run-1"] == "5"


def test_a_signal_stops_the_runs_in_order(bench: Bench) -> None:
    jobs = [bench.job("slow", actor=30), bench.job("never")]
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    with pytest.raises(Stopped, match="SIGTERM") as stopped:
        bench.workers(1).run(jobs)
    assert stopped.value.signal == signal.SIGTERM
    assert jobs[0].state() == "begun" and jobs[1].state() == "new"
    assert json.loads((jobs[0].folder.path / "record.json").read_text())["sessions"][0]["status"] == "stopped"


def test_processes_that_outlived_a_kill_have_their_places_and_are_waited_for(bench: Bench) -> None:
    jobs = [bench.job("orphan", actor=1.5), bench.job("next")]
    path = bench.root / "orphan.yaml"
    path.write_text(f"output: {jobs[0].folder.path}\n")
    orphan = subprocess.Popen(
        [sys.executable, str(bench.script), "--config", str(path)], stdout=subprocess.DEVNULL
    )
    while jobs[0].state() != "running":
        time.sleep(0.02)
    assert bench.workers(1).run(jobs) == {}
    assert orphan.wait() == 0 and all(job.state() == "finished" for job in jobs)
    assert bench.times("begun")["next"] > bench.times("ended")["orphan"]
    assert sum(line[3] == "begun" for line in bench.journal()) == 2  # nobody trained the orphan's run again


def test_a_process_is_known_before_it_has_a_run_folder(bench: Bench) -> None:
    """Data are read before anything is written; an experiment that is begun again meanwhile must not begin the run twice."""
    job = bench.job("early")
    script = bench.script.read_text()
    bench.script.write_text(f"import time\ntime.sleep(1.5)\n{script}")
    killed = bench.workers(1)
    killed._start(job)  # and nobody waits for it
    assert job.state() == "new"
    assert bench.workers(1).run([job]) == {}
    assert [line[3] for line in bench.journal()] == ["begun", "actor", "ended"]


def test_the_watcher_is_told(bench: Bench) -> None:
    told: list[str] = []

    class Notes(Watcher):
        def begun(self, job: Job) -> None:
            told.append(f"begun {job.condition}")

        def ended(self, job: Job, seconds: float | None, log: Path | None) -> None:
            assert seconds is not None and 0.3 < seconds < 20
            told.append(f"ended {job.condition} {log is None}")

    bench.workers(1, watcher=Notes()).run([bench.job("one"), bench.job("two", fails=True)])
    assert told == ["begun one", "ended one True", "begun two", "ended two False"]


def test_seeds_of_stages_that_runs_share() -> None:
    settings = replace(Settings(), seed=5, actor_seed=2, reader_seed=3)
    stages = ("actor", "warmup", "oracle", "critic", "joint", "augmented", "completion")
    assert [settings.seed_of(stage) for stage in stages] == [2, 3, 3, 5, 5, 5, 5]
    assert replace(settings, actor_seed=0).seed_of("actor") == 5
