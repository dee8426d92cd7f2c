"""One update of every stage at the published sizes, against a reconstruction of the published code in eager PyTorch.

    python -m benchmarks.training [--data DIR] [--stages joint,oracle] [--threads 1] [--cpu-time] [--json FILE]
    python -m benchmarks.training --device cuda --cuda-graphs [--data DIR] [--json FILE]
    python -m benchmarks.training --table FILE [--page docs/performance.md]

Both take the same batches in turn, from the same start weights. `benchmarks/README.md` says what the reconstruction
does and what our side computes. The third form measures nothing: it sets the stages of a record side by side."""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch

from benchmarks._harness import (
    Timing,
    as_record,
    compare,
    environment,
    format_ratio,
    format_seconds,
    print_table,
    save_json,
    synchronizer,
)
from benchmarks._memory import peak_bytes
from benchmarks._options import add_table_options, tables_shown
from benchmarks._training_cases import STAGES, Case, load_data, make_case, settings_of, warm_actor
from benchmarks._training_parts import operator_table, time_parts
from benchmarks._training_tables import END, START, table
from softbellman.data import Batch
from softbellman.models.projection import Bfloat16

HEADER = [
    "stage",
    "sequences",
    "ours",
    "published",
    "published / ours",
    "tokens/s",
    "peak MB, ours",
    "published",
]


def measure(case: Case, *, repetitions: int, clock: Callable[[], float], device: str) -> dict[str, Any]:
    """The row of one stage."""
    contenders: dict[str, Callable[[Batch], object]] = {"ours": case.ours}
    if case.published is not None:
        contenders["published"] = case.published
    wait = synchronizer(device)
    if wait is not None:  # every shape once: captures are no part of an update
        for batch in case.batches:
            case.ours(batch)
    comparison = compare(
        contenders, case.batches, repetitions=repetitions, warmup=2, clock=clock, synchronize=wait
    )
    rounds = [case.batches[(i + 2) % len(case.batches)] for i in range(repetitions)]
    tokens = sum(int(batch.mask.sum()) for batch in rounds)  # of the references, EOS included
    rates = {name: tokens / sum(times) for name, times in comparison.rounds.items()}
    longest = max(case.batches, key=lambda batch: batch.target.numel())
    memory = {name: peak_bytes(partial(call, longest), device) for name, call in contenders.items()}
    row: dict[str, Any] = {
        "stage": case.name,
        "sources": len(case.batches[0]),
        "sequences_per_source": case.sequences,
        **{name: as_record(comparison.timings[name]) for name in contenders},
        "reference_tokens_per_second": rates,
        "peak_bytes_longest_batch": memory,
        "batch_preparation": case.preparation,
    }
    theirs = ["-", "-", "-"]  # time, ratio, memory
    if case.published is not None:
        ratio = comparison.ratio("published", "ours")
        row["published_over_ours"] = as_record(ratio)
        row["published_over_ours_total"] = sum(comparison.rounds["published"]) / sum(
            comparison.rounds["ours"]
        )
        theirs = [
            format_seconds(comparison.timings["published"]),
            format_ratio(ratio),
            f"{memory['published'] / 1e6:,.0f}",
        ]
    row["cells"] = [
        case.name,
        f"{len(case.batches[0])} x {case.sequences}",
        format_seconds(comparison.timings["ours"]),
        *theirs[:2],
        f"{rates['ours']:,.0f}",
        f"{memory['ours'] / 1e6:,.0f}",
        theirs[2],
    ]
    return row


def progress_of(row: dict[str, Any]) -> str:
    """What is said when a stage is done."""
    if "published_over_ours" in row:
        return f"published / ours {format_ratio(Timing(**row['published_over_ours']))}"
    return f"{format_seconds(Timing(**row['ours']))} an update"


def print_profile(case: Case, parts: dict[str, float], updates: int) -> None:
    total = sum(parts.values())
    print(
        f"{case.name}: {total * 1e3:.0f} ms an update, {case.preparation * 1e3:.2f} ms for its batch before"
    )
    for name, seconds in sorted(parts.items(), key=lambda item: -item[1]):
        print(f"    {seconds / total:6.1%}  {name}")
    print(operator_table(case, case.batches[:updates]))


def stage_list(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in STAGES:
            raise argparse.ArgumentTypeError(f"{name!r} is no stage, there are {', '.join(STAGES)}")
    return names


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_common_options(parser)
    parser.add_argument(
        "--stages", type=stage_list, default=list(STAGES), help="some of them, between commas"
    )
    parser.add_argument(
        "--preset", choices=("paper", "published"), default="paper", help="what our side computes"
    )
    parser.add_argument(
        "--profile", action="store_true", help="also where our time goes, by part and by operator"
    )
    parser.add_argument(
        "--bfloat16",
        choices=get_args(Bfloat16),
        default="none",
        help="which of our products have bfloat16 factors (model.bfloat16_products)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:0 (default cpu)")
    parser.add_argument(
        "--cuda-graphs",
        action="store_true",
        help="a step of our sampling is a CUDA graph (cuda_graphs: true)",
    )
    add_table_options(parser)
    return parser


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """What every benchmark of whole updates takes."""
    parser.add_argument(
        "--data", type=Path, help="folder of Multi30k; without it a synthetic corpus of its sizes"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument(
        "--warm-up", type=int, default=250, help="updates of the actor before anything is timed"
    )
    parser.add_argument(
        "--cpu-time", action="store_true", help="processor time, for one thread of a busy machine"
    )
    parser.add_argument(
        "--quick", action="store_true", help="whether everything runs: tiny networks, two rounds"
    )
    parser.add_argument("--json", help="save the figures and the record of the machine here")


def choose_clock(
    options: argparse.ArgumentParser, arguments: argparse.Namespace
) -> tuple[Callable[[], float], str]:
    """The clock asked for and its name; sets the threads, too."""
    if arguments.cpu_time and arguments.threads != 1:
        options.error("--cpu-time adds up the time of all threads: it needs --threads 1")
    torch.set_num_threads(arguments.threads)
    return (time.process_time, "processor") if arguments.cpu_time else (time.perf_counter, "wall")


def main(argv: Sequence[str] | None = None) -> None:
    options = parser()
    arguments = options.parse_args(argv)
    try:
        if tables_shown(options, arguments, table, START, END):
            return
    except ValueError as error:
        options.error(str(error))
    clock, time_name = choose_clock(options, arguments)
    if arguments.device != "cpu" and (arguments.cpu_time or arguments.profile):
        options.error("--cpu-time and --profile are for the CPU")
    if arguments.cuda_graphs and arguments.device == "cpu":
        options.error("--cuda-graphs needs --device cuda")
    repetitions, warm_up = (2, 2) if arguments.quick else (arguments.repetitions, arguments.warm_up)
    rows, machine = [], environment()  # as it is before the first figure is written
    with tempfile.TemporaryDirectory() as scratch:
        task, data = load_data(arguments.data, Path(scratch), small=arguments.quick)
    options_of = {"preset": arguments.preset, "small": arguments.quick, "device": arguments.device}
    weights = warm_actor(task, settings_of("mle", data, **options_of), warm_up)
    options_of |= {"bfloat16": arguments.bfloat16, "cuda_graphs": arguments.cuda_graphs}
    for name in arguments.stages:
        case = make_case(name, task, settings_of(name, data, **options_of), weights, count=repetitions + 2)
        row = measure(case, repetitions=repetitions, clock=clock, device=arguments.device)
        row |= {"clock": time_name, "preset": arguments.preset, "corpus": task.describe()}
        row |= {"bfloat16_products": arguments.bfloat16}
        row |= {"device": arguments.device, "cuda_graphs": arguments.cuda_graphs}
        if arguments.profile:
            row["parts"] = time_parts(case, case.batches, clock)
            print_profile(case, row["parts"], updates=1 if arguments.quick else 6)
        print(f"{name}: {progress_of(row)}", flush=True)
        rows.append(row)
        if arguments.json:  # after every stage: a long run that is cut short keeps what it has
            stored = [{key: value for key, value in r.items() if key != "cells"} for r in rows]
            save_json(arguments.json, "training", stored, machine)
    corpus = "Multi30k" if arguments.data else "synthetic"
    print(
        f"{corpus}: {task.describe()}; preset {arguments.preset}; "
        f"our bfloat16 products: {arguments.bfloat16}; threads: {arguments.threads}; {time_name} time, "
        f"medians of {repetitions} updates with quartiles; largest process "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB"
    )
    print_table(HEADER, [row.pop("cells") for row in rows])


if __name__ == "__main__":
    main()
