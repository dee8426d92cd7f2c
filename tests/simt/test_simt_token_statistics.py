"""The statistics of a token on the SIMT shim, forward and backward, against the float64 reference."""

from __future__ import annotations

from types import ModuleType

import pytest
import simt_build
import torch
from simt_batch import PATTERNS, SIZES, Batch, remove_tokens
from torch import Tensor

from softbellman import reference

pytestmark = pytest.mark.skipif(simt_build.compiler() is None, reason="no g++ to build the SIMT shim with")

RESULTS = ("log_prob", "entropy", "log_normalizer", "correction")
UPSTREAM = ("log_prob", "entropy", "log_normalizer")


def check(simt: ModuleType, batch: Batch, logits: Tensor, arriving: tuple[str, ...] = UPSTREAM) -> Tensor:
    """Compare results and gradient; returns the gradient."""
    results = {name: batch.statistic() for name in RESULTS}
    row = {"logits": logits, "targets": batch.actions, "mask": batch.mask}
    batch.call(simt.token_statistics_forward, **row, **results)
    leaf = batch.leaf(logits)
    expected = reference.token_statistics(leaf, batch.actions, mask=batch.mask)
    for name, wanted in zip(UPSTREAM, expected, strict=True):
        batch.check(results[name], wanted, scale=2.0)
    sent = {name: batch.random(batch.rows).to(batch.wide) for name in arriving}
    for upstream in sent.values():
        upstream[~batch.mask] = float("nan")
    gradient = batch.gradient()
    saved = {name: results[name] for name in ("entropy", "log_normalizer", "correction")}
    upstreams = {f"grad_{name}": upstream for name, upstream in sent.items()}
    batch.call(simt.token_statistics_backward, **row, **saved, **upstreams, grad_logits=gradient)
    total = 0.0 * torch.where(leaf.isinf(), 0.0, leaf).sum()
    for name, wanted in zip(UPSTREAM, expected, strict=True):
        if name in sent:
            real = (
                wanted.isfinite()
            )  # a row without tokens, or an impossible target, has none through this result
            total = total + (wanted[real] * sent[name].double()[real].nan_to_num()).sum()
    (wanted,) = torch.autograd.grad(total, leaf)
    if "log_prob" in sent:  # as the cross entropy: an impossible target still gets what arrives
        chosen = leaf.detach().gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1)
        impossible = chosen.isinf() & expected[2].isfinite()
        share = torch.nan_to_num(sent["log_prob"].double()) * impossible
        wanted = wanted - share.unsqueeze(-1) * leaf.detach().softmax(-1).nan_to_num()
        wanted[torch.arange(batch.rows), batch.actions] += share
    batch.check(gradient, wanted, scale=2.0)
    return gradient


@pytest.mark.parametrize(("vocab", "dtype"), SIZES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_results_and_gradient(simt: ModuleType, vocab: int, dtype: torch.dtype, pattern: str) -> None:
    batch = Batch(vocab, dtype, shift=vocab % 5, gap=vocab % 3)
    check(simt, batch, batch.matrix(remove_tokens(2 * batch.random(batch.rows, vocab), pattern)))


@pytest.mark.parametrize("arriving", [(name,) for name in UPSTREAM], ids=lambda names: names[0])
@pytest.mark.parametrize("vocab", [33, 1030])
def test_one_result_alone(simt: ModuleType, vocab: int, arriving: tuple[str, ...]) -> None:
    batch = Batch(vocab, torch.float32, shift=1, gap=1)
    check(simt, batch, batch.matrix(2 * batch.random(batch.rows, vocab)), arriving)


def test_gradient_far_from_zero(simt: ModuleType) -> None:
    """A float32 normaliser of 1e9 is no shift for exponents: the row is summed again."""
    for vocab in (31, 1030):
        batch = Batch(vocab, torch.float32)
        steps = torch.randint(0, 2, (batch.rows, vocab), generator=batch.generator)
        check(simt, batch, batch.matrix(1e9 + 64.0 * steps))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_shared_by_blocks_has_the_same_bits(simt: ModuleType, dtype: torch.dtype) -> None:
    vocab = 5 * 4096 // dtype.itemsize + 9  # six strands
    found = []
    for shared in (False, True):
        batch = Batch(vocab, dtype, rows=3)
        batch.mask.fill_(True)
        if shared:
            simt.set_multiprocessors(100)
            batch.share_rows(simt)
        logits = batch.matrix(2 * batch.random(batch.rows, vocab))
        results = {name: batch.statistic() for name in RESULTS}
        batch.call(
            simt.token_statistics_forward, logits=logits, targets=batch.actions, mask=batch.mask, **results
        )
        found.append(results)
        simt.set_multiprocessors(1)
    for name in RESULTS:
        assert torch.equal(found[0][name], found[1][name]), name
