"""Long rows shared by several blocks on the SIMT shim: the bits of one block, whatever comes first, launch after launch."""

from __future__ import annotations

from types import ModuleType

import pytest
import simt_build
import torch
from simt_batch import Batch, native_fields
from torch import Tensor

from softbellman import reference

pytestmark = pytest.mark.skipif(simt_build.compiler() is None, reason="no g++ to build the SIMT shim with")

# 6, 9 and 40 strands of 256 vectors of 16 bytes
LONG = [(6000, torch.float32), (16390, torch.bfloat16), (20479, torch.float64)]
POLICY = "value entropy log_normalizer correction value_low effective_tau"
CRITIC = "loss td_error mean mean_low spread"
NORMALIZERS = "log_normalizer correction oracle_log_normalizer oracle_correction"
MOST_BLOCKS = {6000: 2, 16390: 3, 20479: 10}  # of 4 warps


def run_all(simt: ModuleType, batch: Batch, logits: Tensor, q: Tensor) -> tuple[list[list[float]], set[int]]:
    """Every statistic of every forward launcher, and how many blocks shared a row."""
    batch._outputs.clear()
    numbers, blocks = torch.linspace(-1, 1, batch.rows, dtype=batch.wide), set()
    tokens = torch.full((batch.rows,), -5)
    made = [tokens]
    row = {"actions": batch.actions, "mask": batch.mask}
    along = {"rewards": numbers, "steps": batch.rows}

    def call(name: str, results: str, **fields: object) -> None:
        written = {result: batch.statistic() for result in results.split()}
        batch.call(getattr(simt, name), **fields, **written)
        made.extend(written.values())
        blocks.add(simt.last_launch()[4])
        batch._outputs.clear()

    call("soft_value_forward", "value correction gathered", q=q, tau=0.4, **row)
    call("soft_bellman_forward", "residual value correction", q=q, tau=0.4, **row, **along)
    call("policy_forward", POLICY, logits=logits, q=q, tau=0.3, entropy_mode=1, mask=batch.mask)
    call("critic_forward", CRITIC, q=q, targets=numbers, smoothness=1.0, **row)
    pair = {"logits": logits, "target_q": q, "q": logits}
    call("erac_forward", f"{CRITIC} targets value entropy", **pair, tau=0.3, smoothness=1.0, **row, **along)
    call("cross_entropy_forward", f"loss {NORMALIZERS}", logits=logits, q=q, tau=0.5, mask=batch.mask)
    token = {"logits": logits, "targets": batch.actions, "mask": batch.mask}
    call("token_statistics_forward", "log_prob entropy log_normalizer correction", **token)
    noise = {"seed": 5, "offset": 6, "row_base": 9}
    call(
        "sample_forward",
        "log_prob entropy",
        logits=logits,
        temperature=0.8,
        **noise,
        mask=batch.mask,
        tokens=tokens,
    )
    return [result.tolist() for result in made], blocks


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
    value, correction, policy_value, entropy = (batch.statistic() for _ in range(4))
    batch._outputs.clear()  # each call writes but a part of them
    batch.call(simt.soft_value_forward, q=q, tau=0.4, mask=batch.mask, value=value, correction=correction)
    assert simt.last_launch()[4] > 1
    results = {"value": policy_value, "entropy": entropy}
    batch.call(simt.policy_forward, logits=logits, q=q, tau=0.3, entropy_mode=0, mask=batch.mask, **results)
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
        value, correction = batch.statistic(), batch.statistic()
        batch.call(simt.soft_value_forward, q=q, tau=0.4, value=value, correction=correction)
        bits |= set(value.tolist())
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
    value, ones, grad, again = torch.zeros(1), torch.ones(1), torch.zeros(1, 60_000), torch.zeros(1, 60_000)
    counts = []
    for multiprocessors, out in ((1, grad), (132, again)):
        simt.set_multiprocessors(multiprocessors)
        row = {"q": q, "tau": 1.0, "normalizer": value, "correction": ones, "grad_value": ones, "grad_q": out}
        simt.soft_value_backward(**native_fields(row), device=0, stream=0)
        counts.append(simt.last_launch()[4])
    assert counts == [8, 30]
    assert torch.equal(grad, again)
