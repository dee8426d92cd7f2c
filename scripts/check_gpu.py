"""What a GPU has to show, in two calls of under nine minutes: the most valuable first.

    scripts/check_gpu.sh OUT          # build, CUDA tests, each kernel at one shape, one update of each stage, sanitizer
    scripts/check_gpu.sh OUT rest     # compiled PyTorch beside the kernels, more shapes, payoffs, overhead, graphs, races
    scripts/check_gpu.sh OUT --dry-run [rest]     # every command line on the CPU at the smallest sizes

Needs torch with CUDA, cmake, ninja, pybind11 and setuptools for the Python that runs it, and no network. Missing packages
come from a folder of wheels, named by the environment variable WHEELS. Packages and the build go into `build/check_gpu`.

Every step has its own limit in seconds and a failing one does not stop the next. OUT gets three files a call, renewed
after each step: `first-summary.json` (exit code and seconds of each step), `first-results.json` (the record of every
benchmark) and `first-log.txt`. The exit code is 1 where a step failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SCRATCH = ROOT / "build" / "check_gpu"
SITE = SCRATCH / "site"
BUDGET = 510.0  # seconds of one call
LOG_BYTES = 1 << 20  # of one process that the log keeps, its end
SHARDS = 6
PACKAGES = (
    "pytest hypothesis pytest_timeout scipy numpy sacrebleu yaml tqdm safetensors matplotlib sentencepiece"
)
SANITIZED = "tokens_are_those or captur or draw"  # names of a few CUDA tests
TIMED_OUT = 124
SHORTEST = 5.0  # seconds with which a step is begun at all


@dataclass(frozen=True)
class Step:
    """Commands that run side by side, within `limit` seconds; `commands` makes them when their turn has come."""

    name: str
    limit: float
    commands: Callable[[], list[list[str]]]


@dataclass
class Run:
    """One call: where it writes, and what has come of its steps so far."""

    name: str
    out: Path
    dry: bool
    budget: float
    started: float = field(default_factory=time.monotonic)
    steps: list[dict[str, Any]] = field(default_factory=list)
    machine: dict[str, str] = field(default_factory=dict)

    @property
    def left(self) -> float:
        return self.budget - (time.monotonic() - self.started)

    def pick(self, real: str, dry: str) -> str:
        """The value of an option, by whether this is a dry run."""
        return dry if self.dry else real

    def folder(self) -> Path:
        return SCRATCH / f"{self.name}{'-dry' if self.dry else ''}"

    def write(self) -> None:
        """The three files, of all steps so far."""
        summary = {"call": self.name, "dry_run": self.dry, "machine": self.machine, "steps": self.steps}
        (self.out / f"{self.name}-summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        results = {}
        for file in sorted(self.folder().glob("*.json")):
            try:
                results[file.stem] = json.loads(file.read_text())
            except json.JSONDecodeError:  # the benchmark was stopped while it wrote
                continue
        (self.out / f"{self.name}-results.json").write_text(json.dumps(results, indent=1) + "\n")
        with (self.out / f"{self.name}-log.txt").open("wb") as log:
            for file in sorted(self.folder().glob("*.log")):
                log.write(f"\n==== {file.stem}\n".encode() + file.read_bytes()[-LOG_BYTES:])


def environment(dry: bool) -> dict[str, str]:
    """The modules of `SITE` before all others; CUDA for the device that is there alone."""
    added = {
        "PYTHONPATH": f"{SITE}{os.pathsep}{ROOT}",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if dry:
        return {**os.environ, **added, "SOFTBELLMAN_CUDA": "OFF"}
    import torch

    major, minor = torch.cuda.get_device_capability()
    flags = f"-DCMAKE_CUDA_ARCHITECTURES={major}{minor}-real {os.environ.get('CMAKE_ARGS', '')}"
    return {**os.environ, **added, "SOFTBELLMAN_CUDA": "ON", "CMAKE_ARGS": flags}


def run_step(run: Run, step: Step, variables: dict[str, str]) -> None:
    """Runs the step within its limit and what is left of the call, and writes the files anew."""
    # A dry run is for machines that are slower and busy; its limits only end what hangs.
    limit, begun = min(step.limit * (10 if run.dry else 1), run.left), time.monotonic()
    if limit < SHORTEST:
        code, processes, logs = TIMED_OUT, [], []
    else:
        processes, logs = [], []
        for number, command in enumerate(step.commands()):
            logs.append(run.folder() / f"{len(run.steps):02}-{step.name}-{number}.log")
            with logs[-1].open("wb") as log:
                log.write(f"$ {' '.join(command)}"[:2000].encode() + b"\n")
                log.flush()
                processes.append(
                    subprocess.Popen(
                        command, cwd=ROOT, env=variables, stdout=log, stderr=log, start_new_session=True
                    )
                )
        code = max((wait(process, begun + limit) for process in processes), default=0)
    ends = [end_of(log) for log in logs]
    found = {
        "step": step.name,
        "rc": code,
        "seconds": round(time.monotonic() - begun, 1),
        "limit": step.limit,
    }
    run.steps.append(found | {"ends": ends if processes else ["no time was left"]})
    print(line(run.steps[-1]), flush=True)
    run.write()


def wait(process: subprocess.Popen[bytes], deadline: float) -> int:
    """Its exit code, that of a signal as a positive number; past the deadline it and its children are killed."""
    try:
        return abs(process.wait(max(0.0, deadline - time.monotonic())))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return TIMED_OUT


def end_of(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:160] if lines else ""


def line(step: dict[str, Any]) -> str:
    return f"{step['step']:<16} rc {step['rc']:<4} {step['seconds']:>6} s   {step['ends'][0][:110]}"


def python(*words: str) -> list[str]:
    return [sys.executable, *words]


def install(*what: str) -> list[str]:
    options = ("-q", "--no-build-isolation", "--no-deps", "--no-index", "--upgrade", "--target", str(SITE))
    return python("-m", "pip", "install", *options, *what)


def packages() -> list[list[str]]:
    """Installs the wheels, and says what is missing."""
    code = (
        "import importlib.util as u, sys; missing = [n for n in sys.argv[1:] if u.find_spec(n) is None];"
        "print('missing:', *missing or ['nothing']); sys.exit(bool(missing))"
    )
    wheels = sorted(Path(os.environ["WHEELS"]).glob("*.whl")) if os.environ.get("WHEELS") else []
    if wheels:
        subprocess.run(install(*map(str, wheels)), check=False, timeout=90)
    return [python("-c", code, *PACKAGES.split())]


def cuda_files() -> list[str]:
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(file.relative_to(ROOT)) for file in files if "mark.cuda" in file.read_text()]


def pytest(*words: str) -> list[str]:
    return python("-m", "pytest", "-o", "addopts=--strict-markers", "-q", "-m", "cuda", *words)


def shards(variables: dict[str, str]) -> list[list[str]]:
    """The CUDA tests in as many processes as `SHARDS`, dealt out one by one."""
    listing = subprocess.run(
        pytest("--collect-only", *cuda_files()),
        cwd=ROOT,
        env=variables,
        capture_output=True,
        text=True,
        timeout=90,
    )
    tests = [name for name in listing.stdout.splitlines() if "::" in name]
    if not tests:
        return [pytest("--collect-only", *cuda_files())]  # fails, and its log says why
    return [pytest("-p", "no:cacheprovider", "--tb=short", *tests[shard::SHARDS]) for shard in range(SHARDS)]


def sanitizer(tool: str, dry: bool) -> list[list[str]]:
    """The tool on a few tests; without it, or in a dry run, the tests alone."""
    found = shutil.which("compute-sanitizer")
    prefix = [found, "--tool", tool, "--error-exitcode", "9"] if found and not dry else []
    return [[*prefix, *pytest("-x", "-k", SANITIZED, *cuda_files())]]


def benchmark(run: Run, name: str, *options: str, file: str = "") -> Callable[[], list[list[str]]]:
    """A benchmark with its record in the folder of the call."""
    target = ("--json", str(run.folder() / f"{file or name}.json"))
    device = ("--device", "cpu", "--quick") if run.dry else ("--device", "cuda")
    return lambda: [python("-m", f"benchmarks.{name}", *target, *device, *options)]


def first_steps(run: Run) -> list[Step]:
    """Each kernel at one shape beside eager and the memory's bandwidth, one update of each stage, memory errors."""
    rounds = ("--repetitions", run.pick("10", "2"))
    one_shape = ("--shapes", run.pick("8192x32000", "32x500"), "--dtypes", "bfloat16")
    one_head = ("--shapes", run.pick("4096x1024x32000", "96x16x300"), "--dtype", "bfloat16")
    return [
        Step("kernels", 90, benchmark(run, "kernels", "--no-compile", *one_shape, *rounds)),
        Step("training", 90, benchmark(run, "training", "--warm-up", "30", "--repetitions", "5")),
        Step("linear", 40, benchmark(run, "linear", "--no-compile", *one_head, *rounds)),
        Step("memcheck", 60, lambda: sanitizer("memcheck", run.dry)),
    ]


def other_steps(run: Run) -> list[Step]:
    """More shapes, compiled PyTorch, payoffs and edits, what a call costs, captured steps, races."""
    few = ("--repetitions", run.pick("5", "2"))
    one_shape = ("--shapes", run.pick("8192x50257", "32x500"), "--dtypes", "bfloat16", "--passes", "both")
    wide = ("--no-compile", "--shapes", run.pick("4096x131072", "16x1000"), "--dtypes", "float32")
    one_head = ("--shapes", run.pick("4096x1024x32000", "96x16x300"), "--dtype", "bfloat16")
    compiled = () if not run.dry else ("--no-compile",)
    captured = ("--stages", "critic,joint", "--warm-up", "30", *few, *(() if run.dry else ("--cuda-graphs",)))
    return [
        Step("float32", 60, benchmark(run, "kernels", *wide, *few, file="kernels-float32")),
        Step(
            "compiled", 150, benchmark(run, "kernels", *one_shape, *few, *compiled, file="kernels-compiled")
        ),
        Step("linear", 120, benchmark(run, "linear", *one_head, *few, *compiled)),
        Step("overhead", 40, benchmark(run, "overhead", *few)),
        Step("bleu", 40, benchmark(run, "bleu", *few)),
        Step("bleu-completion", 40, benchmark(run, "bleu_completion", *few)),
        Step("edits", 40, benchmark(run, "edits", *few)),
        Step("edit-distance", 30, benchmark(run, "edit_distance", *few)),
        Step("graphs", 60, benchmark(run, "training", *captured, file="training-graphs")),
        Step("racecheck", 60, lambda: sanitizer("racecheck", run.dry)),
    ]


def steps_of(run: Run, variables: dict[str, str]) -> list[Step]:
    """The steps of a call, in order."""
    prepare = [
        Step("packages", 100, packages),
        Step("build", 180, lambda: [install(".")]),
        Step("works", 60, lambda: [python("scripts/check_wheel.py")]),
    ]
    if run.name == "rest":
        return [*prepare, *other_steps(run)]
    return [*prepare, Step("tests", 170, lambda: shards(variables)), *first_steps(run)]


def describe(dry: bool) -> dict[str, str]:
    """The machine; ends the program where torch sees no GPU and none was waived."""
    import torch

    found = {"python": sys.version.split()[0], "torch": torch.__version__}
    if dry:
        return found | {"device": "cpu"}
    if not torch.cuda.is_available():
        sys.exit(
            "torch sees no GPU here: --dry-run tries the commands, scripts/check_cuda_build.py compiles the kernels"
        )
    return found | {"device": torch.cuda.get_device_name(), "cuda": str(torch.version.cuda)}


def main(argv: Sequence[str] | None = None) -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="scripts/check_gpu.sh"
    )
    parser.add_argument("out", type=Path, help="folder of the results")
    parser.add_argument("call", nargs="?", choices=("first", "rest"), default="first")
    parser.add_argument(
        "--dry-run", action="store_true", help="every command line on the CPU, smallest sizes"
    )
    parser.add_argument("--steps", nargs="+", metavar="STEP", help="some of the steps, by name")
    parser.add_argument(
        "--budget", type=float, help=f"seconds of the call (default {BUDGET:.0f}; 3600 in a dry run)"
    )
    arguments = parser.parse_args(argv)
    dry = arguments.dry_run
    run = Run(arguments.call, arguments.out.resolve(), dry, arguments.budget or (3600.0 if dry else BUDGET))
    run.machine = describe(dry)
    variables = environment(dry)
    steps = steps_of(run, variables)
    names = [step.name for step in steps]
    if unknown := set(arguments.steps or ()) - set(names):
        parser.error(f"--steps takes {', '.join(names)}, got {', '.join(sorted(unknown))}")
    run.out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(run.folder(), ignore_errors=True)
    run.folder().mkdir(parents=True)
    print(", ".join(run.machine.values()), flush=True)
    for step in steps:
        if arguments.steps is None or step.name in arguments.steps:
            run_step(run, step, variables)
    failed = [step["step"] for step in run.steps if step["rc"]]
    print(f"{time.monotonic() - run.started:.0f} s; failed: {', '.join(failed) or 'nothing'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
