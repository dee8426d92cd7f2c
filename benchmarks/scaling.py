"""How time and memory grow with the vocabulary V, rows N, length T, sequences a source K and threads.

    python -m benchmarks.scaling [--json FILE] [--axes V N T K threads] [--threads 1] [--cpu-time] [--repetitions 20]
        [--thread-counts 1 2] [--compile] [--keep-memory] [--quick]
    python -m benchmarks.scaling --table FILE ... [--page docs/performance.md]

A sweep times one operator, and what plain PyTorch offers beside it, at all its sizes in turn, so every round gives an
exponent: the least squares slope of log time over log size. The second form measures nothing: it prints the tables
of files the first has written, or puts them into a page. benchmarks/README.md says how to read them."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks._harness import compare, environment, save_json
from benchmarks._options import add_table_options, tables_shown
from benchmarks._scaling_record import END, START, key, record, tables
from benchmarks._scaling_sweeps import FULL, QUICK, SWEEPS, Options, Sweep
from softbellman.training.allocator import keep_freed_memory


def measure(sweep: Sweep, *, repetitions: int, cpu_time: bool) -> dict[str, Any]:
    """The record of one sweep."""
    calls: dict[str, Callable[[int], object]] = {
        key(name, size): every[i]
        for i, size in enumerate(sweep.sizes)
        for name, every in sweep.contenders.items()
    }
    prepare = {name: partial(_after_one, call) for name, call in calls.items()} if sweep.again else {}
    by_processor = cpu_time and not sweep.wall
    comparison = compare(
        {**calls, **sweep.streams},
        range(1 << 30),  # the turn itself: a call takes its own input by it
        repetitions=max(2, round(repetitions * sweep.rounds_share)),
        warmup=sweep.warmup,
        clock=time.process_time if by_processor else time.perf_counter,
        rotate_every_call=True,
        prepare=prepare,
    )
    return record(sweep, comparison) | {"clock": "processor" if by_processor else "wall"}


def _after_one(call: Callable[[int], object], turn: int) -> int:
    """The turn, behind a call on another input."""
    call(turn + 1)
    return turn


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the file of a run holds; the machine is described before it is put to work."""
    torch.set_num_threads(arguments.threads)
    machine = environment()
    options = Options(
        QUICK if arguments.quick else FULL,
        compiled=arguments.compile,
        rotated=not arguments.quick,
        thread_counts=arguments.thread_counts,
    )
    records: list[dict[str, Any]] = []
    for axis in arguments.axes:
        for build in SWEEPS[axis]:
            started = time.perf_counter()
            sweep = build(options)
            records.append(measure(sweep, repetitions=arguments.repetitions, cpu_time=arguments.cpu_time))
            torch.set_num_threads(arguments.threads)  # behind a sweep of threads
            seconds = time.perf_counter() - started
            print(f"{sweep.operator} over {axis} took {seconds:.1f} s", file=sys.stderr)
            del sweep  # frees its inputs before the next are made
            if arguments.json:  # after every sweep: a run cut short keeps what it has
                save_json(arguments.json, "scaling", records, machine)
    return {"environment": machine, "rows": records}


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="save figures and the record of the machine here")
    parser.add_argument("--axes", nargs="+", choices=list(SWEEPS), default=list(SWEEPS), help="what grows")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--thread-counts", nargs="+", type=int, default=[1, 2], help="of the sweep over threads (wall time)"
    )
    parser.add_argument("--repetitions", type=int, help="timed rounds (default 20; 3 with --quick)")
    parser.add_argument(
        "--compile", action="store_true", help="torch.compile beside eager on logits; compiles every size"
    )
    parser.add_argument(
        "--cpu-time", action="store_true", help="processor time, for one thread of a busy machine"
    )
    parser.add_argument(
        "--keep-memory", action="store_true", help="glibc keeps freed memory, as in softbellman-train"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run, not how it grows")
    add_table_options(parser)
    return parser


def settle(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Sets what was not given; a usage error where two options contradict each other."""
    if arguments.cpu_time and arguments.threads != 1:
        parser.error("--cpu-time adds up the time of all threads: it needs --threads 1")
    if len(set(arguments.thread_counts)) < 2 or min(arguments.thread_counts) < 1:
        parser.error("--thread-counts takes two different positive numbers or more, such as 1 2")
    if arguments.repetitions is None:
        arguments.repetitions = 3 if arguments.quick else 20


def main(argv: Sequence[str] | None = None) -> None:
    parser = options()
    arguments = parser.parse_args(argv)
    if tables_shown(parser, arguments, tables, START, END):
        return
    settle(parser, arguments)
    if arguments.keep_memory:
        keep_freed_memory()
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)
    print(tables(run(arguments)))


if __name__ == "__main__":
    main()
