"""Does the native core share torch's threads or fight them?

    python -m benchmarks.threading [--threads 2] [--json FILE]

Alternates a kernel with a matrix product of torch, as a training step does, at three sizes, with the core's two kinds
of threads: OpenMP, and a pool of its own that sleeps between calls. Each contender is timed in its own process, so
that no other pool is alive; the contenders take turns, and the table gives medians over all turns of the lower quartile
of each. "apart" runs the two halves in separate loops: what an alternation costs beyond "apart" is the price of handing
the cores over.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CONTENDERS = ("openmp", "pool")
SIZES = {"small": (64, 512), "medium": (256, 4096), "large": (1024, 8192)}


def quartile_time(body: Callable[[], object], loops: int) -> float:
    """Lower quartile of the wall time of one call in microseconds: other processes only ever add to it."""
    times = []
    for _ in range(loops):
        begin = time.perf_counter()
        body()
        times.append(time.perf_counter() - begin)
    return 1e6 * statistics.quantiles(times, n=4)[0]


def measure_size(cpu: Any, rows: int, vocabulary: int, threads: int, repeats: int) -> dict[str, float]:
    """Kernel alone, product alone, both in turn, at one size."""
    import torch

    q, value = torch.randn(rows, vocabulary), torch.empty(rows)
    left, right = torch.randn(rows, 256), torch.randn(256, 512)
    row_matrix = (q.data_ptr(), vocabulary, rows, vocabulary, 0)

    def kernel() -> None:
        cpu.soft_value_forward(*row_matrix, 0.5, 0, 0, 0, 0, value.data_ptr(), 0, threads)

    def product() -> None:
        torch.mm(left, right)

    def both() -> None:
        kernel()
        product()

    for _ in range(5):
        both()
    if not torch.allclose(value, 0.5 * torch.logsumexp(q / 0.5, -1), atol=1e-5):
        raise RuntimeError("the kernel disagrees with torch")
    loops = max(5, repeats * 2_000_000 // (rows * vocabulary + 1_000_000))
    bodies = {"kernel": kernel, "product": product, "both": both}
    return {label: quartile_time(body, loops) for label, body in bodies.items()}


def measure(threads: int, repeats: int) -> dict[str, dict[str, float]]:
    """Microseconds with the threads that the environment of this process chose."""
    import torch

    from softbellman.core import native

    torch.set_num_threads(threads)
    return {name: measure_size(native.cpu, *size, threads, repeats) for name, size in SIZES.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5, help="processes per contender, in turn")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(measure(arguments.threads, arguments.repeats)))
        return

    import torch

    runs: dict[str, list[dict[str, dict[str, float]]]] = {contender: [] for contender in CONTENDERS}
    for _ in range(arguments.turns):
        for contender in CONTENDERS:
            command = [sys.executable, "-m", "benchmarks.threading", "--worker"]
            command += ["--threads", str(arguments.threads), "--repeats", str(arguments.repeats)]
            runs[contender].append(
                json.loads(
                    subprocess.check_output(
                        command, cwd=ROOT, text=True, env={**os.environ, "SOFTBELLMAN_THREADING": contender}
                    )
                )
            )

    table = []
    print(
        f"torch {torch.__version__}, {arguments.threads} threads, {os.cpu_count()} cores, "
        f"median of {arguments.turns} processes, load {os.getloadavg()[0]:.1f}"
    )
    print(
        f"{'size':8}{'threads':9}{'kernel us':>11}{'product us':>12}{'apart us':>10}{'both us':>10}{'both/apart':>12}"
    )
    for size in SIZES:
        for contender in CONTENDERS:
            row = {
                label: statistics.median(run[size][label] for run in runs[contender])
                for label in ("kernel", "product", "both")
            }
            row["ratio"] = statistics.median(
                run[size]["both"] / (run[size]["kernel"] + run[size]["product"]) for run in runs[contender]
            )
            table.append({"size": size, "pool": contender, **row})
            print(
                f"{size:8}{contender:9}{row['kernel']:11.1f}{row['product']:12.1f}"
                f"{row['kernel'] + row['product']:10.1f}{row['both']:10.1f}{row['ratio']:12.2f}"
            )
    if arguments.json is not None:
        facts = {
            "torch": torch.__version__, "threads": arguments.threads, "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(), "turns": arguments.turns, "load": os.getloadavg(), "rows": table,
        }  # fmt: skip
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
