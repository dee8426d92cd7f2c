"""The CUDA kernels on the SIMT shim: their indexing, reductions and barriers, on tiny shapes. No claim about a GPU.

Matrices lie in larger buffers of sentinels (NaN around inputs, a magic number around outputs), at every misalignment, with
gaps between rows; masked rows hold NaN. What is expected comes from `softbellman.reference` in float64.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import simt_build
import torch
from torch import Tensor

from softbellman import reference

pytestmark = pytest.mark.skipif(simt_build.compiler() is None, reason="no g++ to build the SIMT shim with")

CODES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
MAIN_DTYPES = [torch.float32, torch.float64, torch.bfloat16]
# 1030 float32 and 2057 bfloat16 are just beyond 256 vectors of 16 bytes, where a row gets a block of its own
SIZES = [(v, d) for v in (1, 3, 31, 33, 100, 257, 1030) for d in MAIN_DTYPES]
SIZES += [(2057, torch.bfloat16), (100, torch.float16), (2057, torch.float16)]
SENTINEL = 77.0
STREAM = 0x5EED
# Statistics are reduced in float32 (float64 for float64) from the very inputs the reference sees: a few roundings of sums.
# A gradient is rounded once more, to the input's own type; half precision also has subnormals.
STATISTIC = {torch.float32: 4e-6, torch.float64: 1e-13, torch.bfloat16: 4e-6, torch.float16: 4e-6}
ROUNDING = {torch.float32: 4e-6, torch.float64: 1e-13, torch.bfloat16: 2**-8, torch.float16: 2**-10}
SMALLEST = {torch.float32: 4e-6, torch.float64: 1e-13, torch.bfloat16: 4e-6, torch.float16: 4e-6}


@pytest.fixture(scope="session")
def simt() -> ModuleType:
    return simt_build.build_module()


@pytest.fixture(autouse=True)
def _ascending_schedule(simt: ModuleType) -> Iterator[None]:
    simt.set_schedule(0)
    yield
    simt.set_schedule(0)


def wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


class Batch:
    """Random rows of one shape, and calls of the launchers on them with every output checked for stray writes."""

    def __init__(self, vocab: int, dtype: torch.dtype, *, rows: int = 7, shift: int = 0, gap: int = 0, seed: int = 0):
        self.vocab, self.dtype, self.rows, self.shift, self.gap = vocab, dtype, rows, shift, gap
        self.code, self.wide = CODES[dtype], wide(dtype)
        self.generator = torch.Generator().manual_seed(1000 * vocab + 10 * self.code + seed)
        self.mask = torch.ones(rows, dtype=torch.bool)
        if rows > 2:
            self.mask[rows // 2] = False
        self.actions = torch.randint(vocab, (rows,), generator=self.generator)
        self._outputs: list[tuple[Tensor, Tensor]] = []

    def random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def _matrix(self, fill: float, shift: int) -> tuple[Tensor, Tensor]:
        stride = self.vocab + self.gap
        buffer = torch.full((shift + stride * self.rows + 9,), fill, dtype=self.dtype)
        return buffer, torch.as_strided(buffer, (self.rows, self.vocab), (stride, 1), shift)

    def matrix(self, values: Tensor, shift: int | None = None) -> Tensor:
        """`values` [rows, V] rounded to the batch's type; masked rows NaN."""
        _, view = self._matrix(float("nan"), self.shift if shift is None else shift)
        view[self.mask] = values.to(self.dtype)[self.mask]
        return view

    def gradient(self, shift: int | None = None) -> Tensor:
        buffer, view = self._matrix(SENTINEL, self.shift if shift is None else shift)
        self._outputs.append((buffer, view))
        return view

    def statistic(self) -> Tensor:
        buffer = torch.full((self.rows + 2,), SENTINEL, dtype=self.wide)
        self._outputs.append((buffer, buffer[1:-1]))
        return buffer[1:-1]

    def call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Tensors go as addresses, matrices as address and stride; the device and the stream are added."""
        passed: list[Any] = []
        for argument in arguments:
            if isinstance(argument, Tensor):
                passed += [argument.data_ptr()] + ([argument.stride(0)] if argument.dim() == 2 else [])
            else:
                passed.append(argument)
        function(*passed, 0, STREAM)
        for buffer, view in self._outputs:
            outside = torch.ones_like(buffer, dtype=torch.bool)
            torch.as_strided(outside, view.shape, view.stride(), view.storage_offset()).fill_(False)
            assert (buffer[outside] == SENTINEL).all(), "something was written outside the output"
            assert (view != SENTINEL).all(), "part of the output was not written"

    def leaf(self, values: Tensor) -> Tensor:
        """What the kernels read, in float64, with a graph; masked rows are zeros."""
        return values.double().masked_fill(~self.mask.unsqueeze(-1), 0.0).requires_grad_()

    def check(self, actual: Tensor, expected: Tensor, *, scale: float = 1.0) -> None:
        matrix = actual.dim() == 2
        relative = (ROUNDING if matrix else STATISTIC)[self.dtype]
        absolute = (SMALLEST if matrix else STATISTIC)[self.dtype]
        torch.testing.assert_close(actual.double(), expected.detach(), rtol=relative * scale, atol=absolute * scale)


PATTERNS = ["finite", "first", "last", "all but one", "all", "scattered"]


def remove_tokens(values: Tensor, pattern: str) -> Tensor:
    """`values` with -inf in the named places."""
    values, columns = values.clone(), values.shape[-1]
    if pattern == "first":
        values[:, : (columns + 1) // 2] = float("-inf")
    elif pattern == "last":
        values[:, columns // 2 :] = float("-inf")
    elif pattern == "all but one":
        keep = values[:, columns // 3].clone()
        values.fill_(float("-inf"))
        values[:, columns // 3] = keep
    elif pattern == "all":
        values[::2] = float("-inf")
    elif pattern == "scattered":
        values[:, ::3] = float("-inf")
    return values


def run_soft_value(simt: ModuleType, batch: Batch, q: Tensor, tau: float, prior: Tensor | None) -> list[Tensor]:
    value, gathered = batch.statistic(), batch.statistic()
    upstream, upstream_gathered = (batch.random(batch.rows).to(batch.wide) for _ in range(2))
    weights: list[Any] = [0, 0]
    if prior is not None:
        weights = [prior.data_ptr(), prior.stride(0) if prior.dim() == 2 else 0]
    row = [batch.rows, batch.vocab, batch.code, tau, *weights, batch.actions, batch.mask]
    batch.call(simt.soft_value_forward, q, *row, value, gathered)
    grad = batch.gradient()
    batch.call(simt.soft_value_backward, q, *row, value, upstream, upstream_gathered, grad)
    return [value, gathered, grad, upstream, upstream_gathered]


@pytest.mark.parametrize(("vocab", "dtype"), SIZES)
@pytest.mark.parametrize("pattern", ["finite", "scattered"])
def test_soft_value(simt: ModuleType, vocab: int, dtype: torch.dtype, pattern: str) -> None:
    batch = Batch(vocab, dtype, shift=vocab % 5, gap=vocab % 3)
    q = batch.matrix(remove_tokens(3 * batch.random(batch.rows, vocab), pattern))
    value, gathered, grad, upstream, upstream_gathered = run_soft_value(simt, batch, q, 0.4, None)
    leaf = batch.leaf(q)
    expected = reference.soft_value(leaf, tau=0.4, mask=batch.mask)
    chosen = leaf.gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1)
    batch.check(value, expected)
    batch.check(gathered, chosen)
    real = expected.isfinite()  # a row without tokens has no gradient through its value
    total = (expected[real] * upstream.double()[real]).sum()
    total = total + (chosen * (upstream_gathered.double() * batch.mask)).nan_to_num(neginf=0.0).sum()
    (expected_grad,) = torch.autograd.grad(total, leaf)
    dropped = (chosen == float("-inf")).nonzero().squeeze(-1)
    expected_grad[dropped, batch.actions[dropped]] = upstream_gathered.double()[dropped]
    batch.check(grad, expected_grad)


@pytest.mark.parametrize("dtype", MAIN_DTYPES)
@pytest.mark.parametrize("vocab", [33, 1030])
@pytest.mark.parametrize("shared", [True, False])
def test_soft_value_with_prior(simt: ModuleType, vocab: int, dtype: torch.dtype, shared: bool) -> None:
    batch = Batch(vocab, dtype, shift=1)
    q = batch.matrix(3 * batch.random(batch.rows, vocab))
    prior = batch.random(*(() if shared else (batch.rows,)), vocab).exp().to(batch.wide)
    prior[..., ::4] = 0.0
    value, _, grad, upstream, upstream_gathered = run_soft_value(simt, batch, q, 0.7, prior)
    leaf = batch.leaf(q)
    expected = reference.soft_value(leaf, tau=0.7, prior=prior.double(), mask=batch.mask)
    batch.check(value, expected)
    chosen = leaf.gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1)
    total = (expected * upstream.double()).sum() + (chosen * upstream_gathered.double() * batch.mask).sum()
    batch.check(grad, torch.autograd.grad(total, leaf)[0])


def test_soft_value_gradient_far_from_zero(simt: ModuleType) -> None:
    """A float32 value of 1e4 is no shift for exponents of temperature 0.01: the row is summed again."""
    for vocab in (31, 1030):
        batch = Batch(vocab, torch.float32)
        q = batch.matrix(1e4 + 0.02 * batch.random(batch.rows, vocab))
        _, _, grad, upstream, upstream_gathered = run_soft_value(simt, batch, q, 0.01, None)
        leaf = batch.leaf(q)
        total = (reference.soft_value(leaf, tau=0.01, mask=batch.mask) * upstream.double()).sum()
        chosen = leaf.gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1)
        total = total + (chosen * upstream_gathered.double() * batch.mask).sum()
        batch.check(grad, torch.autograd.grad(total, leaf)[0])


@pytest.mark.parametrize(("vocab", "dtype"), SIZES)
@pytest.mark.parametrize("entropy", ["exact", "normalized", "none"])
def test_policy(simt: ModuleType, vocab: int, dtype: torch.dtype, entropy: str) -> None:
    mode = ["exact", "normalized", "none"].index(entropy)
    batch = Batch(vocab, dtype, shift=vocab % 4, gap=1, seed=mode)
    logits = batch.matrix(remove_tokens(2 * batch.random(batch.rows, vocab), PATTERNS[(vocab + mode) % 6]))
    q = batch.matrix(batch.random(batch.rows, vocab), shift=batch.shift + 1)
    value, policy_entropy, normalizer, tau = (batch.statistic() for _ in range(4))
    shape = [batch.rows, vocab, batch.code]
    batch.call(
        simt.policy_forward, logits, q, *shape, 0.3, mode, batch.mask, value, policy_entropy, normalizer, tau
    )
    x, leaf = batch.leaf(logits), batch.leaf(q)
    expected, expected_entropy = reference_policy(x, leaf, batch.mask, entropy)
    batch.check(value, expected)
    batch.check(policy_entropy, expected_entropy)

    upstream, upstream_entropy = (batch.random(batch.rows).to(batch.wide) for _ in range(2))
    to_logits, to_q = batch.gradient(), batch.gradient(shift=batch.shift + 2)
    batch.call(
        simt.policy_backward, logits, q, *shape, batch.mask, value, policy_entropy, normalizer, tau, upstream,
        upstream_entropy, to_logits, to_q,
    )  # fmt: skip
    total = (expected * upstream.double() + expected_entropy * upstream_entropy.double()).sum()
    expected_logits, expected_q = torch.autograd.grad(total, [x, leaf])
    batch.check(to_logits, expected_logits)
    batch.check(to_q, expected_q)


def reference_policy(x: Tensor, q: Tensor, mask: Tensor, entropy: str) -> tuple[Tensor, Tensor]:
    """Value and entropy with the graph of both inputs: `actor_loss` takes q as a constant, so its part is added here."""
    if entropy == "exact":
        result = reference.policy_value(x, q, tau=0.3, mask=mask)
        return result.value, result.entropy
    actor = reference.actor_loss(x, q, tau=0.3, mask=mask, entropy=entropy)
    through_q = reference.policy_value(x.detach(), q, tau=0.3, mask=mask).value
    return -actor.loss + through_q - through_q.detach(), actor.entropy


@pytest.mark.parametrize(("vocab", "dtype"), SIZES)
@pytest.mark.parametrize("smoothness", [0.0, 0.3])
def test_critic(simt: ModuleType, vocab: int, dtype: torch.dtype, smoothness: float) -> None:
    batch = Batch(vocab, dtype, shift=vocab % 6, gap=2)
    pattern = PATTERNS[vocab % 6] if smoothness else "finite"
    values = remove_tokens(batch.random(batch.rows, vocab), pattern)
    chosen = torch.arange(batch.rows), batch.actions
    values[chosen] = values[chosen].clamp(min=-1.0)  # the action taken exists
    q, targets = batch.matrix(values), batch.random(batch.rows).to(batch.wide)
    loss, error, mean, spread = (batch.statistic() for _ in range(4))
    row = [batch.rows, vocab, batch.code, batch.actions]
    batch.call(simt.critic_forward, q, *row, targets, smoothness, batch.mask, loss, error, mean, spread)
    leaf = batch.leaf(q)
    expected = reference.critic_loss(leaf, batch.actions, targets.double(), batch.mask, smoothness=smoothness)
    for actual, wanted in ((loss, expected.loss), (error, expected.td_error), (spread, expected.spread)):
        batch.check(actual, wanted, scale=4.0)
    upstream, grad = batch.random(batch.rows).to(batch.wide), batch.gradient()
    batch.call(simt.critic_backward, q, *row, smoothness, batch.mask, error, mean, upstream, grad)
    batch.check(grad, torch.autograd.grad((expected.loss * upstream.double()).sum(), leaf)[0], scale=2.0)


def test_critic_spread_under_cancellation(simt: ModuleType) -> None:
    """Values near 30 with a variance of 1e-3: E[q^2] - E[q]^2 would have no digit left in float32."""
    batch = Batch(1030, torch.float32)
    q = batch.matrix(30 + 0.03 * batch.random(batch.rows, 1030))
    loss, error, mean, spread = (batch.statistic() for _ in range(4))
    targets = torch.zeros(batch.rows)
    shape = [batch.rows, batch.vocab, batch.code, batch.actions, targets, 1.0, batch.mask]
    batch.call(simt.critic_forward, q, *shape, loss, error, mean, spread)
    expected = reference.critic_loss(q.double(), batch.actions, targets.double(), batch.mask, smoothness=1.0)
    torch.testing.assert_close(spread.double(), expected.spread, rtol=2e-6, atol=0)


@pytest.mark.parametrize(("vocab", "dtype"), SIZES)
@pytest.mark.parametrize("kind", ["oracle", "mixture", "tokens"])
def test_distillation(simt: ModuleType, vocab: int, dtype: torch.dtype, kind: str) -> None:
    batch = Batch(vocab, dtype, shift=vocab % 3, gap=vocab % 2)
    logits_values = 2 * batch.random(batch.rows, vocab)
    q_values = batch.random(batch.rows, vocab)
    if kind == "oracle" and vocab > 3:  # tokens the oracle rules out may be impossible for the policy too
        q_values[:, ::3] = float("-inf")
        logits_values[:, ::6] = float("-inf")
    logits, q = batch.matrix(logits_values), batch.matrix(q_values, shift=batch.shift + 1)
    alpha = torch.rand(batch.rows, generator=batch.generator).to(batch.wide)
    alpha[0], alpha[-1] = 0.0, 1.0
    oracle: list[Any] = [0, 0] if kind == "tokens" else [q]
    targets: Any = 0 if kind == "oracle" else batch.actions
    row = [batch.rows, vocab, batch.code, 0.6, targets, alpha if kind == "mixture" else 0, batch.mask]
    loss, normalizer, oracle_normalizer = (batch.statistic() for _ in range(3))
    batch.call(simt.distillation_forward, logits, *oracle, *row, loss, normalizer, oracle_normalizer)
    leaf = batch.leaf(logits)
    if kind == "tokens":
        expected = reference.token_cross_entropy(leaf, batch.actions, batch.mask)
    else:
        mixed = {"targets": batch.actions, "oracle_weight": alpha.double()} if kind == "mixture" else {}
        expected = reference.soft_target_cross_entropy(leaf, q.double(), tau=0.6, mask=batch.mask, **mixed)
    batch.check(loss, expected)
    upstream, grad = batch.random(batch.rows).to(batch.wide), batch.gradient()
    batch.call(
        simt.distillation_backward, logits, *oracle, *row, normalizer, oracle_normalizer, upstream, grad
    )
    batch.check(grad, torch.autograd.grad((expected * upstream.double()).sum(), leaf)[0])


def draw(simt: ModuleType, batch: Batch, logits: Tensor, forbidden: Tensor | None, *, temperature: float = 0.8) -> list[Tensor]:
    tokens = torch.full((batch.rows,), -5)
    log_prob, entropy = batch.statistic(), batch.statistic()
    batch.call(
        simt.sample_forward, logits, batch.rows, batch.vocab, batch.code, temperature, 2**63 + 11, 5_000_000_000,
        0 if forbidden is None else forbidden, batch.mask, tokens, log_prob, entropy,
    )  # fmt: skip
    return [tokens, log_prob, entropy]


@pytest.mark.parametrize(("vocab", "dtype"), SIZES)
@pytest.mark.parametrize("pattern", ["finite", "all but one", "all"])
def test_sampling_draws_the_tokens_of_the_cpu(simt: ModuleType, vocab: int, dtype: torch.dtype, pattern: str) -> None:
    native = pytest.importorskip("softbellman._native", reason="the native module is not built")
    batch = Batch(vocab, dtype, rows=11, shift=vocab % 5, gap=1)
    logits = batch.matrix(remove_tokens(3 * batch.random(batch.rows, vocab), pattern))
    forbidden = torch.rand(vocab, generator=batch.generator) < 0.2 if pattern == "finite" and vocab > 1 else None
    tokens, log_prob, entropy = draw(simt, batch, logits, forbidden)
    expected = [torch.full((11,), -5), torch.zeros(11, dtype=batch.wide), torch.zeros(11, dtype=batch.wide)]
    native.cpu.sample_forward(
        logits.data_ptr(), logits.stride(0), 11, vocab, batch.code, 0.8, 2**63 + 11, 5_000_000_000,
        0 if forbidden is None else forbidden.data_ptr(), batch.mask.data_ptr(), *(e.data_ptr() for e in expected), 1,
    )  # fmt: skip
    assert torch.equal(tokens, expected[0])
    batch.check(log_prob, expected[1].double())
    batch.check(entropy, expected[2].double())


def test_sampling_follows_the_distribution(simt: ModuleType) -> None:
    batch = Batch(5, torch.float32, rows=1000)
    batch.mask.fill_(True)
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0, float("-inf")]).expand(1000, 5)  # stride 0
    tokens, log_prob, entropy = draw(simt, batch, logits, None, temperature=1.0)
    policy = logits[0].double().softmax(-1)
    deviation = (policy * (1 - policy) / 1000).sqrt()
    frequency = torch.bincount(tokens, minlength=5) / 1000
    assert ((frequency - policy).abs() <= 4 * deviation).all()
    batch.check(log_prob, policy.log()[tokens])
    batch.check(entropy, -(policy[:4] * policy[:4].log()).sum().expand(1000))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocab", [101, 2057])
def test_bits_do_not_depend_on_position_or_schedule(simt: ModuleType, vocab: int, dtype: torch.dtype) -> None:
    """The same row at every alignment, in two places of a batch, whichever thread runs first."""
    values, other = (3 * Batch(vocab, dtype).random(2, 1, vocab)).unbind()
    seen = set()
    for shift in range(16 // dtype.itemsize):
        for schedule, rows in ((0, 1), (shift % 3 + 1, 3)):
            simt.set_schedule(schedule)
            batch = Batch(vocab, dtype, rows=rows, shift=shift, gap=1 if rows > 1 else 0)
            batch.mask.fill_(True)
            logits, q = (batch.matrix(v.expand(rows, vocab), shift + o) for v, o in ((values, 0), (other, 1)))
            shape = [rows, vocab, batch.code]
            outputs = [batch.statistic() for _ in range(11)]
            batch_outputs, batch._outputs = batch._outputs, []
            zeros = torch.zeros(rows, dtype=torch.long)
            batch.call(simt.soft_value_forward, q, *shape, 0.4, 0, 0, zeros, 0, *outputs[:2])
            batch.call(simt.policy_forward, logits, q, *shape, 0.3, 1, 0, *outputs[2:6])
            batch.call(simt.critic_forward, q, *shape, zeros, torch.zeros(rows), 1.0, 0, *outputs[6:10])
            batch.call(simt.distillation_forward, logits, q, *shape, 0.5, 0, 0, 0, outputs[10], 0, 0)
            assert len(batch_outputs) == 11
            for row in (0, rows - 1):
                seen.add(tuple(output[row].item() for output in outputs))
    assert len(seen) == 1


def test_long_rows_use_several_blocks_and_warps(simt: ModuleType) -> None:
    """8,300 float64: 256 threads to a row forward, several blocks to a row backward."""
    batch = Batch(8300, torch.float64, rows=2, shift=1)
    q = batch.matrix(batch.random(2, 8300))
    value, _, grad, upstream, upstream_gathered = run_soft_value(simt, batch, q, 1.0, None)
    _, _, _, _, blocks_for_a_row, threads, _ = simt.last_launch()
    assert blocks_for_a_row > 1 and threads == 256
    leaf = batch.leaf(q)
    expected = reference.soft_value(leaf, tau=1.0)
    batch.check(value, expected)
    total = (expected * upstream.double()).sum()
    total = total + (leaf.gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1) * upstream_gathered.double()).sum()
    batch.check(grad, torch.autograd.grad(total, leaf)[0])


def test_device_stream_and_errors(simt: ModuleType) -> None:
    q, value = torch.randn(2, 8), torch.zeros(2)
    tail = [0.5, 0, 0, 0, 0, value.data_ptr(), 0]
    simt.soft_value_forward(q.data_ptr(), 8, 2, 8, 0, *tail, 1, STREAM)
    device, stream, launches, *_ = simt.last_launch()
    assert (device, stream) == (1, STREAM), "the launch must be on the device and the stream asked for"
    assert simt.current_device() == 0, "the caller's device must be restored"
    with pytest.raises(RuntimeError, match=r"selecting device 7 failed: invalid device ordinal"):
        simt.soft_value_forward(q.data_ptr(), 8, 2, 8, 0, *tail, 7, STREAM)
    with pytest.raises(ValueError, match="dtype must be one of"):
        simt.soft_value_forward(q.data_ptr(), 8, 2, 8, 9, *tail, 0, STREAM)
    with pytest.raises(ValueError, match="vocab between 1"):
        simt.soft_value_forward(q.data_ptr(), 8, 2, 0, 0, *tail, 0, STREAM)
    with pytest.raises(ValueError, match="entropy_mode must be"):
        simt.policy_forward(0, 8, 0, 8, 2, 8, 0, 0.5, 3, 0, 0, 0, 0, 0, 0, STREAM)
    simt.soft_value_forward(0, 8, 0, 8, 0, *tail, 0, STREAM)  # no rows: nothing to launch
    assert simt.last_launch()[2] == launches
    assert simt.device_count() == 2


def test_ids_outside_the_vocabulary_are_not_followed(simt: ModuleType) -> None:
    batch = Batch(8, torch.float32, rows=2)
    batch.actions = torch.tensor([-1, 1 << 40])
    q = batch.matrix(batch.random(2, 8))
    gathered = batch.statistic()
    batch.call(
        simt.soft_value_forward, q, 2, 8, 0, 1.0, 0, 0, batch.actions, batch.mask, torch.zeros(2), gathered
    )
    assert gathered.isnan().all()


@pytest.mark.parametrize("schedule", [0, 1, 2, 3])
def test_shim_runs_a_correct_kernel(simt: ModuleType, schedule: int) -> None:
    simt.set_schedule(schedule)
    assert simt.run_fault(0) == (2016.0, "")


def test_shim_notices_planted_faults(simt: ModuleType) -> None:
    totals = []
    for schedule in range(4):
        simt.set_schedule(schedule)
        totals.append(simt.run_fault(1)[0])  # no __syncthreads between the write and the other warp's read
        assert "after another thread of its block had returned" in simt.run_fault(2)[1]
        assert "wait for each other" in simt.run_fault(3)[1]
    assert any(total != 2016.0 for total in totals)


def test_memory_is_respected() -> None:
    program = simt_build.build_memory_check()
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *arguments], capture_output=True, text=True, env=environment)

    clean = run()
    assert clean.returncode == 0 and "memory check passed" in clean.stdout, clean.stderr
    beyond, misaligned = run("4"), run("5")
    assert beyond.returncode != 0 and "heap-buffer-overflow" in beyond.stderr
    assert misaligned.returncode != 0 and "misaligned address" in misaligned.stderr
