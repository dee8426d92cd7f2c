"""How much slower two matrices are that lie a multiple of 256 MiB from each other.

    python -m benchmarks.neighbours [--threads 2] [--repetitions 20] [--json FILE]

The same calls on matrices [512, 131072] in one block of memory: "alike" with a cache line between each and the next, as
an allocator that keeps its memory lays them, "apart" with 4 KiB and a cache line. "new" gradients are where
our operators put them. The rates count every matrix read or written once."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks._harness import as_record, compare, environment, format_ratio, print_table, save_json
from softbellman import actor_loss, soft_target_cross_entropy
from softbellman.training.allocator import keep_freed_memory

ROWS, VOCABULARY = 512, 131_072
GAPS = {"alike": 64, "apart": 4096 + 64}  # bytes
HEADER = ("call", "matrices", "GB/s alike", "GB/s apart", "time alike / apart")


def matrices(block: Tensor, gap: int, count: int) -> list[Tensor]:
    """The first `count` matrices of a block."""
    size = ROWS * VOCABULARY
    starts = [position * (size + gap // 4) for position in range(count)]
    # `.data`: what one call writes must not invalidate the graph of another
    return [block[start : start + size].view(ROWS, VOCABULARY).data for start in starts]


def cases(block: Tensor) -> dict[str, tuple[int, dict[str, Callable[[object], object]]]]:
    """Calls by name: how many matrices they move, and the call at each gap."""
    found: dict[str, tuple[int, dict[str, Callable[[object], object]]]] = {}

    def add(name: str, moved: int, make: Callable[[list[Tensor]], Callable[[object], object]]) -> None:
        found[name] = moved, {gap: make(matrices(block, bytes_, 3)) for gap, bytes_ in GAPS.items()}

    upstream = torch.ones(ROWS)
    add("copy", 2, lambda m: lambda _: m[1].copy_(m[0]))
    add("torch.add", 3, lambda m: lambda _: torch.add(m[0], m[1], out=m[2]))
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "actor_loss": lambda logits, q: actor_loss(logits, q, tau=0.5).loss,
        "soft_target_cross_entropy": lambda logits, q: soft_target_cross_entropy(logits, q, tau=0.5),
    }
    for name, loss in losses.items():

        def forward(m: list[Tensor], loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[object], object]:
            return lambda _: loss(m[0], m[1])

        def backward(m: list[Tensor], loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[object], object]:
            leaf = m[0].data.requires_grad_()
            result = loss(leaf, m[1])
            return lambda _: torch.autograd.grad(result, leaf, upstream, retain_graph=True)

        add(f"{name} forward", 2, partial(forward, loss=loss))
        add(f"{name} backward, new", 3, partial(backward, loss=loss))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--json", type=Path, help="save figures and the record of the machine here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    machine = environment()
    block = torch.randn(3 * ROWS * VOCABULARY + 3 * 4096)
    rows: list[dict[str, Any]] = []
    cells = []
    for name, (moved, calls) in cases(block).items():
        comparison = compare(calls, [None], repetitions=arguments.repetitions, warmup=3)
        ratio = comparison.ratio("alike", "apart")
        rate = {gap: 4 * moved * ROWS * VOCABULARY / comparison.timings[gap].median / 1e9 for gap in GAPS}
        rows.append(
            {
                "call": name,
                "matrices": moved,
                "times": {gap: as_record(comparison.timings[gap]) for gap in GAPS},
                "gigabytes_per_second": rate,
                "alike_over_apart": as_record(ratio),
            }
        )
        cells.append([name, str(moved), *(f"{rate[gap]:.1f}" for gap in GAPS), format_ratio(ratio)])
    print_table(HEADER, cells)
    if arguments.json:
        save_json(arguments.json, "neighbours", rows, machine)


if __name__ == "__main__":
    main()
