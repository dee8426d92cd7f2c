"""What every benchmark shares: contenders timed in turn, quartiles, a record of the machine, tables, JSON.

Contenders run A B C A B C ... in one process, so that a busy moment hits all of them, and each round takes
the next of several prepared inputs, so that no cache holds them. A time is the median of the rounds with its
quartiles; a ratio is the median of the ratios within a round, which a slow phase of the machine does not
bend."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Timing:
    """Seconds of one call."""

    median: float
    lower_quartile: float
    upper_quartile: float
    repetitions: int


@dataclass(frozen=True)
class Comparison:
    timings: dict[str, Timing]
    rounds: dict[str, list[float]]

    def ratio(self, slower: str, faster: str) -> Timing:
        """How many times longer `slower` takes than `faster`, round by round."""
        pairs = zip(self.rounds[slower], self.rounds[faster], strict=True)
        return summarize([one / other for one, other in pairs])


def summarize(values: Sequence[float]) -> Timing:
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return Timing(median, lower, upper, len(values))


def scaled(timing: Timing, factor: float) -> Timing:
    quantiles = (timing.median, timing.lower_quartile, timing.upper_quartile)
    return Timing(*(value * factor for value in quantiles), timing.repetitions)


def compare(
    contenders: Mapping[str, Callable[[Any], object]],
    inputs: Sequence[Any],
    *,
    repetitions: int = 20,
    warmup: int = 2,
    synchronize: Callable[[], object] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    prepare: Mapping[str, Callable[[Any], Any]] | None = None,
    rotate_every_call: bool = False,
    measure: Callable[[Callable[[], object]], float] | None = None,
) -> Comparison:
    """Time every contender on each round's input.

    `synchronize` waits for a device around a call. `clock` is the wall's, or `time.process_time` for work on
    one thread of a busy machine: the wall's time of a call longer than a time slice includes the other
    processes' turns. `prepare` makes a contender's argument of the input, untimed. With `rotate_every_call`
    each call takes the next input, so that no contender finds in the cache what the one before it has read.
    `measure` runs a call and returns its seconds in place of the clock (`device_seconds`).
    """
    if repetitions < 2:
        raise ValueError(f"repetitions must be at least 2, got {repetitions}")

    def seconds(call: Callable[[], object]) -> float:
        if synchronize is not None:
            synchronize()
        start = clock()
        call()
        if synchronize is not None:
            synchronize()
        return clock() - start

    measure = measure or seconds
    preparations = prepare or {}
    rounds: dict[str, list[float]] = {name: [] for name in contenders}
    for i in range(warmup + repetitions):
        for position, (name, contender) in enumerate(contenders.items()):
            turn = i * len(contenders) + position if rotate_every_call else i
            data = inputs[turn % len(inputs)]
            if name in preparations:
                data = preparations[name](data)
            elapsed = measure(partial(contender, data))
            del data  # frees what was prepared before the next contender runs
            if i >= warmup:
                rounds[name].append(elapsed)
    return Comparison({name: summarize(times) for name, times in rounds.items()}, rounds)


def synchronizer(device: str) -> Callable[[], object] | None:
    """What waits for a device around a timed call; nothing where there is none to wait for."""
    return torch.cuda.synchronize if device.startswith("cuda") else None


def device_seconds(call: Callable[[], object]) -> float:
    """Seconds between two CUDA events around the call.

    The device first sleeps about a millisecond, during which the host queues the whole call: otherwise the
    events would also time the gaps in which the device waits for the host.
    """
    cuda: Any = torch.cuda  # events have no annotations
    begin, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
    cuda._sleep(2_000_000)
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) * 1e-3


def _command(argv: Sequence[str]) -> str:
    """The command to repeat a run by; where this machine keeps the data and the record is its own affair."""
    words = ["python", "-m", f"benchmarks.{Path(argv[0]).stem}"]
    for before, word in pairwise(argv):
        if before == "--json" and Path(word).is_absolute():
            word = Path(word).name
        words.append("DIR" if before == "--data" else re.sub(r"^--data=.*", "--data=DIR", word))
    return " ".join(words)


def environment() -> dict[str, Any]:
    """Machine, versions, commit and threads: what a figure means nothing without."""
    from softbellman import build_info

    record: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": _command(sys.argv),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain")),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_average": list(os.getloadavg()),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "softbellman": {key: str(value) for key, value in build_info().items() if key != "path"},
    }
    if torch.cuda.is_available():
        record["gpu"] = torch.cuda.get_device_name()
        record["cuda"] = torch.version.cuda
    return record


def save_json(
    path: str | Path,
    benchmark: str,
    rows: Sequence[Mapping[str, Any]],
    machine: Mapping[str, Any] | None = None,
) -> None:
    """One file per run: the environment, of this moment unless given, and one entry per row of the table."""
    content = {"benchmark": benchmark, "environment": machine or environment(), "rows": list(rows)}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content, indent=1) + "\n")


def as_record(timing: Timing) -> dict[str, float]:
    return asdict(timing)


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, as Markdown."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def replace_between(page: Path, start: str, end: str, text: str) -> None:
    """Replaces what stands between two marks of a page; ValueError where it has none."""
    content = page.read_text(encoding="utf-8")
    if start not in content or end not in content:
        raise ValueError(f"{page} needs the lines {start} and {end}, between which the tables go")
    before, rest = content.split(start, 1)
    after = rest.split(end, 1)[1]
    page.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(format_table(header, rows))


def format_seconds(timing: Timing) -> str:
    """Median and quartiles in the unit that suits the median."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if timing.median * scale >= 1 or unit == "us":
            break
    return (
        f"{timing.median * scale:.3g} {unit} "
        f"({timing.lower_quartile * scale:.3g}-{timing.upper_quartile * scale:.3g})"
    )


def format_ratio(timing: Timing) -> str:
    return f"{timing.median:.3g} ({timing.lower_quartile:.3g}-{timing.upper_quartile:.3g})"


def _git(*arguments: str) -> str:
    try:
        result = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout.strip()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
