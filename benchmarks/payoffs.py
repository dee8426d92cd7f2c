"""Prefix CIDEr-D and ROUGE-L against the same in Python, and the counting of document frequencies.

    python -m benchmarks.payoffs [--threads 1] [--repetitions 20] [--cpu-time] [--json FILE]

The Python scorers do what a caption tool called for each prefix has to do and no more: the vectors and norms of the
references are made once, CIDEr-D counts the n-grams of each prefix in a dictionary, ROUGE-L extends one row of the
common subsequence for each reference. They score a few hypotheses; their time is scaled to the batch."""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks._harness import as_record, compare, format_ratio, format_seconds, print_table, save_json
from softbellman import DocumentFrequencies
from softbellman.payoffs import prefix_cider, prefix_rouge_l

SIZES = ((50, 1, 5, 20), (50, 5, 5, 20), (50, 5, 1, 20), (50, 5, 5, 50), (256, 5, 5, 20))  # B, K, R, T
VOCABULARY = 9487
DOCUMENTS = 2000
PYTHON_HYPOTHESES = 4


class Batch(NamedTuple):
    hypotheses: Tensor  # [B, K, T]
    references: Tensor  # [B, R, L]


def draw(*shape: int, generator: torch.Generator) -> Tensor:
    """Zipf-like tokens."""
    weights = 1.0 / torch.arange(1, VOCABULARY + 1, dtype=torch.float64)
    count = int(torch.tensor(shape).prod())
    return torch.multinomial(weights, count, replacement=True, generator=generator).view(shape) + 4


def make_batch(sources: int, samples: int, references: int, length: int, seed: int) -> Batch:
    """A hypothesis keeps about 60 % of the first reference's tokens."""
    generator = torch.Generator().manual_seed(seed)
    tokens = draw(sources, references, length, generator=generator)
    kept = torch.rand((sources, samples, length), generator=generator) < 0.6
    other = draw(sources, samples, length, generator=generator)
    return Batch(torch.where(kept, tokens[:, :1], other), tokens)


class PythonFrequencies(NamedTuple):
    counts: dict[tuple[int, ...], int]
    log_documents: float


def count_in_python(references: Tensor) -> PythonFrequencies:
    counts: Counter[tuple[int, ...]] = Counter()
    for document in references.tolist():
        counts.update(
            {tuple(r[i : i + n]) for r in document for n in range(1, 5) for i in range(len(r) - n + 1)}
        )
    return PythonFrequencies(counts, math.log(len(references)))


def vector(tokens: list[int], frequencies: PythonFrequencies) -> tuple[list[dict[Any, float]], list[float]]:
    """tf * weight of the n-grams of each order, and the norms."""
    vectors, norms = [], []
    for n in range(1, 5):
        held = Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
        weighed = {
            ngram: count * (frequencies.log_documents - math.log(max(1, frequencies.counts.get(ngram, 0))))
            for ngram, count in held.items()
        }
        vectors.append(weighed)
        norms.append(math.sqrt(sum(value * value for value in weighed.values())))
    return vectors, norms


def cider_in_python(batch: Batch, frequencies: PythonFrequencies, hypotheses: int) -> list[float]:
    """CIDEr-D of all prefixes of the first `hypotheses` hypotheses, source by source."""
    scores, samples = [], batch.hypotheses.shape[1]
    for row in range(hypotheses):
        tokens = batch.hypotheses[row // samples, row % samples].tolist()
        references = batch.references[row // samples].tolist()
        described = [(vector(reference, frequencies), len(reference)) for reference in references]
        for length in range(1, len(tokens) + 1):
            ours, our_norms = vector(tokens[:length], frequencies)
            total = 0.0
            for (theirs, their_norms), reference_length in described:
                cosines = 0.0
                for n in range(4):
                    product = sum(
                        min(value, theirs[n][ngram]) * theirs[n][ngram]
                        for ngram, value in ours[n].items()
                        if ngram in theirs[n]
                    )
                    if product:
                        cosines += product / (our_norms[n] * their_norms[n])
                total += cosines * math.exp(-((length - reference_length) ** 2) / 72.0)
            scores.append(2.5 * total / len(references))
    return scores


def rouge_in_python(batch: Batch, hypotheses: int) -> list[float]:
    """ROUGE-L of all prefixes of the first `hypotheses` hypotheses, source by source."""
    scores, samples = [], batch.hypotheses.shape[1]
    for row in range(hypotheses):
        references = batch.references[row // samples].tolist()
        common = [[0] * (len(reference) + 1) for reference in references]
        for t, token in enumerate(batch.hypotheses[row // samples, row % samples].tolist()):
            for r, reference in enumerate(references):
                above, below = common[r], [0]
                for j, other in enumerate(reference):
                    below.append(above[j] + 1 if token == other else max(above[j + 1], below[j]))
                common[r] = below
            precision = max(line[-1] for line in common) / (t + 1)
            recall = max(line[-1] / (len(line) - 1) for line in common)
            scores.append(2.44 * precision * recall / (recall + 1.44 * precision) if recall else 0.0)
    return scores


def check_agreement(ours: Tensor, expected: list[float]) -> None:
    rows = ours.double().view(-1, ours.shape[-1])[:PYTHON_HYPOTHESES].flatten()
    torch.testing.assert_close(rows, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6)


def run(
    metric: str, size: tuple[int, int, int, int], repetitions: int, clock: Callable[[], float]
) -> dict[str, Any]:
    sources, samples, references, length = size
    batches = [make_batch(*size, seed) for seed in range(4)]
    corpus = torch.cat(
        [
            *(batch.references for batch in batches),
            draw(DOCUMENTS, references, length, generator=torch.Generator().manual_seed(9)),
        ]
    )
    frequencies, in_python = DocumentFrequencies.from_references(corpus), count_in_python(corpus)
    contenders: dict[str, Callable[[Batch], Any]] = {
        "cider": {
            "ours": lambda batch: prefix_cider(*batch, frequencies=frequencies),
            "python": lambda batch: cider_in_python(batch, in_python, PYTHON_HYPOTHESES),
        },
        "rouge_l": {
            "ours": lambda batch: prefix_rouge_l(*batch),
            "python": lambda batch: rouge_in_python(batch, PYTHON_HYPOTHESES),
        },
    }[metric]
    check_agreement(contenders["ours"](batches[0]), contenders["python"](batches[0]))
    comparison = compare(contenders, batches, repetitions=repetitions, clock=clock)
    share = sources * samples / PYTHON_HYPOTHESES
    ratio = comparison.ratio("python", "ours")
    rate = sources * samples * length / comparison.timings["ours"].median
    row: dict[str, Any] = {
        "metric": metric, "sources": sources, "samples": samples, "references": references, "length": length,
        "python_scaled_by": share, "prefixes_per_second": rate,
    }  # fmt: skip
    row |= {name: as_record(timing) for name, timing in comparison.timings.items()}
    row["python_over_ours"] = {
        key: value if key == "repetitions" else value * share for key, value in as_record(ratio).items()
    }
    row["cells"] = [
        metric,
        f"{sources} x {samples} x {length}",
        str(references),
        format_seconds(comparison.timings["ours"]),
        f"{rate / 1e6:.3g} M/s",
        f"{comparison.timings['python'].median / PYTHON_HYPOTHESES / length * 1e6:.3g} us",
        f"{ratio.median * share:.3g}",
    ]
    return row


def run_counting(repetitions: int, clock: Callable[[], float]) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    corpora = [draw(DOCUMENTS, 5, 12, generator=generator) for _ in range(2)]
    contenders: dict[str, Callable[[Tensor], Any]] = {
        "ours": DocumentFrequencies.from_references,
        "python": count_in_python,
    }
    assert len(count_in_python(corpora[0]).counts) == sum(map(len, contenders["ours"](corpora[0]).ngrams))
    comparison = compare(contenders, corpora, repetitions=repetitions, warmup=1, clock=clock)
    ratio = comparison.ratio("python", "ours")
    row: dict[str, Any] = {"metric": "document frequencies", "documents": DOCUMENTS}
    row |= {name: as_record(timing) for name, timing in comparison.timings.items()}
    row["python_over_ours"] = as_record(ratio)
    row["cells"] = [
        "document frequencies",
        f"{DOCUMENTS} documents of 5 x 12",
        "5",
        format_seconds(comparison.timings["ours"]),
        "-",
        "-",
        format_ratio(ratio),
    ]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument(
        "--cpu-time", action="store_true", help="processor time, for one thread of a busy machine"
    )
    parser.add_argument("--json", help="save the figures and the record of the machine here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.cpu_time and arguments.threads != 1:
        parser.error("--cpu-time adds up the time of all threads: it needs --threads 1")
    clock, time_name = (time.process_time, "processor") if arguments.cpu_time else (time.perf_counter, "wall")
    rows = [
        run(metric, size, arguments.repetitions, clock) for metric in ("cider", "rouge_l") for size in SIZES
    ]
    rows.append(run_counting(max(2, arguments.repetitions // 4), clock))
    header = ["payoff", "hypotheses", "R", "ours", "prefixes", "Python a prefix", "Python / ours"]
    print(
        f"threads: {arguments.threads}; {time_name} time, medians of {arguments.repetitions} with quartiles"
    )
    print_table(header, [row.pop("cells") for row in rows])
    if arguments.json:
        save_json(arguments.json, "payoffs", [row | {"clock": time_name} for row in rows])


if __name__ == "__main__":
    main()
