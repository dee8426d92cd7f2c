"""The float32 products of an output layer by the native core, against PyTorch's BLAS: logits, gradients of both factors.

    python -m benchmarks.products [--threads 1] [--repetitions 20] [--cpu-time] [--shapes 2000x4568x256 ...] [--json FILE]

A shape is ROWSxVOCABULARYxHIDDEN. Ours is what `softbellman.core.products` uses where it is faster; here it is measured on
every processor. The error is the largest against float64 on the first 64 rows, relative to the largest entry."""

from __future__ import annotations

import argparse
import math
import time
from typing import Any, NamedTuple

import torch
from torch import Tensor

import softbellman
from benchmarks._harness import as_record, compare, format_ratio, print_table, save_json
from benchmarks._options import add_options, parse_shapes, settle
from softbellman.core import native, products

SHAPES = (
    "50x4568x256",
    "600x4568x256",
    "4000x4568x256",
    "256x32000x1024",
    "1280x32000x512",
    "256x151936x1024",
)
QUICK_SHAPES = ("64x300x64",)


class Factors(NamedTuple):
    """What is multiplied, and where the product goes."""

    left: Tensor
    right: Tensor
    out: Tensor


def make_factors(product: str, rows: int, vocabulary: int, hidden: int) -> Factors:
    """Random factors of the logits, or of the gradient of the hidden states or of the weight."""
    if product == "logits":
        left, right = torch.randn(rows, hidden), torch.randn(vocabulary, hidden).t()
    elif product == "hidden":
        left, right = torch.randn(rows, vocabulary), torch.randn(vocabulary, hidden)
    else:
        left, right = torch.randn(rows, vocabulary).t(), torch.randn(rows, hidden)
    return Factors(left, right, torch.empty(len(left), right.shape[1]))


def ours(factors: Factors) -> None:
    before = native.cpu.PRODUCT_IS_FASTER
    native.cpu.PRODUCT_IS_FASTER = True
    try:
        products.multiply(*factors)
    finally:
        native.cpu.PRODUCT_IS_FASTER = before


def blas(factors: Factors) -> None:
    torch.mm(factors.left, factors.right, out=factors.out)


def error(factors: Factors) -> float:
    """Of what lies in `out`."""
    exact = factors.left[:64].double() @ factors.right.double()
    return float((factors.out[:64] - exact).abs().max() / exact.abs().max())


def run(shape: tuple[int, ...], product: str, arguments: argparse.Namespace) -> dict[str, Any]:
    rows, vocabulary, hidden = shape
    bytes_of_one = 4 * (rows * vocabulary + rows * hidden + vocabulary * hidden)
    inputs = [make_factors(product, *shape) for _ in range(2 if bytes_of_one > 1 << 27 else 4)]
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    found = compare(
        {"ours": ours, "blas": blas}, inputs, repetitions=arguments.repetitions, clock=clock, rotate_every_call=True
    )  # fmt: skip
    errors = {}
    for name, multiply in (("ours", ours), ("blas", blas)):
        multiply(inputs[0])
        errors[name] = error(inputs[0])
    if not max(errors.values()) < 1e-5 * math.sqrt(max(shape)):
        raise SystemExit(f"wrong product {product} of {shape}: errors {errors}")
    work = 2e-9 * rows * vocabulary * hidden
    row: dict[str, Any] = {"rows": rows, "vocabulary": vocabulary, "hidden": hidden, "product": product}
    row |= {name: as_record(timing) for name, timing in found.timings.items()}
    row |= {f"{name}_gflops": work / timing.median for name, timing in found.timings.items()}
    row |= {f"{name}_error": value for name, value in errors.items()}
    row["blas_over_ours"] = as_record(found.ratio("blas", "ours"))
    row["cells"] = [
        f"{rows:,} x {vocabulary:,} x {hidden:,}", product, f"{row['ours_gflops']:.0f}", f"{row['blas_gflops']:.0f}",
        format_ratio(found.ratio("blas", "ours")), f"{errors['ours']:.1e}", f"{errors['blas']:.1e}",
    ]  # fmt: skip
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, quick="a small shape: whether everything runs, not how fast")
    parser.add_argument("--shapes", nargs="+", default=None, help=f"default {' '.join(SHAPES)}")
    arguments = parser.parse_args()
    settle(parser, arguments)
    if arguments.device != "cpu":
        parser.error("the native products are those of the CPU")
    wanted = arguments.shapes or (QUICK_SHAPES if arguments.quick else SHAPES)
    shapes = parse_shapes(parser, wanted, "ROWSxVOCABULARYxHIDDEN", SHAPES[0])
    rows = [run(shape, product, arguments) for shape in shapes for product in ("logits", "hidden", "weight")]
    used = "in use" if native.cpu.PRODUCT_IS_FASTER else "not in use"
    kind = "processor" if arguments.cpu_time else "wall"
    print(
        f"{softbellman.build_info()['simd_active']}, {used} on this processor; threads: {arguments.threads}; {kind} time, "
        f"medians of {arguments.repetitions} rounds; GFLOP/s, ratios with quartiles"
    )
    header = ["rows x vocabulary x hidden", "product", "ours", "BLAS", "BLAS / ours", "error, ours", "BLAS"]
    print_table(header, [row.pop("cells") for row in rows])
    if arguments.json:
        save_json(arguments.json, "products", [{**row, "clock": kind} for row in rows])


if __name__ == "__main__":
    main()
