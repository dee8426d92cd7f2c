"""Losses of language models from hidden states: ours against eager PyTorch, checkpointed chunks, TRL, Liger and torch's own.

    python -m benchmarks.language_models [--device cuda] [--json FILE] [--losses cross_entropy ...]
        [--shapes 256x256x32000 ...] [--dtypes float32 bfloat16] [--repetitions 20] [--threads 1] [--cpu-time]
        [--without torch ...] [--append] [--memory] [--quick]
    python -m benchmarks.language_models --table FILE ... [--page docs/performance.md]

A shape is rows x hidden units x vocabulary. All contenders compute the summed loss and its gradients for hidden states and
weight; a teacher is a constant.

- `sum`: ours, reduced; `rows`: ours, a result for each row; `narrow`: `sum` with 16-bit sums of the weight's gradient;
- `eager`: a linear layer and the plain expression, in the dtype of the model; `checkpointed`: the same in chunks of 64 rows;
- `trl`, `torch`, `liger`: the chunked forms of TRL, `torch.nn.functional.linear_cross_entropy` and Liger's Jensen-Shannon
  loss, where they are installed. A line says which are missing.

`share` is the most a call holds beyond its results, over the size of all logits that it reads. `error` is that of a gradient
against float64. `--memory` prints what a loss holds at the sizes of published models instead, which takes
minutes a loss on a CPU. The second form measures nothing: it prints the tables of files the first has written, or puts them
into a page."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from benchmarks._harness import (
    as_record,
    compare,
    device_seconds,
    format_ratio,
    format_seconds,
    print_table,
    save_json,
)
from benchmarks._language_cases import CASES, Case, Contender, Data, errors, gradients, make_data
from benchmarks._language_tables import END, OURS, START, memory_table, tables
from benchmarks._memory import peak_bytes
from benchmarks._options import add_options, add_table_options, parse_shapes, settle, tables_shown

SHAPES = (
    (256, 256, 32000),
    (1280, 256, 32000),
    (256, 256, 151936),
    (1280, 256, 151936),
    (256, 1024, 32000),
)
QUICK = ((70, 16, 300),)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Hidden units and vocabulary, as their configurations have them.
MODELS = {
    "Qwen3 0.6B": (1024, 151936),
    "Qwen3 8B": (4096, 151936),
    "Llama 3 8B": (4096, 128256),
    "Gemma 2 2B": (2304, 256000),
    "Gemma 2 9B": (3584, 256000),
}
MEMORY_ROWS = 1280


def chosen(case: Case, arguments: argparse.Namespace) -> tuple[dict[str, Contender], dict[str, str]]:
    """The contenders of a loss that nobody left out, and why others are missing."""
    contenders, missing = case.contenders()
    return {one: call for one, call in contenders.items() if one not in arguments.without}, missing


def results_bytes(data: Data) -> int:
    """The gradients of hidden states and weight."""
    return data.hidden.nbytes + data.weight.nbytes


def logits_bytes(case: Case, data: Data) -> int:
    """All logits that a loss reads."""
    return (1 + case.two) * len(data.hidden) * len(data.weight) * data.hidden.itemsize


def measure(name: str, data: Data, arguments: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    case = CASES[name]
    contenders, missing = chosen(case, arguments)
    if data.hidden.dtype == torch.float32:
        contenders.pop("narrow", None)
    found = errors(case, contenders, data)
    calls = {one: partial(gradients, contender) for one, contender in contenders.items()}
    memory = {one: peak_bytes(partial(call, data), arguments.device) for one, call in calls.items()}
    options: dict[str, Any] = {"measure": device_seconds} if arguments.device.startswith("cuda") else {}
    if arguments.cpu_time:
        options["clock"] = time.process_time
    comparison = compare(calls, [data], repetitions=arguments.repetitions, warmup=1, **options)
    rows, hidden = data.hidden.shape
    share = {one: (peak - results_bytes(data)) / logits_bytes(case, data) for one, peak in memory.items()}
    ours = [one for one in OURS if one in calls]
    others = [one for one in calls if one not in OURS]
    return {
        "loss": name,
        "rows": rows,
        "hidden": hidden,
        "vocabulary": len(data.weight),
        "dtype": str(data.hidden.dtype).removeprefix("torch."),
        "device": arguments.device,
        "clock": "processor" if arguments.cpu_time else "wall",
        "times": {one: as_record(timing) for one, timing in comparison.timings.items()},
        "ratios": {f"{one}/eager": as_record(comparison.ratio(one, "eager")) for one in ours}
        | {f"{peer}/{one}": as_record(comparison.ratio(peer, one)) for peer in others for one in ours},
        "peak_bytes": memory,
        "share_of_logits": share,
        "relative_error": found,
        "missing": missing,
        "cells": [
            name,
            f"{rows}x{hidden}x{len(data.weight)}",
            str(data.hidden.dtype).removeprefix("torch."),
            format_seconds(comparison.timings["eager"]),
            *(format_ratio(comparison.ratio(one, "eager")) if one in calls else "-" for one in OURS),
            *(
                format_ratio(comparison.ratio(peer, "eager")) if peer in calls else "-"
                for peer in ("checkpointed", "trl", "torch", "liger")
            ),
            ", ".join(f"{one} {part:.1%}" for one, part in share.items()),
            ", ".join(f"{one} {error:.1g}" for one, error in found.items()),
        ],
    }


HEADER = (
    "loss",
    "shape",
    "dtype",
    "eager",
    *(f"{one} / eager" for one in (*OURS, "checkpointed", "trl", "torch", "liger")),
    "share of logits",
    "error",
)


def model_memory(name: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """What a loss holds beyond its results, in bfloat16 at the sizes of a model."""
    width, vocabulary = MODELS[name]
    device, dtype = arguments.device, torch.bfloat16
    data = make_data(MEMORY_ROWS, width, vocabulary, dtype, device)
    records = []
    for loss in arguments.losses:
        case = CASES[loss]
        held = {}
        for one, contender in chosen(case, arguments)[0].items():
            held[one] = peak_bytes(partial(gradients, contender, data), device) - results_bytes(data)
        results = results_bytes(data)
        records.append(
            {
                "model": name,
                "loss": loss,
                "rows": MEMORY_ROWS,
                "hidden": width,
                "vocabulary": vocabulary,
                "dtype": str(dtype).removeprefix("torch."),
                "logits_bytes": logits_bytes(case, data),
                "results_bytes": results,
                "held_bytes": held,
            }
        )
    return records


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_options(parser, quick="one tiny shape: does it run, not how fast")
    parser.add_argument("--losses", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--shapes", nargs="+", metavar="NxHxV", help="rows x hidden units x vocabulary")
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    parser.add_argument(
        "--memory", nargs="*", choices=list(MODELS), help="memory by model, of these or of all"
    )
    parser.add_argument(
        "--without", nargs="+", default=[], metavar="CONTENDER", help="leave these out, but not eager"
    )
    parser.add_argument(
        "--append", action="store_true", help="add the rows to those of the record that --json names"
    )
    add_table_options(parser)
    arguments = parser.parse_args(argv)
    if tables_shown(parser, arguments, tables, START, END):
        return
    if "eager" in arguments.without:
        parser.error("--without takes all contenders but eager, to which the others are compared")
    settle(parser, arguments)
    records: list[dict[str, Any]] = []
    if arguments.memory is not None:
        for model in arguments.memory or MODELS:
            records += model_memory(model, arguments)
        print(memory_table(records))
        if arguments.json:
            save_json(arguments.json, "language_models_memory", records)
        return
    shapes: Sequence[tuple[int, ...]] = QUICK if arguments.quick else SHAPES
    if arguments.shapes:
        shapes = parse_shapes(parser, arguments.shapes, "ROWSxHIDDENxVOCABULARY", "256x256x32000")
    print(f"{arguments.device}, threads: {torch.get_num_threads()}, {arguments.repetitions} rounds\n")
    for rows, hidden, vocabulary in shapes:
        for dtype in arguments.dtypes:
            data = make_data(rows, hidden, vocabulary, DTYPES[dtype], arguments.device)
            for name in arguments.losses:
                started = time.perf_counter()
                records.append(measure(name, data, arguments))
                print(
                    f"{name} {rows}x{hidden}x{vocabulary} {dtype}: {time.perf_counter() - started:.0f} s",
                    file=sys.stderr,
                )
    for peer, reason in {k: v for record in records for k, v in record["missing"].items()}.items():
        print(f"{peer} is missing: {reason}")
    print_table(HEADER, [record.pop("cells") for record in records])
    if arguments.json:
        kept = []
        if arguments.append and arguments.json.exists():
            kept = json.loads(arguments.json.read_text())["rows"]
        save_json(arguments.json, "language_models", [*kept, *records])


if __name__ == "__main__":
    main()
