"""Sampled edits with densities against a Python loop, and whole RAML batches against sacrebleu called per prefix.

    python -m benchmarks.edits [--batches 42x4x30 ...] [--device cuda] [--threads 1] [--cpu-time] [--json FILE]

"draws" is the loop without densities, "loop" draws and scores (`benchmarks/_edit_loops.py`). "one token" is our call on a
batch of a single token, so what a call costs before it draws anything. "batch" compares
`weighted_batch` with the loop followed by sacrebleu on every prefix. A contender that takes long runs on a few
sequences, and our operators run so often in a round that they take about as long as the loop (it finds its own code in
the caches after the first sequence; our first call after another contender takes several times the others); times are
per batch."""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks._edit_loops import MAX_ORDER, OPERATIONS, RATE, Loop, loops
from benchmarks._harness import (
    as_record,
    compare,
    format_ratio,
    format_seconds,
    print_table,
    save_json,
    scaled,
    synchronizer,
)
from benchmarks._options import add_options, settle
from softbellman.payoffs import Edits, ImportanceWeights, bleu_rewards, importance_weights, sample_edits

VOCABULARY = 4568
SPECIAL = (0, 1, 2, 3)
ALPHABET = range(len(SPECIAL), VOCABULARY)
# About as far from the reference as 20 % of its tokens.
TEMPERATURE = {"ngram": 1.0, "corrupt": 1.0, "hamming": 0.102, "edit": 0.35}
LOOP_SEQUENCES = {"ngram": 168, "corrupt": 168, "hamming": 168, "edit": 4}
SACREBLEU_SEQUENCES = 2
OUR_CALLS = {"ngram": 50, "corrupt": 50, "hamming": 50, "edit": 10}
TAU = 0.4


class Size(NamedTuple):
    """B sources, K samples of each, L tokens."""

    sources: int
    samples: int
    length: int

    @classmethod
    def parse(cls, text: str) -> Size:
        size = cls(*map(int, text.split("x")))
        if size.sources * size.samples < max(LOOP_SEQUENCES.values()):
            raise argparse.ArgumentTypeError(f"{text} has fewer sequences than the loop runs on")
        return size


def make_batch(size: Size, seed: int) -> Tensor:
    """References [B, L] of Zipf-like tokens."""
    weights = 1.0 / torch.arange(1, len(ALPHABET) + 1, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.multinomial(weights, size.sources * size.length, replacement=True, generator=generator)
    return drawn.view(size.sources, size.length) + len(SPECIAL)


def options(size: Size, proposal: str) -> dict[str, Any]:
    return {
        "samples": size.samples,
        "proposal": proposal,
        "vocabulary": VOCABULARY,
        "special_ids": SPECIAL,
        "seed": 1,
        "max_order": MAX_ORDER,
        "rate": RATE,
        "temperature": TEMPERATURE[proposal],
        "max_distance": OPERATIONS if proposal == "edit" else None,
    }


def weighted_batch(tokens: Tensor, *, tau: float, **settings: Any) -> tuple[Edits, Tensor, ImportanceWeights]:
    """A training batch of RAML: edits of `tokens` `[B, L]`, their rewards `[B, K, W]` and their weights."""
    edits = sample_edits(tokens, **settings)
    rewards = bleu_rewards(edits.tokens, tokens, hypothesis_lengths=edits.lengths, dtype=torch.float64)
    return edits, rewards, importance_weights(rewards.sum(-1), edits.log_density, tau=tau)


def run_loop(
    loop: Loop, batch: Tensor, samples: int, sequences: int, score: bool
) -> tuple[Tensor, list[float]]:
    """Padded edits of the first `sequences` rows of B x K, and their log densities where asked for."""
    references = batch.tolist()
    edited, densities = [], []
    for row in range(sequences):
        x = references[row // samples]
        edited.append(loop.draw(x))
        if score:
            densities.append(loop.log_density(x, edited[-1]))
    width = max(map(len, edited))
    return torch.tensor([y + [0] * (width - len(y)) for y in edited]), densities


def run_batch(loop: Loop, batch: Tensor) -> list[float]:
    """log weights of a few sequences: the loop, then sacrebleu on every prefix."""
    from sacrebleu.metrics import BLEU

    metric = BLEU(smooth_method="add-k", tokenize="none", force=True)
    references = batch.tolist()
    log_weights = []
    for row in range(SACREBLEU_SEQUENCES):
        x = references[row]
        y = loop.draw(x)
        words, text = [str(token) for token in y], [" ".join(map(str, x))]
        payoffs = [
            metric.sentence_score(" ".join(words[: t + 1]), text).score / 100 * len(x) for t in range(len(y))
        ]
        log_weights.append(payoffs[-1] / TAU - loop.log_density(x, y) if payoffs else 0.0)
    return log_weights


def check_agreement(size: Size, proposal: str, loop: Loop, batch: Tensor, device: str) -> None:
    edits = sample_edits(batch.to(device), **options(size, proposal))
    for row in range(LOOP_SEQUENCES[proposal]):
        b, k = divmod(row, size.samples)
        y = edits.tokens[b, k, : edits.lengths[b, k]].tolist()
        expected = loop.log_density(batch[b].tolist(), y)
        assert math.isclose(edits.log_density[b, k].item(), expected, rel_tol=1e-10), (proposal, row)


def repeat(operator: Callable[..., Any], times: int, batch: Tensor, **settings: Any) -> None:
    """Calls whose results are gone before the next, as in training: many kept at once would be new pages."""
    for _ in range(times):
        operator(batch, **settings)


def run(
    size: Size, proposal: str, repetitions: int, clock: Callable[[], float], device: str
) -> dict[str, Any]:
    loop = loops(ALPHABET, size.length, TEMPERATURE)[proposal]
    batches = [make_batch(size, seed) for seed in range(4)]
    check_agreement(size, proposal, loop, batches[0], device)
    sequences, times, settings = LOOP_SEQUENCES[proposal], OUR_CALLS[proposal], options(size, proposal)
    rows = size.sources * size.samples
    contenders: dict[str, Callable[[Tensor], object]] = {
        "ours": lambda batch: repeat(sample_edits, times, batch, **settings),
        "one token": lambda batch: repeat(sample_edits, times, batch[:1, :1], **(settings | {"samples": 1})),
        "draws": lambda batch: run_loop(loop, batch, size.samples, sequences, score=False),
        "loop": lambda batch: run_loop(loop, batch, size.samples, sequences, score=True),
        "ours batch": lambda batch: repeat(weighted_batch, times, batch, tau=TAU, **settings),
        "loop batch": lambda batch: run_batch(loop, batch),
    }
    comparison = compare(
        contenders,
        batches,
        repetitions=repetitions,
        clock=clock,
        synchronize=synchronizer(device),
        prepare={name: lambda batch: batch.to(device) for name in ("ours", "one token", "ours batch")},
    )
    batch_share = {
        "ours": 1 / times,
        "one token": 1 / times,
        "draws": rows / sequences,
        "loop": rows / sequences,
        "ours batch": 1 / times,
        "loop batch": rows / SACREBLEU_SEQUENCES,
    }
    timings = {name: scaled(timing, batch_share[name]) for name, timing in comparison.timings.items()}
    pairs = (("draws", "ours"), ("loop", "ours"), ("loop", "one token"), ("loop batch", "ours batch"))
    ratios = {
        f"{slower} over {faster}": scaled(
            comparison.ratio(slower, faster), batch_share[slower] / batch_share[faster]
        )
        for slower, faster in pairs
    }
    speed = rows * size.length / timings["ours"].median / 1e6
    row: dict[str, Any] = {
        "proposal": proposal,
        **size._asdict(),
        "vocabulary": VOCABULARY,
        "million_tokens_per_second": speed,
    }
    row |= {name: as_record(timing) for name, timing in (timings | ratios).items()}
    row["cells"] = [
        "x".join(map(str, size)),
        proposal,
        format_seconds(timings["ours"]),
        f"{speed:.3g} M/s",
        format_ratio(ratios["draws over ours"]),
        format_ratio(ratios["loop over ours"]),
        format_ratio(ratios["loop over one token"]),
        format_seconds(timings["ours batch"]),
        format_ratio(ratios["loop batch over ours batch"]),
    ]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--batches",
        nargs="+",
        type=Size.parse,
        default=[Size(42, 4, 30)],
        help="B x K x L: sources, samples of each, tokens",
    )
    add_options(parser, quick="one tiny batch: does it run, not how fast")
    arguments = parser.parse_args()
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)
    settle(parser, arguments)
    if arguments.quick:
        arguments.batches = [Size(42, 4, 6)]
    clock, time_name = (time.process_time, "processor") if arguments.cpu_time else (time.perf_counter, "wall")
    rows = [
        run(size, proposal, arguments.repetitions, clock, arguments.device)
        | {"clock": time_name, "device": arguments.device}
        for size in arguments.batches
        for proposal in TEMPERATURE
    ]
    header = [
        "B x K x L",
        "proposal",
        "ours",
        "tokens",
        "draws / ours",
        "loop / ours",
        "loop / one token",
        "ours, batch",
        "loop + sacrebleu / ours",
    ]
    print(
        f"K edits of B references of L tokens, {VOCABULARY} words; {arguments.device}, threads: {arguments.threads}; "
        f"{time_name} time, medians of {arguments.repetitions} with quartiles"
    )
    print_table(header, [row.pop("cells") for row in rows])
    if arguments.json:
        save_json(arguments.json, "edits", rows)


if __name__ == "__main__":
    main()
