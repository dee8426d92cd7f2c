"""The error of the CPU kernels' float32 exponential in units in the last place, over every argument.

    python -m benchmarks.exponential [--scales 1 0.37 22.2222] [--step 1]

Goes through all float32 x from -86 / scale to -2^-30 / scale (with --step n through every n-th) and compares
exp(scale x) with the C library's in float64. About 260 million arguments a scale."""

from __future__ import annotations

import argparse

import numpy as np
import torch

import softbellman
from softbellman.core import native

CHUNK = 1 << 20


def errors(scale: float, step: int) -> tuple[float, float, float, int]:
    """Largest error, the argument it was seen at, mean signed error, number of arguments."""
    first, last = (np.float32(bound / scale).view(np.uint32) for bound in (2.0**-30, 86.0))
    worst, place, total, count = 0.0, 0.0, 0.0, 0
    for start in range(int(first), int(last), CHUNK * step):
        # Whole groups of 64, as the kernels go through their rows; the last one may pass the end.
        bits = np.arange(start, min(start + CHUNK * step, int(last) + 63 * step), step, dtype=np.uint32)
        bits = bits[: len(bits) // 64 * 64]
        x = torch.from_numpy(-bits.view(np.float32))
        ours = torch.empty_like(x)
        native.cpu.exponential(x.data_ptr(), x.numel(), 0, scale, ours.data_ptr())
        exact = np.exp(scale * x.numpy().astype(np.float64))
        unit = np.spacing(exact.astype(np.float32)).astype(np.float64)
        error = (ours.numpy().astype(np.float64) - exact) / unit
        at = int(np.abs(error).argmax())
        if abs(error[at]) > worst:
            worst, place = float(abs(error[at])), float(x[at])
        total += float(error.sum())
        count += len(error)
    return worst, place, total / count, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0, 0.37, 22.2222])
    parser.add_argument("--step", type=int, default=1)
    arguments = parser.parse_args()
    print("instruction set:", softbellman.build_info()["simd_active"])
    print("| scale | arguments | largest error | at | mean error |\n|---|---|---|---|---|")
    for scale in arguments.scales:
        worst, place, mean, count = errors(scale, arguments.step)
        print(f"| {scale:g} | {count:,} | {worst:.3f} | {place:.6g} | {mean:+.4f} |")


if __name__ == "__main__":
    main()
