"""Priors of soft value and policy on the SIMT shim: the same kernels with one input more."""

from __future__ import annotations

from types import ModuleType

import pytest
import simt_build
import torch
from simt_batch import PATTERNS, SIZES, Batch, remove_tokens
from torch import Tensor

from softbellman import reference

pytestmark = pytest.mark.skipif(simt_build.compiler() is None, reason="no g++ to build the SIMT shim with")

POLICY = ("value", "entropy", "log_normalizer", "correction", "value_low", "effective_tau")


def make_prior(batch: Batch, pattern: str, *, shared: bool) -> Tensor:
    """Logits of a prior beside the rows of a batch, at another alignment; one row for all where shared."""
    prior = batch.matrix(remove_tokens(batch.random(batch.rows, batch.vocab), pattern), shift=batch.shift + 3)
    return prior[:1].expand(batch.rows, batch.vocab) if shared else prior


def wide(batch: Batch, prior: Tensor) -> Tensor:
    return prior.double().masked_fill(~batch.mask.unsqueeze(-1), 0.0)


@pytest.mark.parametrize(("vocab", "dtype"), SIZES)
@pytest.mark.parametrize("shared", [False, True])
def test_soft_value(simt: ModuleType, vocab: int, dtype: torch.dtype, shared: bool) -> None:
    batch = Batch(vocab, dtype, shift=vocab % 5, gap=vocab % 3)
    q = batch.matrix(remove_tokens(3 * batch.random(batch.rows, vocab), PATTERNS[vocab % 6]))
    prior = make_prior(batch, PATTERNS[(vocab + 1) % 6], shared=shared)
    value, normalizer, correction, gathered = (batch.statistic() for _ in range(4))
    row = {"q": q, "tau": 0.7, "prior": prior, "actions": batch.actions, "mask": batch.mask}
    results = {"value": value, "normalizer": normalizer, "correction": correction, "gathered": gathered}
    batch.call(simt.soft_value_forward, **row, **results)
    leaf = batch.leaf(q)
    expected = reference.soft_value(leaf, tau=0.7, prior=wide(batch, prior), mask=batch.mask)
    batch.check(value, expected, scale=2.0)
    upstream, upstream_gathered = (batch.random(batch.rows).to(batch.wide) for _ in range(2))
    gradient = batch.gradient()
    saved = {"normalizer": normalizer, "correction": correction}
    batch.call(
        simt.soft_value_backward,
        **row,
        **saved,
        grad_value=upstream,
        grad_gathered=upstream_gathered,
        grad_q=gradient,
    )
    real = expected.isfinite()
    (wanted,) = torch.autograd.grad((expected[real] * upstream.double()[real]).sum(), leaf)
    wanted[torch.arange(batch.rows), batch.actions] += upstream_gathered.double() * batch.mask
    batch.check(gradient, wanted, scale=2.0)


@pytest.mark.parametrize("vocab", [31, 1030])
def test_soft_value_gradient_far_from_zero(simt: ModuleType, vocab: int) -> None:
    """The row is summed again where the rounded normaliser is no shift for the exponents."""
    batch = Batch(vocab, torch.float32)
    q, prior = (
        batch.matrix(1e4 + 0.02 * batch.random(batch.rows, vocab)),
        make_prior(batch, "finite", shared=False),
    )
    value, normalizer, correction = (batch.statistic() for _ in range(3))
    row = {"q": q, "tau": 1e-5, "prior": prior, "mask": batch.mask}
    batch.call(simt.soft_value_forward, **row, value=value, normalizer=normalizer, correction=correction)
    leaf, upstream, gradient = batch.leaf(q), torch.ones(batch.rows), batch.gradient()
    saved = {"normalizer": normalizer, "correction": correction}
    batch.call(simt.soft_value_backward, **row, **saved, grad_value=upstream, grad_q=gradient)
    # What the kernel reads: q + tau prior, rounded.
    joint = (q + 1e-5 * prior).double().masked_fill(~batch.mask.unsqueeze(-1), 0.0)
    wanted = (joint / 1e-5).softmax(-1) * batch.mask.unsqueeze(-1)
    assert leaf.shape == wanted.shape
    torch.testing.assert_close(gradient.double(), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("vocab", "dtype"), SIZES)
@pytest.mark.parametrize("tau", [0.3, 0.0])
def test_policy(simt: ModuleType, vocab: int, dtype: torch.dtype, tau: float) -> None:
    batch = Batch(vocab, dtype, shift=vocab % 4, gap=1)
    pattern = PATTERNS[vocab % 6]
    logits = batch.matrix(remove_tokens(2 * batch.random(batch.rows, vocab), pattern))
    q = batch.matrix(batch.random(batch.rows, vocab), shift=batch.shift + 1)
    prior = make_prior(batch, pattern, shared=vocab % 2 == 1)
    results = {name: batch.statistic() for name in POLICY}
    row = {"logits": logits, "q": q, "prior": prior, "mask": batch.mask}
    batch.call(simt.policy_forward, **row, tau=tau, entropy_mode=0, **results)
    x, leaf = batch.leaf(logits), batch.leaf(q)
    expected = reference.policy_value(x, leaf, tau=tau, prior=wide(batch, prior), mask=batch.mask)
    batch.check(results["value"], expected.value, scale=2.0)
    batch.check(results["entropy"], expected.entropy)
    upstream, upstream_entropy = (batch.random(batch.rows).to(batch.wide) for _ in range(2))
    to_logits, to_q = batch.gradient(), batch.gradient(shift=batch.shift + 2)
    gradients = {
        "grad_value": upstream,
        "grad_entropy": upstream_entropy,
        "grad_logits": to_logits,
        "grad_q": to_q,
    }
    batch.call(simt.policy_backward, **row, **results, **gradients)
    total = expected.value * upstream.double() + expected.entropy * upstream_entropy.double()
    expected_logits, expected_q = torch.autograd.grad(total.sum(), [x, leaf])
    batch.check(to_logits, expected_logits, scale=2.0)
    batch.check(to_q, expected_q)


@pytest.mark.parametrize("of_prior", [True, False])
def test_a_value_of_minus_infinity_has_no_gradient(simt: ModuleType, of_prior: bool) -> None:
    """The prior, or q, rules out a token that the policy gives: nothing finite could be said of its gradient."""
    batch = Batch(33, torch.float32, rows=2)
    logits, q = batch.matrix(batch.random(2, 33)), batch.matrix(batch.random(2, 33))
    prior = make_prior(batch, "finite", shared=False)
    (prior if of_prior else q)[1, 7] = float("-inf")
    results = {name: batch.statistic() for name in POLICY}
    row = {"logits": logits, "q": q, "prior": prior}
    batch.call(simt.policy_forward, **row, tau=0.5, entropy_mode=0, **results)
    assert results["value"].isinf().tolist() == [False, True]
    to_logits, to_q, ones = batch.gradient(), batch.gradient(), torch.ones(2)
    batch.call(simt.policy_backward, **row, **results, grad_value=ones, grad_logits=to_logits, grad_q=to_q)
    assert to_logits.isfinite().all() and to_logits[0].any() and not to_logits[1].any()
    batch.check(to_q, logits.double().softmax(-1))


@pytest.mark.parametrize(("vocab", "dtype"), [(6000, torch.float32), (16390, torch.bfloat16)])
def test_shared_rows_have_the_bits_of_one_block(simt: ModuleType, vocab: int, dtype: torch.dtype) -> None:
    batch = Batch(vocab, dtype, rows=3, shift=1, gap=1)
    logits, q, prior = (batch.matrix(2 * batch.random(3, vocab)) for _ in range(3))

    def run() -> list[Tensor]:
        batch._outputs.clear()
        soft = {name: batch.statistic() for name in ("value", "normalizer", "correction")}
        batch.call(simt.soft_value_forward, q=q, tau=0.4, prior=prior, mask=batch.mask, **soft)
        batch._outputs.clear()
        policy = {name: batch.statistic() for name in POLICY}
        row = {"logits": logits, "q": q, "prior": prior, "mask": batch.mask}
        batch.call(simt.policy_forward, **row, tau=0.3, entropy_mode=0, **policy)
        return [*soft.values(), *policy.values()]

    whole = run()
    assert simt.last_launch()[4] == 1
    simt.set_multiprocessors(100)
    simt.set_schedule(2)
    batch.share_rows(simt)
    shared = run()
    assert simt.last_launch()[4] > 1
    assert all(map(torch.equal, shared, whole))
