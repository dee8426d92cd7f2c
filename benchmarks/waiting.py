"""How long an epoch of training takes when waiting threads spin or sleep, on idle cores and beside a busy process.

    python -m benchmarks.waiting [--busy 0 1] [--repetitions 3] [--json FILE]

An epoch of maximum likelihood on the built-in corpus, each time in a process of its own, start included. `GOMP_SPINCOUNT` is
how often a thread of GNU's OpenMP looks before it sleeps; 300,000 is that library's default."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._harness import as_record, format_seconds, print_table, save_json, summarize

POLICIES = {
    "300,000 (the library's default)": {"GOMP_SPINCOUNT": "300000"},
    "10,000": {"GOMP_SPINCOUNT": "10000"},
    "1,000 (the commands' default)": {"GOMP_SPINCOUNT": "1000"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
}
EPOCH = ("--algorithm", "mle", "--actor.schedule.epochs", "1", "--quiet")


def epoch_seconds(policy: dict[str, str]) -> float:
    """The time of one epoch in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "softbellman.cli.train",
            *EPOCH,
            "--output",
            str(Path(folder) / "run"),
        ]
        started = time.perf_counter()
        subprocess.run(command, env={**os.environ, **policy}, check=True, capture_output=True)
        return time.perf_counter() - started


def main() -> None:
    """Time every policy in turn, round after round."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1], help="other processes that never wait")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.repetitions < 2:
        parser.error("--repetitions must be at least 2, for a spread")
    rows, table = [], []
    for busy in options.busy:
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            rounds = [
                {name: epoch_seconds(policy) for name, policy in POLICIES.items()}
                for _ in range(options.repetitions)
            ]
        finally:
            for other in others:
                other.kill()
        for name in POLICIES:
            timing = summarize([found[name] for found in rounds])
            rows.append({"busy_processes": busy, "policy": name, "ours": as_record(timing)})
            table.append([str(busy), name, format_seconds(timing)])
    print_table(["busy processes", "spins before a thread sleeps", "one epoch"], table)
    if options.json:
        save_json(options.json, "waiting", rows)


if __name__ == "__main__":
    main()
