"""The CUDA kernels on the SIMT shim: their indexing, reductions and barriers, on tiny shapes. No claim about a GPU.

Matrices lie in larger buffers of sentinels (NaN around inputs, a magic number around outputs), at every misalignment, with
gaps between rows; masked rows hold NaN. What is expected comes from `softbellman.reference` in float64.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import simt_build
import torch
from simt_batch import MAIN_DTYPES, PATTERNS, SIZES, STREAM, Batch, remove_tokens
from torch import Tensor

from softbellman import reference

pytestmark = pytest.mark.skipif(simt_build.compiler() is None, reason="no g++ to build the SIMT shim with")


ERAC_RESULTS = (
    "loss",
    "td_error",
    "targets",
    "value",
    "entropy",
    "mean",
    "mean_low",
    "spread",
)  # as the launcher takes them


def run_soft_value(
    simt: ModuleType, batch: Batch, q: Tensor, tau: float, prior: Tensor | None
) -> list[Tensor]:
    value, correction, gathered = (batch.statistic() for _ in range(3))
    upstream, upstream_gathered = (batch.random(batch.rows).to(batch.wide) for _ in range(2))
    weights: list[Any] = [0, 0]
    if prior is not None:
        weights = [prior.data_ptr(), prior.stride(0) if prior.dim() == 2 else 0]
    row = [batch.rows, batch.vocab, batch.code, tau, *weights, batch.actions, batch.mask]
    batch.call(simt.soft_value_forward, q, *row, value, correction, gathered)
    grad = batch.gradient()
    batch.call(simt.soft_value_backward, q, *row, value, correction, upstream, upstream_gathered, grad)
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
    results = [batch.statistic() for _ in range(6)]
    value, policy_entropy = results[:2]
    shape = [batch.rows, vocab, batch.code]
    batch.call(simt.policy_forward, logits, q, *shape, 0.3, mode, batch.mask, *results)
    x, leaf = batch.leaf(logits), batch.leaf(q)
    expected, expected_entropy = reference_policy(x, leaf, batch.mask, entropy)
    batch.check(value, expected)
    batch.check(policy_entropy, expected_entropy)

    upstream, upstream_entropy = (batch.random(batch.rows).to(batch.wide) for _ in range(2))
    to_logits, to_q = batch.gradient(), batch.gradient(shift=batch.shift + 2)
    batch.call(
        simt.policy_backward, logits, q, *shape, batch.mask, *results, upstream, upstream_entropy, to_logits, to_q,
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
    results = [batch.statistic() for _ in range(5)]
    loss, error, mean, mean_low, spread = results
    row = [batch.rows, vocab, batch.code, batch.actions]
    batch.call(simt.critic_forward, q, *row, targets, smoothness, batch.mask, *results)
    leaf = batch.leaf(q)
    expected = reference.critic_loss(leaf, batch.actions, targets.double(), batch.mask, smoothness=smoothness)
    for actual, wanted in ((loss, expected.loss), (error, expected.td_error), (spread, expected.spread)):
        batch.check(actual, wanted, scale=4.0)
    upstream, grad = batch.random(batch.rows).to(batch.wide), batch.gradient()
    batch.call(simt.critic_backward, q, *row, smoothness, batch.mask, error, mean, mean_low, upstream, grad)
    batch.check(grad, torch.autograd.grad((expected.loss * upstream.double()).sum(), leaf)[0], scale=2.0)


def test_critic_spread_under_cancellation(simt: ModuleType) -> None:
    """Values near 30 with a variance of 1e-3: E[q^2] - E[q]^2 would have no digit left in float32."""
    batch = Batch(1030, torch.float32)
    q = batch.matrix(30 + 0.03 * batch.random(batch.rows, 1030))
    *results, spread = [batch.statistic() for _ in range(5)]
    targets = torch.zeros(batch.rows)
    shape = [batch.rows, batch.vocab, batch.code, batch.actions, targets, 1.0, batch.mask]
    batch.call(simt.critic_forward, q, *shape, *results, spread)
    expected = reference.critic_loss(q.double(), batch.actions, targets.double(), batch.mask, smoothness=1.0)
    torch.testing.assert_close(spread.double(), expected.spread, rtol=2e-6, atol=0)


@pytest.mark.parametrize(("vocab", "dtype"), SIZES)
@pytest.mark.parametrize("steps", [7, 1])
def test_soft_bellman_residual(simt: ModuleType, vocab: int, dtype: torch.dtype, steps: int) -> None:
    """One sequence of seven rows, the fourth masked and the second terminal, or seven sequences of one."""
    batch = Batch(vocab, dtype, shift=vocab % 5, gap=1, seed=steps)
    values = remove_tokens(2 * batch.random(batch.rows, vocab), PATTERNS[(vocab + steps) % 6])
    chosen = torch.arange(batch.rows), batch.actions
    values[chosen] = values[chosen].clamp(min=-1.0)  # the action taken exists
    q, rewards = batch.matrix(values), batch.random(batch.rows).to(batch.wide)
    rewards[~batch.mask] = float("nan")
    terminal = torch.arange(batch.rows) == 1
    residual, value, correction = (batch.statistic() for _ in range(3))
    row = [batch.rows, vocab, batch.code, 0.4, batch.actions]
    along = [terminal, steps, batch.mask]
    batch.call(simt.soft_bellman_forward, q, *row, rewards, *along, residual, value, correction)

    def sequences(tensor: Tensor) -> Tensor:
        return tensor.view(-1, steps, *tensor.shape[1:])  # (N, ...) -> (B, T, ...)

    leaf = batch.leaf(q)
    expected = reference.soft_bellman_residual(
        *map(sequences, (leaf, batch.actions, rewards.double(), batch.mask)),
        terminal=sequences(terminal), tau=0.4,
    ).flatten()  # fmt: skip
    batch.check(residual, expected, scale=8.0)
    batch.check(value, reference.soft_value(leaf, tau=0.4, mask=batch.mask))
    upstream, grad = batch.random(batch.rows).to(batch.wide), batch.gradient()
    upstream[~batch.mask] = float("nan")
    batch.call(simt.soft_bellman_backward, q, *row, *along, value, correction, upstream, grad)
    total = (expected * upstream.double().nan_to_num()).sum()
    batch.check(grad, torch.autograd.grad(total, leaf)[0], scale=4.0)


@pytest.mark.parametrize(("vocab", "dtype"), SIZES)
@pytest.mark.parametrize("steps", [7, 1])
def test_erac(simt: ModuleType, vocab: int, dtype: torch.dtype, steps: int) -> None:
    """One sequence of seven rows, the fourth masked and the second terminal, or seven sequences of one."""
    batch = Batch(vocab, dtype, shift=vocab % 5, gap=1, seed=steps)
    pattern = PATTERNS[(vocab + steps) % 6]
    logits = batch.matrix(remove_tokens(2 * batch.random(batch.rows, vocab), pattern))
    target_q = batch.matrix(batch.random(batch.rows, vocab), shift=batch.shift + 1)
    values = remove_tokens(batch.random(batch.rows, vocab), PATTERNS[vocab % 6])
    chosen = torch.arange(batch.rows), batch.actions
    values[chosen] = values[chosen].clamp(min=-1.0)  # the action taken exists
    q, rewards = batch.matrix(values, shift=batch.shift + 2), batch.random(batch.rows).to(batch.wide)
    rewards[~batch.mask] = float("nan")
    terminal = torch.arange(batch.rows) == 1
    results = {name: batch.statistic() for name in ERAC_RESULTS}
    row = [batch.rows, vocab, batch.code, batch.actions, rewards, terminal, steps, 0.3, 0.2, batch.mask]
    batch.call(simt.erac_forward, logits, target_q, q, *row, *results.values())

    def sequences(tensor: Tensor) -> Tensor:
        return tensor.view(-1, steps, *tensor.shape[1:])  # (N, ...) -> (B, T, ...)

    leaf = batch.leaf(q)
    expected = reference.erac_critic_loss(
        *map(sequences, (batch.leaf(logits), batch.leaf(target_q), leaf, batch.actions, rewards.double())),
        sequences(batch.mask), tau=0.3, smoothness=0.2, terminal=sequences(terminal),
    )  # fmt: skip
    for name, wanted in expected._asdict().items():
        batch.check(results[name], wanted.flatten(), scale=8.0)
    upstream, grad = batch.random(batch.rows).to(batch.wide), batch.gradient()
    saved = [results[name] for name in ("td_error", "mean", "mean_low")]
    row = [batch.rows, vocab, batch.code, batch.actions, 0.2, batch.mask]
    batch.call(simt.critic_backward, q, *row, *saved, upstream, grad)
    total = (expected.loss.flatten() * upstream.double()).sum()
    batch.check(grad, torch.autograd.grad(total, leaf)[0], scale=4.0)


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
    loss, *normalizers = results = [batch.statistic() for _ in range(5)]
    batch.call(simt.distillation_forward, logits, *oracle, *row, *results)
    leaf = batch.leaf(logits)
    if kind == "tokens":
        expected = reference.token_cross_entropy(leaf, batch.actions, batch.mask)
    else:
        mixed = {"targets": batch.actions, "oracle_weight": alpha.double()} if kind == "mixture" else {}
        expected = reference.soft_target_cross_entropy(leaf, q.double(), tau=0.6, mask=batch.mask, **mixed)
    batch.check(loss, expected)
    upstream, grad = batch.random(batch.rows).to(batch.wide), batch.gradient()
    batch.call(simt.distillation_backward, logits, *oracle, *row, *normalizers, upstream, grad)
    batch.check(grad, torch.autograd.grad((expected * upstream.double()).sum(), leaf)[0])


NUMBERS = (2**63 + 11, 5_000_000_000, 3)  # seed, offset, number of the first row


def draw(
    simt: ModuleType,
    batch: Batch,
    logits: Tensor,
    forbidden: Tensor | None,
    *,
    temperature: float = 0.8,
    noise: tuple[int | Tensor, ...] = (*NUMBERS, 0, 0, 0),
) -> list[Tensor]:
    tokens = torch.full((batch.rows,), -5)
    log_prob, entropy = batch.statistic(), batch.statistic()
    batch.call(
        simt.sample_forward, logits, batch.rows, batch.vocab, batch.code, temperature, *noise,
        0 if forbidden is None else forbidden, batch.mask, tokens, log_prob, entropy,
    )  # fmt: skip
    return [tokens, log_prob, entropy]


@pytest.mark.parametrize(("vocab", "dtype"), SIZES)
@pytest.mark.parametrize("pattern", ["finite", "all but one", "all"])
def test_sampling_draws_the_tokens_of_the_cpu(
    simt: ModuleType, vocab: int, dtype: torch.dtype, pattern: str
) -> None:
    native = pytest.importorskip("softbellman.core.native", reason="the native module is not built")
    batch = Batch(vocab, dtype, rows=11, shift=vocab % 5, gap=1)
    logits = batch.matrix(remove_tokens(3 * batch.random(batch.rows, vocab), pattern))
    forbidden = (
        torch.rand(vocab, generator=batch.generator) < 0.2 if pattern == "finite" and vocab > 1 else None
    )
    tokens, log_prob, entropy = draw(simt, batch, logits, forbidden)
    expected = [torch.full((11,), -5), torch.zeros(11, dtype=batch.wide), torch.zeros(11, dtype=batch.wide)]
    native.cpu.sample_forward(
        logits.data_ptr(), logits.stride(0), 11, vocab, batch.code, 0.8, *NUMBERS, 0, 0, 0,
        0 if forbidden is None else forbidden.data_ptr(), batch.mask.data_ptr(), *(e.data_ptr() for e in expected), 1,
    )  # fmt: skip
    assert torch.equal(tokens, expected[0])
    batch.check(log_prob, expected[1].double())
    batch.check(entropy, expected[2].double())
    in_memory = torch.tensor(NUMBERS[0] - 2**64), torch.tensor(NUMBERS[1]), torch.arange(3, 14)
    again = draw(simt, batch, logits, forbidden, noise=(1, 1, 1, *in_memory))
    assert all(map(torch.equal, again, (tokens, log_prob, entropy)))


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
            outputs = [batch.statistic() for _ in range(15)]
            batch_outputs, batch._outputs = batch._outputs, []
            zeros = torch.zeros(rows, dtype=torch.long)
            batch.call(simt.soft_value_forward, q, *shape, 0.4, 0, 0, zeros, 0, *outputs[:3])
            batch.call(simt.policy_forward, logits, q, *shape, 0.3, 1, 0, *outputs[3:9])
            batch.call(simt.critic_forward, q, *shape, zeros, torch.zeros(rows), 1.0, 0, *outputs[9:14])
            batch.call(simt.distillation_forward, logits, q, *shape, 0.5, 0, 0, 0, outputs[14], 0, 0, 0, 0)
            assert len(batch_outputs) == 15
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
    total = (
        total + (leaf.gather(-1, batch.actions.unsqueeze(-1)).squeeze(-1) * upstream_gathered.double()).sum()
    )
    batch.check(grad, torch.autograd.grad(total, leaf)[0])


def test_device_stream_and_errors(simt: ModuleType) -> None:
    q, value = torch.randn(2, 8), torch.zeros(2)
    tail = [0.5, 0, 0, 0, 0, value.data_ptr(), 0, 0, 0, 0]
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
        simt.policy_forward(0, 8, 0, 8, 2, 8, 0, 0.5, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, STREAM)
    simt.soft_value_forward(0, 8, 0, 8, 0, *tail, 0, STREAM)  # no rows: nothing to launch
    assert simt.last_launch()[2] == launches
    assert simt.device_count() == 2


def test_ids_outside_the_vocabulary_are_not_followed(simt: ModuleType) -> None:
    batch = Batch(8, torch.float32, rows=2)
    batch.actions = torch.tensor([-1, 1 << 40])
    q = batch.matrix(batch.random(2, 8))
    gathered = batch.statistic()
    batch.call(
        simt.soft_value_forward, q, 2, 8, 0, 1.0, 0, 0, batch.actions, batch.mask, torch.zeros(2), 0, gathered
    )
    assert gathered.isnan().all()
