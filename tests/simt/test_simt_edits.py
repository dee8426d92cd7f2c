"""The edit kernel on the SIMT shim: the operators of `softbellman.payoffs.edits` with this launcher in place of the CPU's.

A warp runs the CPU's row functions; what is tested here is what it does across lanes: positions beyond 32, steps of
a script drawn ahead, sums, and the dynamic programme over its operations. No claim about a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import simt_build
import torch
from simt_payoffs import DEVICE, STREAM, payoffs_on
from torch import Tensor

from softbellman import edit_log_density, sample_edits

pytestmark = pytest.mark.skipif(simt_build.compiler() is None, reason="no g++ to build the SIMT shim with")

PROPOSALS = ("ngram", "corrupt", "hamming", "edit")


@pytest.fixture
def on_simt(simt: ModuleType) -> Callable[..., Any]:
    """Calls an operator with the shim's launcher; tables and checks stay the host's, as on a device."""

    def call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        with payoffs_on(simt):
            return function(*arguments, **options)

    return call


# Rows beyond 32 and 64 positions go round the loops over positions and steps; the shim launches at most three
# blocks, so 15 samples go round the loop over rows. A distance beyond 31 goes round the loop over operations.
SHAPES = [(1, 1, 1, 0), (5, 3, 6, 4), (2, 2, 33, 8), (1, 2, 70, 20), (1, 2, 34, 64), (3, 2, 0, 2)]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"special_ids": (0, 3, 50), "keep_gold": True, "max_order": 16, "rate": 0.7, "temperature": 4.0},
    {"special_ids": (1,), "operation_weights": (0.5, 2.0, 1.5), "temperature": 30.0, "max_order": 1},
]


def batch(shape: tuple[int, int, int, int], vocabulary: int) -> tuple[Tensor, Tensor]:
    sources, _, length, _ = shape
    generator = torch.Generator().manual_seed(sum(shape))
    tokens = torch.randint(0, vocabulary, (sources, length), generator=generator)
    lengths = torch.randint(length // 2, length + 1, (sources,), generator=generator)
    return tokens, lengths


@pytest.mark.parametrize("options", OPTIONS, ids=range(len(OPTIONS)))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("proposal", PROPOSALS)
def test_tokens_and_densities_are_those_of_the_cpu(
    on_simt: Callable[..., Any], proposal: str, shape: tuple[int, int, int, int], options: dict[str, Any]
) -> None:
    for vocabulary in (4,) if options else (150_000,):
        tokens, lengths = batch(shape, vocabulary)
        arguments = {
            "samples": shape[1], "proposal": proposal, "vocabulary": vocabulary, "seed": 2**62 + 1, "offset": 2**33,
            "max_distance": shape[3], "pad_id": -1, **options,
        }  # fmt: skip
        expected = sample_edits(tokens, lengths, **arguments)
        for one, other in zip(on_simt(sample_edits, tokens, lengths, **arguments), expected, strict=True):
            assert torch.equal(one, other)
        scoring = {
            name: value
            for name, value in arguments.items()
            if name not in ("samples", "seed", "offset", "pad_id")
        }
        other_edits = expected.tokens.flip(1)
        densities = (
            call(edit_log_density, tokens, other_edits, lengths, expected.lengths.flip(1), **scoring)
            for call in (on_simt, lambda function, *positional, **named: function(*positional, **named))
        )
        assert torch.equal(*densities)


@pytest.mark.parametrize("schedule", [1, 2, 7])
def test_any_order_of_threads(simt: ModuleType, on_simt: Callable[..., Any], schedule: int) -> None:
    tokens, lengths = batch((2, 2, 36, 35), 5)
    for proposal in PROPOSALS:
        arguments = {
            "samples": 2,
            "proposal": proposal,
            "vocabulary": 5,
            "seed": 3,
            "max_distance": 35,
            "temperature": 9.0,
        }
        expected = sample_edits(tokens, lengths, **arguments)
        simt.set_schedule(schedule)
        for one, other in zip(on_simt(sample_edits, tokens, lengths, **arguments), expected, strict=True):
            assert torch.equal(one, other)
        simt.set_schedule(0)


def test_what_the_host_refuses_the_device_leaves_alone(on_simt: Callable[..., Any]) -> None:
    """Lengths outside their range are clamped, tokens outside the vocabulary stay and count as special."""
    tokens = torch.tensor([[4, 77, -3, 5], [4, 5, 6, 7]])
    for proposal in PROPOSALS:
        edited, edited_lengths, density = on_simt(
            sample_edits, tokens, torch.tensor([9, -2]), samples=30, proposal=proposal, vocabulary=9, seed=1,
            rate=0.5, max_distance=3, pad_id=-1,
        )  # fmt: skip
        assert (edited[1] == -1).all() and not edited_lengths[1].any() and not density[1].any()
        assert density.isfinite().all() and len(edited[0].unique(dim=0)) > 3
        for row, length in zip(edited[0].tolist(), edited_lengths[0].tolist(), strict=True):
            assert [token for token in row[:length] if not 0 <= token < 9] == [77, -3]


def test_launches_on_the_given_device_and_stream(simt: ModuleType, on_simt: Callable[..., Any]) -> None:
    before = simt.last_launch()[2]
    tokens = torch.zeros((2, 5), dtype=torch.int64)
    on_simt(sample_edits, tokens, samples=3, proposal="edit", vocabulary=4, seed=1, max_distance=64)
    device, stream, launches, *_, threads, _ = simt.last_launch()
    assert (device, stream, launches - before) == (DEVICE, STREAM, 1)
    assert threads == 32, "64 operations leave shared memory for one warp"
    on_simt(sample_edits, tokens, samples=3, proposal="edit", vocabulary=4, seed=1)
    assert simt.last_launch()[5] == 128
    assert simt.current_device() == 0
    on_simt(sample_edits, tokens[:0], samples=3, proposal="edit", vocabulary=4, seed=1)
    assert simt.last_launch()[2] == launches + 1
