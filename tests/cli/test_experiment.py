"""`softbellman experiment` from end to end on runs that take seconds; its plan, its errors."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_settings_file import SETTINGS

from softbellman.report.fleet import FleetDisplay
from softbellman.report.progress import Progress
from softbellman.training.runfolder import RunFolder

RunCommand = Callable[..., Any]

TINY = """
title: Tiny
orderings: [MLE < ERAC, ERAC without future entropy < ERAC]
runs: 2
actors: 1
conditions:
  - {name: ERAC, config: tiny}
  - {name: ERAC without future entropy, config: tiny, set: [credit.future_entropy=false], baseline: ERAC}
parts:
  - {name: all}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(SETTINGS)
    path = tmp_path / "mine.yaml"
    path.write_text(TINY)
    return path


def start(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "softbellman", "experiment", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_an_experiment_survives_a_kill_and_ends_with_its_report(tiny: Path, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    words = (str(tiny), "--output", str(root), "--workers", "2", "--nice", "1")
    process = start(*words)
    logs = root / "logs"
    deadline = time.monotonic() + 120
    while not (logs.is_dir() and len(list(logs.iterdir())) >= 2) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    again = start(*words)
    out, _ = again.communicate(timeout=300)
    assert again.returncode == 0, out
    assert f"report: {root / 'report.html'}" in out and (root / "report.html").is_file()
    runs = sorted(path.name for path in (root / "all").iterdir())
    assert runs == [f"{name}-{n}" for name in ("erac", "erac-without-future-entropy") for n in (1, 2)]
    kept = sorted(path.name.split("-")[0] for path in (root / "cache").iterdir())
    assert kept == ["actor", *["critic"] * 4]  # one actor for four runs
    scores = {
        record["test_bleu"]
        for run in runs
        for record in RunFolder(root / "all" / run).read_metrics()
        if record["kind"] == "test" and record["stage"] == "actor"
    }
    assert len(scores) == 1
    text = (root / "report.html").read_text()
    assert "Tiny: all" in text and "ERAC without future entropy &lt; ERAC" in text and "1 start" not in text
    done = start(*words)
    out, _ = done.communicate(timeout=120)
    assert done.returncode == 0 and "4 of 4 runs are finished already" in out


def test_a_dry_run_says_what_would_be_run(softbellman: RunCommand, tiny: Path, tmp_path: Path) -> None:
    code, out, err = softbellman(
        "experiment", str(tiny), "--output", str(tmp_path / "runs"), "--dry-run", "--workers", "3"
    )
    assert code == 0 and err == "" and not (tmp_path / "runs").exists()
    lines = out.splitlines()
    assert lines[0] == f"4 runs in {tmp_path / 'runs'}, 3 at a time"
    assert re.fullmatch(r"  all/erac-1 +erac  new", lines[1])
    assert lines[-2:] == [
        "stage actor: trained 1 times for 4 runs",
        "stage critic: trained 4 times for 4 runs",
    ]


def test_a_run_that_fails_is_named_and_the_others_are_reported(
    softbellman: RunCommand, tiny: Path, tmp_path: Path
) -> None:
    tiny.write_text(
        TINY.replace("set: [credit.future_entropy=false]", "set: [joint.actor_optimizer.learning_rate=1e30]")
        .replace("runs: 2", "runs: 1")
    )  # fmt: skip
    root = tmp_path / "runs"
    code, out, err = softbellman(
        "experiment", str(tiny), "--output", str(root), "--workers", "1", "--nice", "0"
    )
    log = root / "logs" / "all-erac-without-future-entropy-1.log"
    assert code == 1 and f"softbellman: all/erac-without-future-entropy-1 failed; its log is {log}" in err
    assert "not finite" in log.read_text() and "report:" in out and (root / "report.html").is_file()


CHOICE = """
title: Steps
runs: 1
tuning_seeds: [5, 6]
conditions:
  - {name: small, config: tiny, set: [algorithm=mle, model.hidden=4]}
  - {name: chosen, config: tiny, set: [algorithm=mle], choose: ["actor.optimizer.learning_rate=1e-9,3e-2"]}
parts:
  - {name: all}
"""


def test_settings_are_chosen_on_validation_data_of_other_seeds(
    softbellman: RunCommand, tiny: Path, tmp_path: Path
) -> None:
    tiny.write_text(CHOICE)
    root, beside = tmp_path / "runs", tmp_path / "runs-trials"
    words = ("experiment", str(tiny), "--output", str(root), "--workers", "1", "--nice", "0", "--quiet")
    code, out, _ = softbellman(*words, "--dry-run")
    lines = out.splitlines()
    assert code == 0 and lines[0] == f"4 runs in {beside}, 1 at a time"
    assert f"2 runs in {root}, 1 at a time" in lines and "then, with what these choose:" in lines
    code, out, err = softbellman(*words)
    assert code == 0, err

    def validation(run: Path) -> float:
        (record,) = RunFolder(run).test_records()
        return float(record["dev_bleu"])

    tried = {
        rate: [validation(beside / "all" / f"chosen-learning-rate-{rate}-{seed}") for seed in (5, 6)]
        for rate in ("1e-9", "3e-2")
    }
    best = max(tried, key=lambda rate: sum(tried[rate]))
    assert sum(tried["1e-9"]) != sum(tried["3e-2"])
    found = RunFolder.open(root / "all" / "chosen-1")
    assert float(
        yaml.safe_load(found.config_path.read_text())["actor"]["optimizer"]["learning_rate"]
    ) == float(best)
    page = (root / "report.html").read_text()
    assert "on seeds 5, 6" in page and f"actor.optimizer.learning_rate={best}" in page
    for scores in tried.values():
        assert all(f"{score:.2f}" in page for score in scores)
    kept = tmp_path / "kept"
    code, _, err = softbellman("report", str(root), "--collect", str(kept))
    assert code == 0, err
    code, _, err = softbellman("report", str(kept), "--output", str(tmp_path / "kept.md"))
    text = (tmp_path / "kept.md").read_text()
    assert code == 0 and "2 trials each" in text and best in text, err
    code, _, err = softbellman(*words)
    assert code == 0, err  # nothing is trained again, and nothing was begun with other settings


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table9"], "table9: there is no such experiment; shipped: ablation, comparators"),
        (["table1", "--size", "full"], "part translation is left out; --data multi30k=DIR gives its data"),
        (["table1", "--data", "multi30k"], "--data expects NAME=DIR, given 'multi30k'"),
        (["table1", "--data", "x=y"], "--data x: with --size small the experiment reads no files"),
        (["table1", "--seed.x", "1"], "unknown key 'seed.x'"),
        (["table4", "--oracle.tau", "1"], "--oracle.tau: no condition uses it; the algorithms are ac, erac"),
        ([], "the following arguments are required: NAME|FILE.yaml"),
    ],
)
def test_errors_are_one_line(softbellman: RunCommand, tmp_path: Path, words: list[str], message: str) -> None:
    options = ["--output", str(tmp_path / "runs"), "--dry-run"]
    code, _, err = softbellman("experiment", *words, *options)
    assert code == 2 and message in err.splitlines()[-1]


def test_the_time_left_follows_from_the_runs_that_ended() -> None:
    from types import SimpleNamespace

    def job(condition: str) -> Any:
        return SimpleNamespace(name=condition, condition=condition, state=lambda: "new")

    display = FleetDisplay(Progress(quiet=True), [job("a")] * 4, workers=2)
    assert display.seconds_left([], [job("a")]) is None
    display.ended(job("a"), 100.0, None)
    running: Any = [SimpleNamespace(job=job("a"), begun=time.monotonic() - 40)]
    assert display.seconds_left(running, [job("a"), job("b")]) == pytest.approx((60 + 200) / 2, abs=1)
    assert display.seconds_left(running, []) == pytest.approx(60, abs=1)
