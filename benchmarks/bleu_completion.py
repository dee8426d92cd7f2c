"""Completion values of BLEU against the same in Python, sacrebleu called for each completion, and cheaper neighbours.

    python -m benchmarks.bleu_completion [--threads 1] [--repetitions 20] [--cpu-time] [--json FILE] [--device cuda]

The Python peer keeps a Counter of the prefix and one of every suffix, and counts anew only the n-grams that hold the next
token; tokens of no reference share one value there, too. It and sacrebleu take a few states; their times are scaled to the
batch. "compact" is our form without the vocabulary, "values" has all V of them, "fill" writes one number into a new tensor
of that size. "edit distance" are the values of the best completions under that payoff, "prefixes" the scores of the prefixes
alone."""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from itertools import chain
from typing import Any

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
from benchmarks.bleu import VOCABULARY, Batch, make_batch
from softbellman.payoffs import (
    bleu_completion_values,
    bleu_completions,
    optimal_completion_values,
    prefix_bleu,
)

SIZES = (
    (50, 1, 1, 14),
    (50, 5, 1, 14),
    (50, 1, 5, 12),
    (50, 1, 1, 50),
)  # sources, samples, references, length
QUICK_SIZES = ((2, 1, 1, 5),)
EOS, UNSEEN = 3, 0  # no reference holds either
ORDERS = range(1, 5)
IDS: dict[str, int] = {"vocabulary": VOCABULARY + 5, "eos_id": EOS}

Tokens = list[int]


def ngrams(tokens: Tokens, order: int) -> Counter[tuple[int, ...]]:
    return Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))


class PythonPeer:
    """The values of one source's states, as one would write them in Python."""

    def __init__(self, references: list[Tokens]) -> None:
        self.references = references
        self.scale = sum(map(len, references)) / len(references)
        self.clip: dict[int, Counter[tuple[int, ...]]] = {}
        for order in ORDERS:
            self.clip[order] = Counter()
            for reference in references:
                self.clip[order] |= ngrams(reference, order)
        self.suffixes = [reference[j:] for reference in references for j in range(len(reference))] + [[]]
        self.counts = [{order: ngrams(suffix, order) for order in ORDERS} for suffix in self.suffixes]

    def score(self, matches: Tokens, length: int) -> float:
        """Sentence BLEU with add-k smoothing, times the reference length."""
        if not any(matches):
            return 0.0
        closest = min((abs(len(r) - length), len(r)) for r in self.references)[1]
        product = matches[0] / length
        for order in ORDERS[1:]:
            product *= (matches[order - 1] + 1) / (max(length - order + 1, 0) + 1)
        return self.scale * math.exp(min(0.0, 1 - closest / length)) * product**0.25

    def values(self, prefix: Tokens) -> dict[int | None, float]:
        """Q of every token of the references, under None that of all others."""
        counts = {order: ngrams(prefix, order) for order in ORDERS}
        now = 0.0
        if prefix:
            now = self.score([(counts[order] & self.clip[order]).total() for order in ORDERS], len(prefix))
        tokens: list[int | None] = [*dict.fromkeys(chain(*self.references)), None]
        best = dict.fromkeys(tokens, -math.inf)
        for suffix, own in zip(self.suffixes, self.counts, strict=True):
            both = {order: counts[order] + own[order] for order in ORDERS}
            matches = [(both[order] & self.clip[order]).total() for order in ORDERS]
            length = len(prefix) + 1 + len(suffix)
            for token in tokens:
                more = matches if token is None else self.with_token(prefix, token, suffix, both, matches)
                best[token] = max(best[token], self.score(more, length) - now)
        return best

    def with_token(
        self,
        prefix: Tokens,
        token: int,
        suffix: Tokens,
        both: dict[int, Counter[tuple[int, ...]]],
        matches: Tokens,
    ) -> Tokens:
        """The matches with the n-grams that hold the next token."""
        more = list(matches)
        for order in ORDERS:
            window = [*prefix[max(len(prefix) - order + 1, 0) :], token, *suffix[: order - 1]]
            for ngram, count in ngrams(window, order).items():
                before, clip = both[order][ngram], self.clip[order][ngram]
                more[order - 1] += min(before + count, clip) - min(before, clip)
        return more


def python_values(batch: Batch) -> list[dict[int | None, float]]:
    """Of the states of the first hypothesis."""
    peer = PythonPeer(batch.references[0].tolist())
    tokens = batch.hypotheses[0, 0].tolist()
    return [peer.values(tokens[:t]) for t in range(len(tokens))]


def sacrebleu_values(batch: Batch) -> float:
    """The best completion of the first hypothesis's middle state by the first reference's first token."""
    from sacrebleu.metrics import BLEU

    metric = BLEU(smooth_method="add-k", tokenize="none", force=True)
    references = [" ".join(map(str, tokens)) for tokens in batch.references[0].tolist()]
    prefix = batch.hypotheses[0, 0, : batch.hypotheses.shape[-1] // 2].tolist()
    suffixes = PythonPeer(batch.references[0].tolist()).suffixes
    token = batch.references[0, 0, 0].item()
    candidates = [" ".join(map(str, [*prefix, token, *suffix])) for suffix in suffixes]
    return max(metric.sentence_score(candidate, references).score for candidate in candidates)


def compact(batch: Batch) -> Tensor:
    return bleu_completions(batch.hypotheses, batch.references, **IDS).values


def values(batch: Batch) -> Tensor:
    return bleu_completion_values(batch.hypotheses, batch.references, **IDS)


def check_agreement(batch: Batch) -> None:
    """The peers say what ours does."""
    found = bleu_completion_values(batch.hypotheses[:1], batch.references[:1], **IDS, dtype=torch.float64)
    for t, row in enumerate(python_values(batch)):
        for token, value in row.items():
            place = UNSEEN if token is None else token
            torch.testing.assert_close(found[0, 0, t, place].item(), value, rtol=1e-9, atol=1e-9)
    middle, token = batch.hypotheses.shape[-1] // 2, int(batch.references[0, 0, 0])
    now = prefix_bleu(batch.hypotheses[:1], batch.references[:1], dtype=torch.float64)[0, 0, middle - 1]
    expected = batch.references.shape[-1] * (sacrebleu_values(batch) / 100 - now.item())
    torch.testing.assert_close(found[0, 0, middle, token].item(), expected, rtol=1e-6, atol=1e-6)


def run(
    size: tuple[int, int, int, int], repetitions: int, clock: Callable[[], float], device: torch.device
) -> dict[str, Any]:
    sources, samples, references, length = size
    batches = [make_batch(sources, samples, references, seed, length) for seed in range(4)]
    check_agreement(batches[0])
    contenders: dict[str, Callable[[Batch], object]] = {
        "compact": compact,
        "values": values,
        "fill": lambda batch: torch.full((*batch.hypotheses.shape, IDS["vocabulary"]), 0.5, device=device),
        "edit distance": lambda batch: optimal_completion_values(
            batch.hypotheses, batch.references[:, 0], **IDS
        ),
        "prefixes": lambda batch: prefix_bleu(batch.hypotheses, batch.references),
        "python": python_values,
        "sacrebleu": sacrebleu_values,
    }
    comparison = compare(
        contenders,
        batches,
        repetitions=repetitions,
        clock=clock,
        measure=device_seconds if device.type == "cuda" else None,
        prepare={
            name: lambda batch: batch.to(str(device)) for name in contenders if name not in ("python", "sacrebleu")
        },
    )  # fmt: skip
    states = sources * samples * length
    distinct = sum(len(set(batch.flatten().tolist())) for batch in batches[0].references) / sources
    scales = {"python": states / length, "sacrebleu": states * distinct}
    row: dict[str, Any] = {
        "sources": sources,
        "samples": samples,
        "references": references,
        "length": length,
        "vocabulary": IDS["vocabulary"],
        "device": str(device),
        "scaled_by": scales,
        "us_per_state": comparison.timings["compact"].median / states * 1e6,
    }
    row |= {name: as_record(timing) for name, timing in comparison.timings.items()}
    row["values_over_fill"] = as_record(comparison.ratio("values", "fill"))
    for name, factor in scales.items():
        ratio = as_record(comparison.ratio(name, "compact"))
        row[f"{name}_over_compact"] = {
            key: value if key == "repetitions" else value * factor for key, value in ratio.items()
        }
    timed = ("compact", "values", "fill", "edit distance", "prefixes")
    row["cells"] = [
        f"{sources} x {samples} x {length}",
        str(references),
        *(format_seconds(comparison.timings[name]) for name in timed),
        f"{row['us_per_state']:.3g} us",
        format_ratio(comparison.ratio("values", "fill")),
        *(f"{row[f'{name}_over_compact']['median']:.3g}" for name in scales),
    ]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_options(parser, quick="one tiny size: does it run, not how fast")
    arguments = parser.parse_args()
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)
    settle(parser, arguments)
    device = torch.device(arguments.device)
    clock, time_name = (time.process_time, "processor") if arguments.cpu_time else (time.perf_counter, "wall")
    rows = [
        run(size, arguments.repetitions, clock, device) | {"clock": time_name}
        for size in (QUICK_SIZES if arguments.quick else SIZES)
    ]
    header = ["hypotheses", "R", "compact", "values", "fill", "edit distance", "prefixes", "a state"]
    header += ["values / fill", "python / compact", "sacrebleu / compact"]
    print(
        f"threads: {arguments.threads}; {time_name} time, medians of {arguments.repetitions} with quartiles"
    )
    print_table(header, [row.pop("cells") for row in rows])
    if arguments.json:
        save_json(arguments.json, "bleu_completion", rows)


if __name__ == "__main__":
    main()
