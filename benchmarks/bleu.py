"""Prefix BLEU against sacrebleu and nltk called for each prefix and against a dense comparison of all n-grams.

    python -m benchmarks.bleu [--device cuda] [--threads 1] [--repetitions 20] [--cpu-time] [--json FILE]

The dense method compares every n-gram of a hypothesis with every one of its own and of its references in
tensors of [B, K, T, T] and [B, K, R, T, L] elements, one order after the other, then clips and sums for every
prefix: what plain tensor operations offer. sacrebleu scores a few hypotheses, and nltk does where it is installed (extra
`bench`); their times are scaled to the batch."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks._harness import (
    as_record,
    compare,
    format_ratio,
    format_seconds,
    print_table,
    save_json,
    synchronizer,
)
from benchmarks._options import add_options, settle
from softbellman.payoffs.bleu import prefix_bleu

SIZES = ((50, 1, 1), (50, 5, 1), (50, 1, 5), (50, 5, 5), (128, 5, 1))  # sources, samples, references
QUICK_SIZES = ((2, 1, 1),)
LENGTH = 50
VOCABULARY = 4568
SCORED_HYPOTHESES = 2  # by the libraries that score one prefix a call


class Batch(NamedTuple):
    hypotheses: Tensor  # [B, K, T]
    references: Tensor  # [B, R, L]

    def to(self, device: str) -> Batch:
        return Batch(*(tokens.to(device) for tokens in self))


def make_batch(sources: int, samples: int, references: int, seed: int, length: int = LENGTH) -> Batch:
    """Zipf-like tokens; a hypothesis keeps about 60 % of the first reference's tokens."""
    generator = torch.Generator().manual_seed(seed)
    weights = 1.0 / torch.arange(1, VOCABULARY + 1, dtype=torch.float64)

    def draw(*shape: int) -> Tensor:
        count = int(torch.tensor(shape).prod())
        return torch.multinomial(weights, count, replacement=True, generator=generator).view(shape) + 4

    tokens = draw(sources, references, length)
    kept = torch.rand((sources, samples, length), generator=generator) < 0.6
    return Batch(torch.where(kept, tokens[:, :1], draw(sources, samples, length)), tokens)


def dense_prefix_bleu(batch: Batch, max_order: int = 4) -> Tensor:
    """Prefix BLEU with add-k smoothing, all references of full length, [B, K, T]."""
    hypotheses, references = batch
    length = hypotheses.shape[-1]
    prefix = torch.arange(1, length + 1, device=hypotheses.device)
    log_precision = torch.zeros(hypotheses.shape, device=hypotheses.device)
    any_match = torch.zeros_like(log_precision, dtype=torch.bool)
    for order in range(1, max_order + 1):
        windows = hypotheses.unfold(-1, order, 1)  # [B, K, T', n]
        targets = references.unfold(-1, order, 1)  # [B, R, L', n]
        equal = (windows[:, :, :, None] == windows[:, :, None]).all(-1)  # [B, K, T', T']
        in_reference = (
            (windows[:, :, None, :, None] == targets[:, None, :, None]).all(-1).sum(-1)
        )  # [B, K, R, T']
        clip = in_reference.amax(2)  # [B, K, T']
        # occurrences of window j among the first p + 1 windows; 0 where j lies beyond p
        occurrences = equal.float().cumsum(2).tril()  # [B, K, p, j]
        matches = (torch.minimum(occurrences, clip[:, :, None]) / occurrences.clamp(min=1)).sum(-1)
        matches = torch.nn.functional.pad(matches, (order - 1, 0))  # [B, K, T]
        totals = (prefix - order + 1).clamp(min=0).float()
        added = 1.0 if order > 1 else 0.0
        log_precision += ((matches + added) / (totals + added)).log()
        any_match |= matches > 0
    brevity = (1 - references.shape[-1] / prefix).clamp(max=0)
    return torch.where(any_match, (brevity + log_precision / max_order).exp(), 0.0)


def sacrebleu_prefixes(batch: Batch, hypotheses: int) -> list[float]:
    """Scores of all prefixes of the first `hypotheses` hypotheses, source by source."""
    from sacrebleu.metrics import BLEU

    metric = BLEU(smooth_method="add-k", tokenize="none", force=True)
    scores = []
    samples = batch.hypotheses.shape[1]
    for row in range(hypotheses):
        words = [str(token) for token in batch.hypotheses[row // samples, row % samples].tolist()]
        references = [" ".join(map(str, tokens)) for tokens in batch.references[row // samples].tolist()]
        scores += [
            metric.sentence_score(" ".join(words[: t + 1]), references).score / 100 for t in range(len(words))
        ]
    return scores


def nltk_prefixes(batch: Batch, hypotheses: int) -> list[float]:
    """The same by nltk, whose add-one smoothing differs from sacrebleu's in prefixes of less than four tokens alone."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    smoothing = SmoothingFunction().method2
    scores = []
    samples = batch.hypotheses.shape[1]
    for row in range(hypotheses):
        words = batch.hypotheses[row // samples, row % samples].tolist()
        references = batch.references[row // samples].tolist()
        scores += [
            sentence_bleu(references, words[: t + 1], smoothing_function=smoothing) for t in range(len(words))
        ]
    return scores


LIBRARIES: dict[str, Callable[[Batch, int], list[float]]] = {"sacrebleu": sacrebleu_prefixes}
if find_spec("nltk"):
    LIBRARIES["nltk"] = nltk_prefixes


def check_agreement(batch: Batch, device: str = "cpu") -> None:
    there = batch.to(device)
    ours = prefix_bleu(there.hypotheses, there.references)
    torch.testing.assert_close(ours, dense_prefix_bleu(there), rtol=1e-4, atol=1e-6)
    ours = ours.cpu()
    rows = batch.hypotheses.shape[0] * batch.hypotheses.shape[1]
    actual = ours.view(rows, -1)[:SCORED_HYPOTHESES]
    for name, score in LIBRARIES.items():
        expected = torch.tensor(score(batch, SCORED_HYPOTHESES)).view(SCORED_HYPOTHESES, -1)
        first = 3 if name == "nltk" else 0
        torch.testing.assert_close(actual[:, first:], expected[:, first:], rtol=0, atol=1e-6)


def run(
    sources: int, samples: int, references: int, repetitions: int, clock: Callable[[], float], device: str
) -> dict[str, Any]:
    batches = [make_batch(sources, samples, references, seed) for seed in range(4)]
    check_agreement(batches[0], device)
    contenders: dict[str, Callable[[Batch], object]] = {
        "ours": lambda batch: prefix_bleu(batch.hypotheses, batch.references),
        "dense": dense_prefix_bleu,
    }
    for name, score in LIBRARIES.items():
        contenders[name] = partial(score, hypotheses=SCORED_HYPOTHESES)
    comparison = compare(
        contenders,
        batches,
        repetitions=repetitions,
        clock=clock,
        synchronize=synchronizer(device),
        prepare={name: lambda batch: batch.to(device) for name in ("ours", "dense")},
    )
    share = sources * samples / SCORED_HYPOTHESES
    prefixes = sources * samples * LENGTH
    row: dict[str, Any] = {
        "sources": sources,
        "samples": samples,
        "references": references,
        "length": LENGTH,
        "libraries_scaled_by": share,
        "million_prefixes_per_second": prefixes / comparison.timings["ours"].median / 1e6,
    }
    row |= {name: as_record(timing) for name, timing in comparison.timings.items()}
    against_dense = comparison.ratio("dense", "ours")
    row["dense_over_ours"] = as_record(against_dense)
    for name in LIBRARIES:
        row[f"{name}_over_ours"] = {
            key: value if key == "repetitions" else value * share
            for key, value in as_record(comparison.ratio(name, "ours")).items()
        }
    row["cells"] = [
        f"{sources} x {samples} x {LENGTH}",
        str(references),
        format_seconds(comparison.timings["ours"]),
        f"{row['million_prefixes_per_second']:.3g} M/s",
        format_seconds(comparison.timings["dense"]),
        format_ratio(against_dense),
    ]
    for name in LIBRARIES:
        row["cells"] += [
            f"{comparison.timings[name].median / SCORED_HYPOTHESES / LENGTH * 1e6:.3g} us",
            f"{row[f'{name}_over_ours']['median']:.3g}",
        ]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_options(parser, quick="one tiny size: does it run, not how fast")
    arguments = parser.parse_args()
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)
    settle(parser, arguments)
    clock, time_name = (time.process_time, "processor") if arguments.cpu_time else (time.perf_counter, "wall")
    told = {"clock": time_name, "device": arguments.device}
    sizes = QUICK_SIZES if arguments.quick else SIZES
    rows = [run(*size, arguments.repetitions, clock, arguments.device) | told for size in sizes]
    header = [
        "hypotheses",
        "R",
        "ours",
        "prefixes",
        "dense",
        "dense / ours",
        *(title for name in LIBRARIES for title in (f"{name} a prefix", f"{name} / ours")),
    ]
    print(
        f"{arguments.device}, threads: {arguments.threads}; {time_name} time, medians of {arguments.repetitions} with quartiles"
    )
    print_table(header, [row.pop("cells") for row in rows])
    if arguments.json:
        save_json(arguments.json, "bleu", rows)


if __name__ == "__main__":
    main()
