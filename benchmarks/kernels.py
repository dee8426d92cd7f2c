"""Every vocabulary-wide operator against eager PyTorch, torch.compile and the memory's own speed.

    python -m benchmarks.kernels [--device cuda] [--json FILE] [--operators policy_value ...]
        [--shapes 2048x8192 ...] [--dtypes float32 ...] [--passes forward both] [--threads 2] [--keep-memory] [--quick]

benchmarks/README.md says how to read the table."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks._bench import Bench, Line
from benchmarks._harness import Timing, environment, format_ratio, format_seconds, print_table, save_json
from benchmarks._options import add_options, parse_shapes, settle
from benchmarks.contenders import OPERATORS
from softbellman.training.allocator import keep_freed_memory

PASSES = ("forward", "backward", "both")
DTYPES = {
    str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.bfloat16, torch.float64)
}
HEADER = (
    "operator",
    "pass",
    "ours",
    "eager",
    "compiled",
    "eager / ours",
    "compiled / ours",
    "share of limit",
    "with allocation",
    "peak MB (same order)",
    "error (same order)",
)
CPU_LINES = (
    Line(2048, 8192, torch.float32),
    Line(256, 32000, torch.float32),
    Line(512, 131072, torch.float32),
    Line(256, 8192, torch.bfloat16),
    Line(256, 8192, torch.float64),
)
CUDA_LINES = tuple(
    Line(rows, vocabulary, dtype)
    for rows, vocabulary in ((8192, 32000), (8192, 50257), (4096, 131072))
    for dtype in (torch.bfloat16, torch.float32)
)
QUICK_LINES = (Line(32, 500, torch.float32), Line(16, 501, torch.bfloat16), Line(16, 500, torch.float64))


def cells(record: dict[str, Any]) -> list[str]:
    def timing(kind: str, name: str) -> Timing | None:
        return Timing(**record[kind][name]) if name in record[kind] else None

    def show(value: Timing | None, format_timing: Callable[[Timing], str]) -> str:
        return "-" if value is None else format_timing(value)

    megabytes = ", ".join(f"{size / 1e6:.3g}" for size in record["peak_bytes"].values())
    errors = ", ".join(f"{error:.1g}" for error in (record["relative_error"] or {}).values()) or "-"
    return [
        record["operator"],
        record["pass"],
        *(show(timing("times", name), format_seconds) for name in ("ours", "eager", "compiled")),
        *(show(timing("ratios_to_ours", name), format_ratio) for name in ("eager", "compiled")),
        format_ratio(Timing(**record["share_of_limit"])),
        format_ratio(Timing(**record["share_of_limit_with_allocation"])),
        megabytes,
        errors,
    ]


def run_line(line: Line, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All cases of one size, printed as a table under the speeds of memory."""
    bench = Bench(
        line,
        device=arguments.device,
        repetitions=arguments.repetitions,
        compiled=not arguments.no_compile,
        rotated=not arguments.quick,
        processor_time=arguments.cpu_time,
    )
    bandwidths = bench.bandwidths()
    common = {"bytes_per_second": bandwidths, "clock": "processor" if arguments.cpu_time else "wall"}
    records = []
    for name in arguments.operators:
        operator = OPERATORS[name]
        for which in arguments.passes:
            if which in operator.passes:
                started = time.perf_counter()
                records.append(bench.case(operator, which) | common)
                seconds = time.perf_counter() - started
                print(f"{name} {which} {line.shape} took {seconds:.1f} s", file=sys.stderr)
    speeds = ", ".join(
        f"{name.replace('_', ' ')} {speed / 1e9:.3g} GB/s" for name, speed in bandwidths.items()
    )
    print(f"\n{line.shape} {line.type_name} ({speeds}; {len(bench.inputs)} inputs in turn)\n")
    print_table(HEADER, [cells(record) for record in records])
    sys.stdout.flush()
    return records


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, Sequence[Line]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_options(parser, quick="tiny shapes: does it run, not how fast")
    parser.add_argument("--operators", nargs="+", choices=list(OPERATORS), default=list(OPERATORS))
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=["forward", "both"])
    parser.add_argument("--shapes", nargs="+", metavar="NxV", help="rows x vocabulary")
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES))
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument(
        "--keep-memory", action="store_true", help="glibc keeps freed memory, as in softbellman-train"
    )
    arguments = parser.parse_args(argv)
    settle(parser, arguments)
    if not arguments.shapes and not arguments.dtypes:
        if arguments.quick:
            return arguments, QUICK_LINES
        return arguments, CUDA_LINES if arguments.device.startswith("cuda") else CPU_LINES
    shapes = parse_shapes(parser, arguments.shapes or ["2048x8192"], "ROWSxVOCABULARY", "2048x8192")
    return arguments, [
        Line(rows, vocabulary, DTYPES[name])
        for name in arguments.dtypes or ["float32"]
        for rows, vocabulary in shapes
    ]


def main(argv: Sequence[str] | None = None) -> None:
    arguments, lines = parse(argv)
    if arguments.keep_memory:
        keep_freed_memory()
    if arguments.device.startswith("cuda"):
        torch.cuda.set_device(arguments.device if ":" in arguments.device else 0)
    print(
        f"{arguments.device}, threads: {torch.get_num_threads()}, "
        f"{'processor' if arguments.cpu_time else 'wall'} time, "
        f"medians of {arguments.repetitions} with quartiles"
    )
    records: list[dict[str, Any]] = []
    machine = environment()  # as it is before the first figure is written
    for line in lines:
        records += run_line(line, arguments)
        if arguments.json:  # after every line: a run cut short keeps what it has
            save_json(arguments.json, "kernels", records, machine)


if __name__ == "__main__":
    main()
