"""The operators on heads (hidden states and an output layer) against a linear layer with plain expressions, eager and compiled.

    python -m benchmarks.linear [--device cuda] [--json FILE] [--operators actor_loss ...] [--shapes 2048x256x4568 ...]
        [--dtype bfloat16] [--repetitions 20] [--threads 1] [--cpu-time] [--no-compile] [--quick]

A shape is rows x hidden units x vocabulary. All contenders compute the summed loss of the same rows and its gradients for
hidden states, weight and bias (policy_value: the values alone, as a critic's target needs them; a prior and the second
distribution of a divergence are constants):

- `sum`: ours with reduction="sum" and inplace_backward=True: gradients come along in the forward pass (losses only);
- `rows`: ours with reduction="none", which makes the logits a second time in the backward pass;
- `whole`: `torch.nn.functional.linear`, then our operator on the whole logits;
- `eager`: the same linear layer, then the plain expression of contenders.py; `compiled`: the same compiled;
- `liger`: liger-kernel's fused linear cross-entropy, on a GPU and where it is installed.

`peak` is the most a call holds beyond its arguments, results included; `share` leaves the results out and divides by the
size of the logits (of every head that is read). `error` is the largest of a result against the plain expressions in
float64, relative to the largest exact entry, on the first 128 rows. A contender above a tolerance ends the run."""

from __future__ import annotations

import argparse
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
from benchmarks._memory import peak_bytes
from benchmarks._options import add_options, parse_shapes, settle
from benchmarks.contenders import Inputs, Operator
from benchmarks.linear_contenders import CASES, contenders, errors, fresh, make_heads, run_case

SHAPES = ((2048, 256, 4568), (2048, 512, 4568), (2048, 256, 32000), (2048, 256, 150000))
QUICK = ((96, 16, 300),)
PEERS = ("whole", "eager", "compiled", "liger")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


def measure(case: Operator, data: Inputs, arguments: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    functions = contenders(case, compiled=not arguments.no_compile, device=arguments.device)
    found = errors(case, {name: f for name, f in functions.items() if name != "compiled"}, data)
    calls = {
        name: (lambda heads, function=function: run_case(case, function, fresh(heads)))
        for name, function in functions.items()
    }
    memory = {name: peak_bytes(partial(call, data), arguments.device) for name, call in calls.items()}
    results = sum(tensor.numel() * tensor.element_size() for tensor in calls["rows"](data))
    rows, hidden = data.logits.hidden.shape
    vocabulary = data.logits.shape[-1]
    logits = len(case.reads) * rows * vocabulary * data.logits.dtype.itemsize
    options: dict[str, Any] = {"measure": device_seconds} if arguments.device.startswith("cuda") else {}
    if arguments.cpu_time:
        options["clock"] = time.process_time
    comparison = compare(calls, [data], repetitions=arguments.repetitions, warmup=1, **options)
    ours = "sum" if case.reduces else "rows"
    peers = [name for name in PEERS if name in calls]
    return {
        "operator": case.name,
        "rows": rows,
        "hidden": hidden,
        "vocabulary": vocabulary,
        "dtype": arguments.dtype,
        "device": arguments.device,
        "clock": "processor" if arguments.cpu_time else "wall",
        "times": {name: as_record(timing) for name, timing in comparison.timings.items()},
        "ratios": {
            f"{peer}/{name}": as_record(comparison.ratio(peer, name))
            for peer in peers
            for name in dict.fromkeys((ours, "rows"))
        },
        "peak_bytes": memory,
        "share_of_logits": {name: (peak - results) / logits for name, peak in memory.items()},
        "relative_error": found,
        "cells": [
            case.name,
            f"{rows}x{hidden}x{vocabulary}",
            *(format_seconds(comparison.timings[name]) if name in calls else "-" for name in ("sum", "rows")),
            *(
                format_ratio(comparison.ratio(peer, name)) if peer in calls and name in calls else "-"
                for peer in PEERS
                for name in ("sum", "rows")
            ),
            ", ".join(f"{name} {peak / 1e6:.3g}" for name, peak in memory.items()),
            ", ".join(f"{name} {(peak - results) / logits:.1%}" for name, peak in memory.items()),
            ", ".join(f"{name} {error:.1g}" for name, error in found.items()),
        ],
    }


HEADER = (
    "operator",
    "shape",
    "sum",
    "rows",
    *(f"{peer} / {name}" for peer in PEERS for name in ("sum", "rows")),
    "peak MB",
    "share of logits",
    "error",
)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_options(parser, quick="one tiny shape: does it run, not how fast")
    parser.add_argument("--operators", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--shapes", nargs="+", metavar="NxHxV", help="rows x hidden units x vocabulary")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    arguments = parser.parse_args(argv)
    settle(parser, arguments)
    shapes: Sequence[tuple[int, ...]] = QUICK if arguments.quick else SHAPES
    if arguments.shapes:
        shapes = parse_shapes(parser, arguments.shapes, "ROWSxHIDDENxVOCABULARY", "2048x256x4568")
    print(
        f"{arguments.device}, threads: {torch.get_num_threads()}, {arguments.dtype}, "
        f"{arguments.repetitions} rounds: median (quartiles)\n"
    )
    records = []
    for rows, hidden, vocabulary in shapes:
        data = make_heads(rows, hidden, vocabulary, DTYPES[arguments.dtype], arguments.device)
        for name in arguments.operators:
            started = time.perf_counter()
            records.append(measure(CASES[name], data, arguments))
            print(
                f"{name} {rows}x{hidden}x{vocabulary}: {time.perf_counter() - started:.0f} s", file=sys.stderr
            )
    print_table(HEADER, [record.pop("cells") for record in records])
    if arguments.json:
        save_json(arguments.json, "linear", records)


if __name__ == "__main__":
    main()
