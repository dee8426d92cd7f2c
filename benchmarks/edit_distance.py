"""Optimal completion values of the edit distance against the same in plain tensor operations.

    python -m benchmarks.edit_distance [--threads 1] [--repetitions 20] [--cpu-time] [--json FILE] [--device cuda]

The plain method advances the rows of all hypotheses together, one position after the other (the insertions by
a running minimum), then expands the constants to [B, K, T, V] and scatters the optimal tokens. "fill" writes
one number into a new tensor of that size: what no method that returns the values can avoid. "distances" are
the prefix distances alone."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks._harness import (
    as_record,
    compare,
    device_seconds,
    format_ratio,
    format_seconds,
    print_table,
    save_json,
)
from benchmarks._options import add_options, settle
from softbellman.payoffs import optimal_completion_values, prefix_edit_distance

QUICK_SIZES = ((3, 2, 7, 40),)
SIZES = ((50, 1, 30, 4568), (50, 5, 30, 4568), (50, 1, 30, 32000))  # sources, samples, length, vocabulary
EOS, SPECIALS = 3, (0, 1, 2)


class Batch(NamedTuple):
    hypotheses: Tensor  # [B, K, T]
    references: Tensor  # [B, L]
    vocabulary: int


def make_batch(
    sources: int, samples: int, length: int, vocabulary: int, seed: int, device: torch.device
) -> Batch:
    """Zipf-like tokens; a hypothesis keeps about 60 % of its reference's. No end: every state is a real one."""
    generator = torch.Generator().manual_seed(seed)
    weights = 1.0 / torch.arange(1, vocabulary - 3, dtype=torch.float64)

    def draw(*shape: int) -> Tensor:
        count = int(torch.tensor(shape).prod())
        return torch.multinomial(weights, count, replacement=True, generator=generator).view(shape) + 4

    references = draw(sources, length)
    kept = torch.rand((sources, samples, length), generator=generator) < 0.6
    hypotheses = torch.where(kept, references[:, None], draw(sources, samples, length))
    return Batch(hypotheses.to(device), references.to(device), vocabulary)


def plain_rows(batch: Batch) -> Tensor:
    """Rows of the distance before every token [B, K, T, L + 1]."""
    hypotheses, references, _ = batch
    places = torch.arange(references.shape[1] + 1, device=hypotheses.device)
    row = places.expand(*hypotheses.shape[:2], -1)
    rows = []
    for t in range(hypotheses.shape[2]):
        rows.append(row)
        differs = (hypotheses[:, :, t, None] != references[:, None]).long()  # [B, K, L]
        entries = torch.minimum(row[..., 1:] + 1, row[..., :-1] + differs)
        entries = torch.cat([row[..., :1] + 1, entries], -1)
        row = (entries - places).cummin(-1).values + places  # the insertions
    return torch.stack(rows, 2)


def plain_values(batch: Batch) -> Tensor:
    """Q of every next token [B, K, T, V], float32."""
    rows = plain_rows(batch)
    gap = rows[..., -1] - rows.amin(-1)  # [B, K, T]
    optimal = rows[..., :-1] == rows.amin(-1, keepdim=True)  # [B, K, T, L]
    q = (gap - 1.0)[..., None].repeat(1, 1, 1, batch.vocabulary)
    tokens = torch.where(optimal, batch.references[:, None, None], EOS)
    q.scatter_(-1, tokens, gap[..., None].expand_as(tokens).float())
    q[..., list(SPECIALS)] = -torch.inf
    q[..., EOS] = 0.0
    return q


def our_values(batch: Batch) -> Tensor:
    return optimal_completion_values(
        batch.hypotheses, batch.references, vocabulary=batch.vocabulary, eos_id=EOS, special_ids=SPECIALS
    )


def fill(batch: Batch) -> Tensor:
    shape = (*batch.hypotheses.shape, batch.vocabulary)
    return torch.full(shape, 0.5, device=batch.hypotheses.device)


def run(
    size: tuple[int, int, int, int], repetitions: int, clock: Callable[[], float], device: torch.device
) -> dict[str, Any]:
    batches = [make_batch(*size, seed, device) for seed in range(4)]
    assert torch.equal(our_values(batches[0]), plain_values(batches[0]))
    contenders: dict[str, Callable[[Batch], object]] = {
        "ours": our_values,
        "plain": plain_values,
        "fill": fill,
        "distances": lambda batch: prefix_edit_distance(batch.hypotheses, batch.references),
        "plain rows": plain_rows,
    }
    measure = device_seconds if device.type == "cuda" else None
    comparison = compare(contenders, batches, repetitions=repetitions, clock=clock, measure=measure)
    ratios = {
        "plain_over_ours": comparison.ratio("plain", "ours"),
        "ours_over_fill": comparison.ratio("ours", "fill"),
        "plain_rows_over_distances": comparison.ratio("plain rows", "distances"),
    }
    sources, samples, length, vocabulary = size
    row: dict[str, Any] = {
        "sources": sources,
        "samples": samples,
        "length": length,
        "vocabulary": vocabulary,
        "device": str(device),
    }
    row |= {name: as_record(timing) for name, timing in comparison.timings.items()}
    row |= {name: as_record(timing) for name, timing in ratios.items()}
    row["cells"] = [
        f"{sources} x {samples} x {length}",
        str(vocabulary),
        *(format_seconds(comparison.timings[name]) for name in ("ours", "plain", "fill", "distances")),
        *(format_ratio(timing) for timing in ratios.values()),
    ]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_options(parser, quick="one tiny size: does it run, not how fast")
    arguments = parser.parse_args()
    settle(parser, arguments)
    device = torch.device(arguments.device)
    clock, time_name = (time.process_time, "processor") if arguments.cpu_time else (time.perf_counter, "wall")
    rows = [
        run(size, arguments.repetitions, clock, device) | {"clock": time_name}
        for size in (QUICK_SIZES if arguments.quick else SIZES)
    ]
    header = [
        "hypotheses",
        "V",
        "ours",
        "plain",
        "fill",
        "distances",
        "plain / ours",
        "ours / fill",
        "plain rows / distances",
    ]
    print(
        f"threads: {arguments.threads}; {time_name} time, medians of {arguments.repetitions} with quartiles"
    )
    print_table(header, [row.pop("cells") for row in rows])
    if arguments.json:
        save_json(arguments.json, "edit_distance", rows)


if __name__ == "__main__":
    main()
