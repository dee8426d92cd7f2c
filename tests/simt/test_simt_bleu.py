"""The BLEU kernels on the SIMT shim: the operators of `softbellman.payoffs.bleu` with these launchers in place of
the CPU's.

They share the index, the formulas and the checks with the CPU; what is tested here is the parallel insertion,
the counting 32 positions at a time and the loops over sources and hypotheses. No claim about a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import simt_build
import torch
from simt_payoffs import DEVICE, STREAM, payoffs_on
from torch import Tensor

from softbellman.core import launch, native
from softbellman.payoffs import batches, bleu
from softbellman.reference import bleu as reference

pytestmark = pytest.mark.skipif(simt_build.compiler() is None, reason="no g++ to build the SIMT shim with")

SCORES = ("prefix_bleu", "sentence_bleu", "bleu_rewards")


@pytest.fixture(autouse=True)
def launchers(simt: ModuleType) -> Iterator[None]:
    with payoffs_on(simt):
        yield


def random_batch(
    seed: int, sources: int, samples: int, references: int, length: int, width: int
) -> dict[str, Tensor]:
    """Two to six different tokens; half of each hypothesis copied from the first reference."""
    generator = torch.Generator().manual_seed(seed)

    def draw(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=generator)

    alphabet = 2 + seed % 5
    tokens = draw(alphabet, sources, references, width)
    hypotheses = draw(alphabet, sources, samples, length)
    shared = min(length, width)
    copied = draw(2, sources, samples, shared).bool()
    hypotheses[..., :shared] = torch.where(copied, tokens[:, :1, :shared], hypotheses[..., :shared])
    return {
        "hypotheses": hypotheses,
        "references": tokens,
        "hypothesis_lengths": draw(length + 1, sources, samples),
        "reference_lengths": draw(width + 1, sources, references),
    }


# Lengths beyond 32 go round the loop over positions, beyond 128 round that of the insertion; the shim
# launches at most three blocks, so five sources and 15 hypotheses go round the loops over both.
BATCHES = [(1, 1, 1, 1, 1), (5, 3, 2, 12, 9), (1, 2, 3, 33, 32), (2, 2, 1, 70, 140), (4, 4, 2, 64, 20)]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"smoothing": "none", "effective_order": True, "max_order": 3},
    {"smoothing": "exp", "max_order": 8, "unmatched_id": 1},
    {"smoothing": "floor", "max_order": 2, "eos_id": 1},
    {"smoothing": "add-k-length", "smooth_value": 0.5},
    {"smoothing": "add-one-all", "max_order": 1, "eos_id": 0, "unmatched_id": 1},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", BATCHES, ids=str)
def test_against_reference(shape: tuple[int, int, int, int, int], options: dict[str, Any]) -> None:
    batch = random_batch(sum(shape), *shape)
    for name in SCORES:
        for dtype, tolerance in ((torch.float64, 1e-13), (torch.float32, 6e-8)):
            ours = getattr(bleu, name)(**batch, **options, dtype=dtype)
            expected = getattr(reference, name)(**batch, **options, dtype=torch.float64)
            torch.testing.assert_close(ours.double(), expected, rtol=tolerance, atol=140 * tolerance)
    names = ("max_order", "eos_id", "unmatched_id")
    counting = {name: options[name] for name in names if name in options}
    ours = bleu.corpus_bleu_statistics(**batch, **counting)
    assert torch.equal(ours, reference.corpus_bleu_statistics(**batch, **counting))


@pytest.mark.parametrize("schedule", [1, 2, 7])
def test_any_order_of_threads(simt: ModuleType, schedule: int) -> None:
    batch = random_batch(3, 3, 3, 3, 40, 50)
    expected = bleu.bleu_rewards(**batch), bleu.corpus_bleu_statistics(**batch)
    simt.set_schedule(schedule)
    assert torch.equal(bleu.bleu_rewards(**batch), expected[0])
    assert torch.equal(bleu.corpus_bleu_statistics(**batch), expected[1])


@pytest.mark.parametrize(("eos", "unmatched"), [(None, None), (1, None), (None, 0)])
def test_counts_are_those_of_the_cpu(
    monkeypatch: pytest.MonkeyPatch, eos: int | None, unmatched: int | None
) -> None:
    for seed in range(6):
        batch = tuple(random_batch(seed, 3, 3, 2, 45, 37).values())
        arguments = (*batch, eos, unmatched, 4 + seed % 2, True)
        counts = torch.ops.softbellman.bleu_counts(*arguments)
        with monkeypatch.context() as patch:
            for module in (launch, batches):
                patch.setattr(module, "native", native)
            assert torch.equal(counts, torch.ops.softbellman.bleu_counts(*arguments))


def test_launches_on_the_given_device_and_stream(simt: ModuleType) -> None:
    before = simt.last_launch()[2]
    bleu.sentence_bleu(**random_batch(0, 2, 2, 1, 5, 5))
    device, stream, launches, *_ = simt.last_launch()
    assert (device, stream, launches - before) == (DEVICE, STREAM, 2)
    assert simt.current_device() == 0
    bleu.prefix_bleu(torch.zeros((0, 5), dtype=torch.int64), torch.zeros((0, 5), dtype=torch.int64))
    assert simt.last_launch()[2] == launches
