"""Long rows shared by several blocks on the SIMT shim: the bits of one block, whatever comes first, launch after launch."""

from __future__ import annotations

from types import ModuleType

import pytest
import simt_build
import torch
from simt_batch import Batch
from torch import Tensor

from softbellman import reference

pytestmark = pytest.mark.skipif(simt_build.compiler() is None, reason="no g++ to build the SIMT shim with")

# 6, 9 and 40 strands of 256 vectors of 16 bytes
LONG = [(6000, torch.float32), (16390, torch.bfloat16), (20479, torch.float64)]
MOST_BLOCKS = {6000: 2, 16390: 3, 20479: 10}  # of 4 warps


def run_all(simt: ModuleType, batch: Batch, logits: Tensor, q: Tensor) -> tuple[list[list[float]], set[int]]:
    """Every statistic of every forward launcher, and how many blocks shared a row."""
    batch._outputs.clear()
    shape = [batch.rows, batch.vocab, batch.code]
    numbers, blocks = torch.linspace(-1, 1, batch.rows, dtype=batch.wide), set()
    made: list[Tensor] = []

    def results(count: int) -> list[Tensor]:
        made.extend(batch.statistic() for _ in range(count))
        return made[-count:]

    def call(name: str, *arguments: object) -> None:
        batch.call(getattr(simt, name), *arguments)
        blocks.add(simt.last_launch()[4])
        batch._outputs.clear()

    tokens = torch.full((batch.rows,), -5)
    call("soft_value_forward", q, *shape, 0.4, 0, 0, batch.actions, batch.mask, *results(3))
    call(
        "soft_bellman_forward", q, *shape, 0.4, batch.actions, numbers, 0, batch.rows, batch.mask, *results(3)
    )
    call("policy_forward", logits, q, *shape, 0.3, 1, batch.mask, *results(6))
    call("critic_forward", q, *shape, batch.actions, numbers, 1.0, batch.mask, *results(5))
    call(
        "erac_forward", logits, q, logits, *shape, batch.actions, numbers, 0, batch.rows, 0.3, 1.0, batch.mask,
        *results(8),
    )  # fmt: skip
    call("distillation_forward", logits, q, *shape, 0.5, 0, 0, batch.mask, *results(5))
    call("sample_forward", logits, *shape, 0.8, 5, 6, 9, 0, 0, 0, 0, batch.mask, tokens, *results(2))
    return [*(result.tolist() for result in made), tokens.tolist()], blocks


@pytest.mark.parametrize(("vocab", "dtype"), LONG)
def test_the_bits_are_those_of_one_block(simt: ModuleType, vocab: int, dtype: torch.dtype) -> None:
    batch = Batch(vocab, dtype, rows=3, shift=1, gap=1)
    logits, q = (batch.matrix(3 * batch.random(3, vocab)) for _ in range(2))
    whole, blocks = run_all(simt, batch, logits, q)
    assert blocks == {1}
    seen = set()
    for schedule, multiprocessors in enumerate((1, 2, 100, 100)):  # more of them, more blocks to a row
        simt.set_schedule(schedule)
        simt.set_multiprocessors(multiprocessors)
        batch.share_rows(simt)
        for _ in range(2):  # the second time with the tickets of the first
            shared, blocks = run_all(simt, batch, logits, q)
            assert shared == whole
        seen |= blocks
    most = MOST_BLOCKS[vocab]
    assert seen == {min(most, 32 * count // (4 * rows)) for count in (1, 2, 100) for rows in (3, 4)}


@pytest.mark.parametrize(("vocab", "dtype"), [*LONG, (262_150, torch.float32)])
def test_shared_rows_have_the_right_values(simt: ModuleType, vocab: int, dtype: torch.dtype) -> None:
    """The last is beyond 256 strands of 256 vectors: its strands are longer."""
    rows = 1 if vocab > 2**18 else 3
    batch = Batch(vocab, dtype, rows=rows, shift=1)
    logits, q = (batch.matrix(3 * batch.random(rows, vocab)) for _ in range(2))
    simt.set_multiprocessors(100)
    simt.set_schedule(2)
    batch.share_rows(simt)
    value, policy_value, entropy = (batch.statistic() for _ in range(3))
    outputs, batch._outputs = batch._outputs, []
    shape = [rows, vocab, batch.code]
    batch.call(simt.soft_value_forward, q, *shape, 0.4, 0, 0, 0, batch.mask, value, 0, 0)
    assert simt.last_launch()[4] > 1
    batch.call(simt.policy_forward, logits, q, *shape, 0.3, 0, batch.mask, policy_value, entropy, 0, 0, 0, 0)
    assert len(outputs) == 3
    expected = reference.policy_value(batch.leaf(logits), batch.leaf(q), tau=0.3, mask=batch.mask)
    batch.check(value, reference.soft_value(batch.leaf(q), tau=0.4, mask=batch.mask))
    batch.check(policy_value, expected.value, scale=4.0)
    batch.check(entropy, expected.entropy, scale=4.0)


def test_a_row_has_the_bits_it_has_in_a_large_batch(simt: ModuleType) -> None:
    values = torch.randn(6000, generator=torch.Generator().manual_seed(1))
    simt.set_multiprocessors(2)
    bits = set()
    for rows in (1, 3, 40):  # 2 blocks to a row, 2, 1
        batch = Batch(6000, torch.float32, rows=rows)
        batch.mask.fill_(True)
        q = batch.matrix(values.expand(rows, 6000))
        batch.share_rows(simt)
        result = batch.statistic()
        batch.call(simt.soft_value_forward, q, rows, 6000, 0, 0.4, 0, 0, 0, 0, result, 0, 0)
        bits |= set(result.tolist())
    assert len(bits) == 1


def test_memory_is_asked_for_where_rows_are_few_and_long(simt: ModuleType) -> None:
    simt.set_multiprocessors(132)
    assert simt.row_workspace(64, 131_072, 0, 0) == 64 * 128 * 10 * 4
    assert simt.row_workspace(64, 131_072, 1, 0) == 64 * 256 * 10 * 8
    assert simt.row_workspace(8192, 131_072, 0, 0) == 0  # rows enough for every multiprocessor
    assert simt.row_workspace(1, 4096, 0, 0) == 0  # a row of four strands
    assert simt.row_workspace(0, 131_072, 0, 0) == 0
    with pytest.raises(ValueError, match="vocab between 1"):
        simt.row_workspace(1, 0, 0, 0)


def test_few_long_rows_fill_the_device_backward(simt: ModuleType) -> None:
    """Gradients reduce nothing: the blocks of a row may be as many as it takes."""
    q = torch.randn(1, 60_000)
    value, ones, grad, again = (
        torch.zeros(1),
        torch.ones(1),
        torch.zeros(1, 60_000),
        torch.zeros(1, 60_000),
    )
    counts = []
    for multiprocessors, out in ((1, grad), (132, again)):
        simt.set_multiprocessors(multiprocessors)
        simt.soft_value_backward(
            q.data_ptr(), 60_000, 1, 60_000, 0, 1.0, 0, 0, 0, 0, value.data_ptr(), ones.data_ptr(), ones.data_ptr(), 0,
            out.data_ptr(), 60_000, 0, 0,
        )  # fmt: skip
        counts.append(simt.last_launch()[4])
    assert counts == [8, 30]
    assert torch.equal(grad, again)
