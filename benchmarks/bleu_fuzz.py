"""Counts of random pairs, native against the reference: every integer must agree.

    python -m benchmarks.bleu_fuzz [--pairs 1000000] [--seed 0]

A pair is a prefix of a hypothesis and the references of its source. The reference counts each from scratch,
so a million pairs take minutes. Exits with status 1 and the first disagreement if there is one.
"""

from __future__ import annotations

import argparse
import random
import sys

import torch

from softbellman.payoffs import bleu as _operators  # noqa: F401  registers the operator
from softbellman.reference.bleu import _sequences, _statistics


def fuzz_batch(generator: random.Random) -> int:
    """Check every prefix of one random batch; the number of pairs."""
    sources, samples = generator.randint(1, 16), generator.randint(1, 8)
    references, length, width = generator.randint(1, 5), generator.randint(1, 24), generator.randint(1, 24)
    torch.manual_seed(generator.getrandbits(60))
    alphabet = generator.choice((1, 2, 3, 5, 12, 100, 2**62))
    tokens = torch.randint(0, alphabet, (sources, references, width))
    hypotheses = torch.randint(0, alphabet, (sources, samples, length))
    shared = min(length, width)
    kept = torch.rand(sources, samples, shared) < generator.choice((0.0, 0.5, 0.9))
    hypotheses[..., :shared] = torch.where(kept, tokens[:, :1, :shared], hypotheses[..., :shared])
    lengths = torch.randint(0, length + 1, (sources, samples))
    widths = torch.randint(0, width + 1, (sources, references))
    max_order = generator.choice((1, 2, 3, 4, 4, 4, 5, 8))
    eos = generator.choice((None, None, 0, 3))
    unmatched = generator.choice((None, None, 1))

    operator = torch.ops.softbellman.bleu_counts
    counts = operator(hypotheses, tokens, lengths, widths, max_order, eos, unmatched, True).tolist()
    pairs = 0
    source_references = _sequences(tokens, widths, eos)
    for b, rows in enumerate(_sequences(hypotheses, lengths, eos)):
        for k, row in enumerate(rows):
            for t in range(len(row)):
                expected = _statistics(row[: t + 1], source_references[b], max_order, unmatched).flat()
                if counts[b][k][t] != expected:
                    sys.exit(
                        f"prefix {row[: t + 1]} against {source_references[b]}, max_order {max_order}, "
                        f"unmatched {unmatched}: native {counts[b][k][t]}, reference {expected}"
                    )
            pairs += len(row)
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    generator = random.Random(arguments.seed)
    pairs = batches = 0
    while pairs < arguments.pairs:
        pairs += fuzz_batch(generator)
        batches += 1
    print(f"{pairs} pairs in {batches} batches, 0 disagreements (seed {arguments.seed})")


if __name__ == "__main__":
    main()
