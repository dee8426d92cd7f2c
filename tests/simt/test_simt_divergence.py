"""The CUDA kernels of `divergence` on the SIMT shim: indexing, reductions, two phases, rows shared by blocks."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import simt_build
import torch
from simt_batch import PATTERNS, SIZES, Batch, remove_tokens
from torch import Tensor

from softbellman import reference

pytestmark = pytest.mark.skipif(simt_build.compiler() is None, reason="no g++ to build the SIMT shim with")

KINDS = ("forward_kl", "reverse_kl", "jsd")
STATISTICS = (
    "divergence",
    "log_normalizer",
    "correction",
    "other_log_normalizer",
    "other_correction",
    "mixture_divergence",
)
# 6, 9 and 40 strands of 256 vectors of 16 bytes
LONG = [(6000, torch.float32), (16390, torch.bfloat16), (20479, torch.float64)]


def options_of(kind: str, beta: float) -> dict[str, Any]:
    return {"kind": kind, "beta": beta, "temperature": 0.8, "other_temperature": 1.5}


def run_forward(
    simt: ModuleType, batch: Batch, logits: Tensor, other: Tensor, **options: Any
) -> dict[str, Tensor]:
    fields = {**options, "kind": KINDS.index(options["kind"]), "mask": batch.mask}
    statistics = {name: batch.statistic() for name in STATISTICS}
    batch.call(simt.divergence_forward, logits=logits, other=other, **fields, **statistics)
    batch._outputs.clear()
    return statistics


def run_backward(
    simt: ModuleType,
    batch: Batch,
    logits: Tensor,
    other: Tensor,
    saved: dict[str, Tensor],
    upstream: Tensor,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    fields = {**options, "kind": KINDS.index(options["kind"]), "mask": batch.mask}
    to_logits, to_other = batch.gradient(), batch.gradient(shift=batch.shift + 2)
    batch.call(
        simt.divergence_backward,
        logits=logits,
        other=other,
        **fields,
        **saved,
        grad_divergence=upstream,
        grad_logits=to_logits,
        grad_other=to_other,
    )
    return to_logits, to_other


def check(
    simt: ModuleType, batch: Batch, logits: Tensor, other: Tensor, scale: float = 4.0, **options: Any
) -> None:
    saved = run_forward(simt, batch, logits, other, **options)
    leaves = [batch.leaf(logits), batch.leaf(other)]
    expected = reference.divergence(*leaves, mask=batch.mask, **options)
    assert (saved["divergence"] >= 0).all()
    batch.check(saved["divergence"], expected, scale=scale)
    upstream = batch.random(batch.rows).to(batch.wide)
    upstream[~batch.mask] = float("nan")
    gradients = run_backward(simt, batch, logits, other, saved, upstream, **options)
    upstream[~batch.mask] = 0.0
    wanted = torch.autograd.grad(expected, leaves, upstream.double())
    for actual, gradient in zip(gradients, wanted, strict=True):
        batch.check(actual, gradient, scale=scale)


@pytest.mark.parametrize(("vocab", "dtype"), SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_divergence(simt: ModuleType, vocab: int, dtype: torch.dtype, kind: str) -> None:
    seed = KINDS.index(kind)
    batch = Batch(vocab, dtype, shift=vocab % 4, gap=1, seed=seed)
    pattern = PATTERNS[(vocab + seed) % 6]
    logits = batch.matrix(remove_tokens(batch.random(batch.rows, vocab), pattern))
    # Tokens ruled out by one alone make a KL divergence infinite.
    alone = PATTERNS[(vocab + 2) % 6] if kind == "jsd" else pattern
    other = batch.matrix(remove_tokens(batch.random(batch.rows, vocab), alone), shift=batch.shift + 1)
    check(simt, batch, logits, other, **options_of(kind, 0.3 if vocab % 2 else 0.8))


@pytest.mark.parametrize("kind", KINDS)
def test_infinite_rows_have_no_gradient(simt: ModuleType, kind: str) -> None:
    batch = Batch(33, torch.float32, rows=2)
    ruled_out, whole = remove_tokens(batch.random(2, 33), "scattered"), batch.random(2, 33)
    first, second = (whole, ruled_out) if kind == "reverse_kl" else (ruled_out, whole)
    logits, other = batch.matrix(first), batch.matrix(second)
    saved = run_forward(simt, batch, logits, other, **options_of(kind, 0.5))
    assert saved["divergence"].isinf().all() == (kind != "jsd")
    upstream = torch.ones(2)
    for gradient in run_backward(simt, batch, logits, other, saved, upstream, **options_of(kind, 0.5)):
        assert gradient.isfinite().all()
        assert gradient.any() == (kind == "jsd")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocab", [257, 1030])
def test_a_tiny_divergence_keeps_its_digits(simt: ModuleType, kind: str, vocab: int) -> None:
    batch = Batch(vocab, torch.float32)
    values = 100 + batch.random(batch.rows, vocab)
    logits = batch.matrix(values)
    other = batch.matrix(values.float().double() + 6e-5 * batch.random(batch.rows, vocab))
    options = {"kind": kind, "beta": 0.3, "temperature": 1.0, "other_temperature": 1.0}
    saved = run_forward(simt, batch, logits, other, **options)
    leaves = [batch.leaf(logits), batch.leaf(other)]
    expected = reference.divergence(*leaves, mask=batch.mask, **options)
    assert (expected[batch.mask] > 0).all() and (expected < 5e-9).all()
    torch.testing.assert_close(saved["divergence"].double(), expected.detach(), rtol=0.01, atol=0)


def test_gradient_far_from_zero(simt: ModuleType) -> None:
    """A float32 normaliser of 1e6 nats is no shift for exponents: the row is summed again."""
    for vocab in (31, 1030):
        batch = Batch(vocab, torch.float32)
        logits, other = (batch.matrix(1e4 + 0.02 * batch.random(batch.rows, vocab)) for _ in range(2))
        for kind in KINDS:
            options = {"kind": kind, "beta": 0.5, "temperature": 1e-5, "other_temperature": 1e-5}
            saved = run_forward(simt, batch, logits, other, **options)
            leaves = [batch.leaf(logits), batch.leaf(other)]
            expected = reference.divergence(*leaves, mask=batch.mask, **options)
            batch.check(saved["divergence"], expected, scale=100.0)
            upstream = 1e-5 * torch.ones(batch.rows)
            gradients = run_backward(simt, batch, logits, other, saved, upstream, **options)
            wanted = torch.autograd.grad(expected, leaves, upstream.double())
            for actual, gradient in zip(gradients, wanted, strict=True):
                torch.testing.assert_close(actual.double(), gradient, rtol=1e-3, atol=1e-3)
            batch._outputs.clear()


@pytest.mark.parametrize(("vocab", "dtype"), LONG)
@pytest.mark.parametrize("kind", KINDS)
def test_shared_rows_have_the_bits_of_one_block(
    simt: ModuleType, vocab: int, dtype: torch.dtype, kind: str
) -> None:
    """One launch a phase there: the second finds maximum and sum where the first left them."""
    batch = Batch(vocab, dtype, rows=3, shift=1, gap=1)
    logits, other = (batch.matrix(2 * batch.random(3, vocab)) for _ in range(2))
    options = options_of(kind, 0.4)
    whole = run_forward(simt, batch, logits, other, **options)
    assert simt.last_launch()[4] == 1
    for schedule, multiprocessors in enumerate((1, 2, 100, 100)):  # more of them, more blocks to a row
        simt.set_schedule(schedule)
        simt.set_multiprocessors(multiprocessors)
        batch.share_rows(simt)
        for _ in range(2):  # the second time with the tickets of the first
            shared = run_forward(simt, batch, logits, other, **options)
            assert all(torch.equal(shared[name], whole[name]) for name in STATISTICS)
    assert simt.last_launch()[4] > 1
    check(simt, batch, logits, other, scale=8.0, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocab", [101, 2057])
def test_bits_do_not_depend_on_position_or_schedule(simt: ModuleType, vocab: int, dtype: torch.dtype) -> None:
    values, other_values = (3 * Batch(vocab, dtype).random(2, 1, vocab)).unbind()
    seen = set()
    for shift in range(16 // dtype.itemsize):
        for schedule, rows in ((0, 1), (shift % 3 + 1, 3)):
            simt.set_schedule(schedule)
            batch = Batch(vocab, dtype, rows=rows, shift=shift, gap=1 if rows > 1 else 0)
            batch.mask.fill_(True)
            logits = batch.matrix(values.expand(rows, vocab))
            other = batch.matrix(other_values.expand(rows, vocab), shift + 1)
            outputs = run_forward(simt, batch, logits, other, **options_of("jsd", 0.3))
            for row in (0, rows - 1):
                seen.add(tuple(output[row].item() for output in outputs.values()))
    assert len(seen) == 1


def test_only_the_wanted_gradient_is_written(simt: ModuleType) -> None:
    batch = Batch(100, torch.float32, shift=1)
    logits, other = (batch.matrix(batch.random(batch.rows, 100)) for _ in range(2))
    options = options_of("jsd", 0.7)
    saved = run_forward(simt, batch, logits, other, **options)
    upstream = torch.ones(batch.rows)
    both = run_backward(simt, batch, logits, other, saved, upstream, **options)
    for place, name in enumerate(("grad_logits", "grad_other")):
        batch._outputs.clear()
        gradient = {name: batch.gradient()}
        fields = {**options, "kind": 2, "mask": batch.mask, **saved, "grad_divergence": upstream}
        batch.call(simt.divergence_backward, logits=logits, other=other, **fields, **gradient)
        assert torch.equal(gradient[name], both[place])
