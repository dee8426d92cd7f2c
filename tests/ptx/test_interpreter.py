"""The PTX interpreter itself: it runs a correct kernel under every schedule and notices planted mistakes."""

from __future__ import annotations

import re

import pytest
import torch
from ptx_memory import Guarded
from ptx_variants import MISTAKES
from simt_batch import Batch, native_fields

SCHEDULES = range(8)
ROWS, LENGTH, STRANDS = 5, 9000, 9


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_correct_kernel_gives_its_sum(simt: Guarded, schedule: int) -> None:
    simt.set_schedule(schedule)
    assert simt.run_fault(0) == (2016.0, "")
    assert simt.run_split_fault(0) == (1.0, "")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (1, "a race: nothing orders"),
        (2, "a barrier after a thread of the block has ended"),
        (3, "a lane of the mask has ended"),
        (5, "a misaligned access of 16 bytes"),
    ],
)
@pytest.mark.parametrize("schedule", [0, 1, 2])
def test_faults_within_a_block_are_refused(simt: Guarded, fault: int, message: str, schedule: int) -> None:
    simt.set_schedule(schedule)
    said = simt.run_fault(fault)[1]
    assert message in said
    assert re.search(r" at faults\.ptx:\d+ '.+', block \(0, 0\), warp [01]", said)


def test_a_missing_fence_between_blocks_is_refused(simt: Guarded) -> None:
    assert "no fence between another block's write and its ticket" in simt.run_split_fault(1)[1]


def test_without_its_check_a_race_is_not_noticed(simt: Guarded) -> None:
    simt.set_check_races(False)
    assert simt.run_split_fault(1)[1] == ""


def sums(simt: Guarded, variant: int) -> torch.Tensor:
    """Sums and sums of squares of rows that several blocks share, of the second of two launches with the same tickets."""
    values = torch.randn(ROWS, LENGTH, generator=torch.Generator().manual_seed(3))
    partials, tickets = torch.full((ROWS * STRANDS, 2), 77.0), torch.zeros(1024, dtype=torch.int32)
    for _ in range(2):
        totals = torch.full((ROWS, 2), -1.0)
        place = (partials.data_ptr(), partials.nbytes, tickets.data_ptr())
        simt.sum_rows(variant, values.data_ptr(), ROWS, LENGTH, totals.data_ptr(), *place)
    expected = torch.stack([values.double().sum(-1), values.double().square().sum(-1)], -1)
    torch.testing.assert_close(totals.double(), expected, rtol=1e-5, atol=1e-4)
    return totals


def run_under_every_schedule(simt: Guarded, variant: int) -> list[torch.Tensor]:
    results = []
    for multiprocessors in (1, 100):  # a block to each row, and three
        simt.set_multiprocessors(multiprocessors)
        for schedule in SCHEDULES:
            simt.set_schedule(schedule)
            results.append(sums(simt, variant))
    return results


def test_shared_rows_as_they_are_written_pass_every_check(simt: Guarded) -> None:
    first, *others = run_under_every_schedule(simt, 0)
    assert all(torch.equal(first, other) for other in others)
    simt.set_multiprocessors(100)
    sums(simt, 0)
    assert simt.last_launch()[4] == 3


@pytest.mark.parametrize("variant", range(1, 1 + len(MISTAKES)), ids=[mistake.name for mistake in MISTAKES])
def test_a_mistake_in_sharing_rows_is_noticed(simt: Guarded, variant: int) -> None:
    with pytest.raises((RuntimeError, AssertionError), match=r"PTX interpreter|not close"):
        run_under_every_schedule(simt, variant)


def test_memory_outside_the_fields_is_refused(simt: Guarded) -> None:
    """The row is longer than its field says: the module below is told of one element less than the kernel reads."""
    batch = Batch(100, torch.float32, rows=3, gap=5)
    results = {name: batch.statistic() for name in ("value", "correction")}
    fields = native_fields({"q": batch.matrix(batch.random(3, 100)), "tau": 1.0, **results})
    place = {"device": 0, "stream": 0}
    simt.soft_value_forward(**fields, **place)
    pointer, stride, rows, vocabulary, _ = fields["q"]
    known = [(pointer, 4 * vocabulary - 4, 4 * stride, rows)]
    known += [(field.data_ptr(), field.nbytes, 0, 1) for field in results.values()]
    simt.module.set_regions(known)
    with pytest.raises(RuntimeError, match="outside the memory that the launch was given"):
        simt.module.soft_value_forward(**fields, **place)
    simt.module.set_regions([])


def test_null_pointers_are_refused(simt: Guarded) -> None:
    values = torch.zeros(4, 100)
    with pytest.raises(RuntimeError, match="a null pointer"):
        simt.sum_rows(0, values.data_ptr(), 4, 100, 0, 0, 0, 0)
