"""CIDEr-D and ROUGE-L on the SIMT shim: the operators of `softbellman` with these launchers in place of the CPU's.

They share the formulas, the look-up and the checks with the CPU. What is tested here is the walk 32 positions at a time, the
sums over lanes, the row of the common subsequence in 32-bit words, and the loops over references and hypotheses. ROUGE-L is
made of integers until the last division: its bits must be the CPU's. CIDEr-D adds in another order. No claim about a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import ModuleType
from typing import Any

import pytest
import simt_build
import torch
from simt_payoffs import DEVICE, STREAM, payoffs_on
from torch import Tensor

import softbellman as ops
from softbellman import DocumentFrequencies

pytestmark = pytest.mark.skipif(simt_build.compiler() is None, reason="no g++ to build the SIMT shim with")

Launchers = Callable[[], None]
CIDER: tuple[Callable[..., Tensor], ...] = (ops.prefix_cider, ops.sentence_cider, ops.cider_rewards)
ROUGE: tuple[Callable[..., Tensor], ...] = (ops.prefix_rouge_l, ops.sentence_rouge_l, ops.rouge_l_rewards)


@pytest.fixture
def launchers(simt: ModuleType) -> Iterator[Launchers]:
    """From its call on the operators use the shim."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(payoffs_on(simt))


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


# Hypotheses beyond 32 go round the loop over positions, references beyond 32 round that over words; the shim launches at most
# three blocks of four warps, so 20 hypotheses and 40 references go round the loops over both.
BATCHES = [
    (1, 1, 1, 1, 1),
    (10, 2, 4, 12, 9),
    (1, 2, 3, 33, 32),
    (2, 2, 1, 70, 140),
    (4, 4, 2, 64, 20),
    (2, 2, 2, 5, 0),
]
OPTIONS: list[dict[str, Any]] = [{}, {"eos_id": 1}, {"unmatched_id": 1}, {"eos_id": 0, "unmatched_id": 1}]


def everything(batch: dict[str, Tensor], max_order: int, options: dict[str, Any]) -> tuple[list[Tensor], ...]:
    # every third token of the corpus is new, so some n-grams of the batch are unseen
    corpus = torch.where(torch.arange(batch["references"].shape[-1]) % 3 == 2, 9, batch["references"])
    frequencies = DocumentFrequencies.from_references(
        torch.cat([corpus, corpus[:1] + 1, corpus[:1] + 2]), max_order=max_order, **options
    )
    scaled: list[dict[str, Any]] = [{"dtype": torch.float64}, {"dtype": torch.float32}]
    cider = [f(**batch, **options, **s, frequencies=frequencies) for f in CIDER for s in scaled]
    rouge = [f(**batch, **options, **s) for f in ROUGE for s in scaled]
    cider.append(
        ops.cider_rewards(**batch, **options, frequencies=frequencies, scale="reference_length", sigma=2.0)
    )
    rouge.append(ops.rouge_l_rewards(**batch, **options, scale="reference_length", beta=0.4))
    return cider, rouge


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", BATCHES, ids=str)
def test_against_the_cpu(
    launchers: Launchers, shape: tuple[int, int, int, int, int], options: dict[str, Any]
) -> None:
    cases = [(random_batch(seed, *shape), order) for seed, order in ((0, 4), (3, 2), (4, 7))]
    bare = {name: cases[0][0][name] for name in ("hypotheses", "references")}
    cases.append((bare, 3))
    expected = [everything(batch, order, options) for batch, order in cases]
    launchers()
    for (batch, order), (cider, rouge) in zip(cases, expected, strict=True):
        ours = everything(batch, order, options)
        for one, other in zip(ours[0], cider, strict=True):
            tolerance = 1e-12 if one.dtype == torch.float64 else 2e-7
            torch.testing.assert_close(one, other, rtol=tolerance, atol=100 * tolerance)
        for one, other in zip(ours[1], rouge, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("schedule", [1, 2, 7])
def test_any_order_of_threads(simt: ModuleType, launchers: Launchers, schedule: int) -> None:
    launchers()
    batch = random_batch(3, 5, 3, 3, 40, 50)
    expected = everything(batch, 4, {})
    simt.set_schedule(schedule)
    for ours, theirs in zip(everything(batch, 4, {}), expected, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one, other)


def test_launches_on_the_given_device_and_stream(simt: ModuleType, launchers: Launchers) -> None:
    launchers()
    batch = random_batch(0, 2, 2, 1, 5, 5)
    frequencies = DocumentFrequencies.from_references(batch["references"])
    for call, count in (
        (lambda: ops.sentence_cider(**batch, frequencies=frequencies), 2),
        (lambda: ops.sentence_rouge_l(**batch), 1),
    ):
        before = simt.last_launch()[2]
        call()
        device, stream, launches, *_ = simt.last_launch()
        assert (device, stream, launches - before) == (DEVICE, STREAM, count)
        assert simt.current_device() == 0
    none = torch.zeros((0, 5), dtype=torch.int64)
    ops.prefix_rouge_l(none, none)
    assert simt.last_launch()[2] == launches
