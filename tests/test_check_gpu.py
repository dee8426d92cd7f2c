"""What a GPU has to show: its command lines run on the CPU, its limits end what hangs, its files say what came."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script as a module, with a scratch folder of its own."""
    spec = importlib.util.spec_from_file_location("check_gpu", ROOT / "scripts" / "check_gpu.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "check_gpu", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SCRATCH", tmp_path / "scratch")
    return module


def summary(out: Path, call: str = "first") -> dict[str, dict[str, object]]:
    content = json.loads((out / f"{call}-summary.json").read_text())
    return {step["step"]: step for step in content["steps"]}


def test_a_dry_run_runs_the_steps_on_the_cpu(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [
        "bash",
        "scripts/check_gpu.sh",
        str(out),
        "rest",
        "--dry-run",
        "--steps",
        "works",
        "bleu",
        "overhead",
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert {file.name for file in out.iterdir()} == {"rest-summary.json", "rest-results.json", "rest-log.txt"}
    assert [(name, step["rc"]) for name, step in summary(out, "rest").items()] == [
        ("works", 0), ("overhead", 0), ("bleu", 0),
    ]  # fmt: skip
    assert json.loads((out / "rest-results.json").read_text()).keys() == {"bleu", "overhead"}
    assert "$ " in (out / "rest-log.txt").read_text()


@pytest.mark.parametrize("call", ["first", "rest"])
def test_every_benchmark_takes_the_options_of_its_step(
    script: ModuleType,
    tmp_path: Path,
    call: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With `--help` behind them: a wrong value ends the run before, and the help has every option."""
    monkeypatch.syspath_prepend(str(ROOT))
    run = script.Run(call, tmp_path, dry=False, budget=1.0)
    checked = 0
    for step in script.steps_of(run, {}):
        if step.name in ("tests", "memcheck", "racecheck"):
            continue
        for _, *command in step.commands():
            if command[0] == "-m" and command[1].startswith("benchmarks."):
                monkeypatch.setattr(sys, "argv", [*command[1:], "--help"])
                with pytest.raises(SystemExit) as ended:
                    importlib.import_module(command[1]).main()
                text = capsys.readouterr().out
                assert ended.value.code == 0
                assert not [word for word in command if word.startswith("--") and word not in text]
                checked += 1
    assert checked >= 3


def test_a_step_that_fails_or_hangs_stops_no_other(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def python(code: str) -> list[list[str]]:
        return [[sys.executable, "-c", code]]

    hang = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    steps = [
        script.Step("hangs", 0.2, lambda: python(hang)),  # ten times that in a dry run
        script.Step("fails", 5, lambda: [*python("print('fine')"), *python("raise SystemExit(3)")]),
        script.Step("works", 5, lambda: python("print('done')")),
    ]
    monkeypatch.setattr(script, "steps_of", lambda run, variables: steps)
    monkeypatch.setattr(script, "SHORTEST", 0.1)
    started = time.monotonic()
    assert script.main([str(tmp_path / "out"), "--dry-run"]) == 1
    assert time.monotonic() - started < 30
    found = summary(tmp_path / "out")
    assert {name: step["rc"] for name, step in found.items()} == {"hangs": 124, "fails": 3, "works": 0}
    assert found["fails"]["ends"][0] == "fine"
    assert "failed: hangs, fails" in capsys.readouterr().out

    assert script.main([str(tmp_path / "out"), "--dry-run", "--budget", "0.05"]) == 1
    assert summary(tmp_path / "out")["works"]["ends"] == ["no time was left"]


def test_an_unknown_step_is_a_usage_error(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        script.main([str(tmp_path), "--dry-run", "--steps", "kernel"])
    assert "--steps takes packages, build, works, tests, kernels" in capsys.readouterr().err
