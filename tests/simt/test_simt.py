"""The CUDA kernels on the SIMT shim: their indexing, reductions and barriers, on tiny shapes. No claim about a GPU.

Matrices lie in larger buffers of sentinels (NaN around inputs, a magic number around outputs), at every misalignment, with
gaps between rows; masked rows hold NaN. What is expected comes from `softbellman.reference` in float64.
"""

from __future__ import annotations

from types import ModuleType

import pytest
import simt_build
import torch
from simt_batch import PATTERNS, SIZES, STREAM, Batch, native_fields, remove_tokens
from torch import Tensor

from softbellman import reference

pytestmark = pytest.mark.skipif(simt_build.compiler() is None, reason="no g++ to build the SIMT shim with")


POLICY_RESULTS = ("value", "entropy", "log_normalizer", "correction", "value_low", "effective_tau")
CRITIC_RESULTS = ("loss", "td_error", "mean", "mean_low", "spread")
ERAC_RESULTS = (*CRITIC_RESULTS, "targets", "value", "entropy")
NORMALIZERS = ("log_normalizer", "correction", "oracle_log_normalizer", "oracle_correction")


def run_soft_value(simt: ModuleType, batch: Batch, q: Tensor, tau: float) -> list[Tensor]:
    value, correction, gathered = (batch.statistic() for _ in range(3))
    upstream, upstream_gathered = (batch.random(batch.rows).to(batch.wide) for _ in range(2))
    row = {"q": q, "tau": tau, "actions": batch.actions, "mask": batch.mask, "correction": correction}
    batch.call(simt.soft_value_forward, **row, value=value, gathered=gathered)
    grad = batch.gradient()
    upstreams = {"grad_value": upstream, "grad_gathered": upstream_gathered}
    batch.call(simt.soft_value_backward, **row, normalizer=value, **upstreams, grad_q=grad)
    return [value, gathered, grad, upstream, upstream_gathered]


@pytest.mark.parametrize(("vocab", "dtype"), SIZES)
@pytest.mark.parametrize("pattern", ["finite", "scattered"])
def test_soft_value(simt: ModuleType, vocab: int, dtype: torch.dtype, pattern: str) -> None:
    batch = Batch(vocab, dtype, shift=vocab % 5, gap=vocab % 3)
    q = batch.matrix(remove_tokens(3 * batch.random(batch.rows, vocab), pattern))
    value, gathered, grad, upstream, upstream_gathered = run_soft_value(simt, batch, q, 0.4)
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


def test_soft_value_gradient_far_from_zero(simt: ModuleType) -> None:
    """A float32 value of 1e4 is no shift for exponents of temperature 0.01: the row is summed again."""
    for vocab in (31, 1030):
        batch = Batch(vocab, torch.float32)
        q = batch.matrix(1e4 + 0.02 * batch.random(batch.rows, vocab))
        _, _, grad, upstream, upstream_gathered = run_soft_value(simt, batch, q, 0.01)
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
    results = {name: batch.statistic() for name in POLICY_RESULTS}
    value, policy_entropy = results["value"], results["entropy"]
    row = {"logits": logits, "q": q, "mask": batch.mask, **results}
    batch.call(simt.policy_forward, **row, tau=0.3, entropy_mode=mode)
    x, leaf = batch.leaf(logits), batch.leaf(q)
    expected, expected_entropy = reference_policy(x, leaf, batch.mask, entropy)
    batch.check(value, expected)
    batch.check(policy_entropy, expected_entropy)

    upstream, upstream_entropy = (batch.random(batch.rows).to(batch.wide) for _ in range(2))
    to_logits, to_q = batch.gradient(), batch.gradient(shift=batch.shift + 2)
    batch.call(
        simt.policy_backward, **row, grad_value=upstream, grad_entropy=upstream_entropy, grad_logits=to_logits,
        grad_q=to_q,
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
    results = {name: batch.statistic() for name in CRITIC_RESULTS}
    row = {"q": q, "actions": batch.actions, "smoothness": smoothness, "mask": batch.mask}
    batch.call(simt.critic_forward, **row, targets=targets, **results)
    leaf = batch.leaf(q)
    expected = reference.critic_loss(leaf, batch.actions, targets.double(), batch.mask, smoothness=smoothness)
    for name, wanted in expected._asdict().items():
        batch.check(results[name], wanted, scale=4.0)
    upstream, grad = batch.random(batch.rows).to(batch.wide), batch.gradient()
    saved = {name: results[name] for name in ("td_error", "mean", "mean_low")}
    batch.call(simt.critic_backward, **row, **saved, grad_loss=upstream, grad_q=grad)
    batch.check(grad, torch.autograd.grad((expected.loss * upstream.double()).sum(), leaf)[0], scale=2.0)


def test_critic_spread_under_cancellation(simt: ModuleType) -> None:
    """Values near 30 with a variance of 1e-3: E[q^2] - E[q]^2 would have no digit left in float32."""
    batch = Batch(1030, torch.float32)
    q = batch.matrix(30 + 0.03 * batch.random(batch.rows, 1030))
    results = {name: batch.statistic() for name in CRITIC_RESULTS}
    targets = torch.zeros(batch.rows)
    row = {"q": q, "actions": batch.actions, "smoothness": 1.0, "mask": batch.mask}
    batch.call(simt.critic_forward, **row, targets=targets, **results)
    expected = reference.critic_loss(q.double(), batch.actions, targets.double(), batch.mask, smoothness=1.0)
    torch.testing.assert_close(results["spread"].double(), expected.spread, rtol=2e-6, atol=0)


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
    row = {
        "q": q,
        "tau": 0.4,
        "actions": batch.actions,
        "terminal": terminal,
        "steps": steps,
        "mask": batch.mask,
    }
    row |= {"value": value, "correction": correction}
    batch.call(simt.soft_bellman_forward, **row, rewards=rewards, residual=residual)

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
    batch.call(simt.soft_bellman_backward, **row, grad_residual=upstream, grad_q=grad)
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
    row = {"q": q, "actions": batch.actions, "smoothness": 0.2, "mask": batch.mask}
    along = {"rewards": rewards, "terminal": terminal, "steps": steps, "tau": 0.3}
    batch.call(simt.erac_forward, logits=logits, target_q=target_q, **row, **along, **results)

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
    saved = {name: results[name] for name in ("td_error", "mean", "mean_low")}
    batch.call(simt.critic_backward, **row, **saved, grad_loss=upstream, grad_q=grad)
    total = (expected.loss.flatten() * upstream.double()).sum()
    batch.check(grad, torch.autograd.grad(total, leaf)[0], scale=4.0)


@pytest.mark.parametrize(("vocab", "dtype"), SIZES)
@pytest.mark.parametrize("kind", ["oracle", "mixture", "tokens"])
def test_cross_entropy(simt: ModuleType, vocab: int, dtype: torch.dtype, kind: str) -> None:
    batch = Batch(vocab, dtype, shift=vocab % 3, gap=vocab % 2)
    logits_values = 2 * batch.random(batch.rows, vocab)
    q_values = batch.random(batch.rows, vocab)
    if kind == "oracle" and vocab > 3:  # tokens the oracle rules out may be impossible for the policy too
        q_values[:, ::3] = float("-inf")
        logits_values[:, ::6] = float("-inf")
    logits, q = batch.matrix(logits_values), batch.matrix(q_values, shift=batch.shift + 1)
    alpha = torch.rand(batch.rows, generator=batch.generator).to(batch.wide)
    alpha[0], alpha[-1] = 0.0, 1.0
    row = {"logits": logits, "q": None if kind == "tokens" else q, "tau": 0.6, "mask": batch.mask}
    row |= {
        "targets": None if kind == "oracle" else batch.actions,
        "oracle_weight": alpha if kind == "mixture" else None,
    }
    loss, normalizers = batch.statistic(), {name: batch.statistic() for name in NORMALIZERS}
    batch.call(simt.cross_entropy_forward, **row, loss=loss, **normalizers)
    leaf = batch.leaf(logits)
    if kind == "tokens":
        expected = reference.token_cross_entropy(leaf, batch.actions, batch.mask)
    else:
        mixed = {"targets": batch.actions, "oracle_weight": alpha.double()} if kind == "mixture" else {}
        expected = reference.soft_target_cross_entropy(leaf, q.double(), tau=0.6, mask=batch.mask, **mixed)
    batch.check(loss, expected)
    upstream, grad = batch.random(batch.rows).to(batch.wide), batch.gradient()
    batch.call(simt.cross_entropy_backward, **row, **normalizers, grad_loss=upstream, grad_logits=grad)
    batch.check(grad, torch.autograd.grad((expected * upstream.double()).sum(), leaf)[0])


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
            value = {name: batch.statistic() for name in ("value", "correction", "gathered")}
            policy = {name: batch.statistic() for name in POLICY_RESULTS}
            critic = {name: batch.statistic() for name in CRITIC_RESULTS}
            entropy = {name: batch.statistic() for name in ("loss", *NORMALIZERS)}
            outputs = [*value.values(), *policy.values(), *critic.values(), *entropy.values()]
            batch._outputs.clear()  # each call writes but a part of them
            zeros, targets = torch.zeros(rows, dtype=torch.long), torch.zeros(rows)
            batch.call(simt.soft_value_forward, q=q, tau=0.4, actions=zeros, **value)
            batch.call(simt.policy_forward, logits=logits, q=q, tau=0.3, entropy_mode=1, **policy)
            batch.call(simt.critic_forward, q=q, actions=zeros, targets=targets, smoothness=1.0, **critic)
            batch.call(simt.cross_entropy_forward, logits=logits, q=q, tau=0.5, **entropy)
            for row in (0, rows - 1):
                seen.add(tuple(output[row].item() for output in outputs))
    assert len(seen) == 1


def test_long_rows_use_several_blocks_and_warps(simt: ModuleType) -> None:
    """8,300 float64: 256 threads to a row forward, several blocks to a row backward."""
    batch = Batch(8300, torch.float64, rows=2, shift=1)
    q = batch.matrix(batch.random(2, 8300))
    value, _, grad, upstream, upstream_gathered = run_soft_value(simt, batch, q, 1.0)
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
    q, value, correction = torch.randn(2, 8), torch.zeros(2), torch.zeros(2)
    fields = native_fields({"q": q, "tau": 0.5, "value": value, "correction": correction})
    simt.soft_value_forward(**fields, device=1, stream=STREAM)
    device, stream, launches, *_ = simt.last_launch()
    assert (device, stream) == (1, STREAM), "the launch must be on the device and the stream asked for"
    assert simt.current_device() == 0, "the caller's device must be restored"
    with pytest.raises(RuntimeError, match=r"selecting device 7 failed: invalid device ordinal"):
        simt.soft_value_forward(**fields, device=7, stream=STREAM)
    simt.soft_value_forward(
        **fields, device=0, stream=STREAM
    )  # which the refusal before it must not be blamed on
    launches += 1
    too_wide = {"q": (q.data_ptr(), 2**31, 2, 2**31, 0)}
    with pytest.raises(ValueError, match="vocab between 1 and 2"):
        simt.soft_value_forward(**fields | too_wide, device=0, stream=STREAM)
    with pytest.raises(ValueError, match="partials and tickets must be given together"):
        simt.soft_value_forward(**fields, device=0, stream=STREAM, partials=(value.data_ptr(), 8, 7))
    empty = native_fields({name: torch.empty(0) for name in ("value", "correction")})
    simt.soft_value_forward(
        q=(0, 8, 0, 8, 0), tau=0.5, **empty, device=0, stream=STREAM
    )  # no rows: nothing to launch
    assert simt.last_launch()[2] == launches
    assert simt.device_count() == 2


def test_too_little_memory_to_meet_in_is_refused(simt: ModuleType) -> None:
    batch = Batch(6000, torch.float32, rows=3)
    simt.set_multiprocessors(100)
    batch.share_rows(simt)
    fields = native_fields({"q": batch.matrix(batch.random(3, 6000)), "tau": 0.5})
    fields |= native_fields({name: batch.statistic() for name in ("value", "correction")})
    where = batch.where(0)
    pointer, size, code = where["partials"]
    needed = 3 * 6 * 2 * 4  # rows, strands, a maximum and a sum of float32
    assert size >= needed
    with pytest.raises(ValueError, match=f"partials must have at least {needed} bytes, got {needed - 1}"):
        simt.soft_value_forward(**fields, **where | {"partials": (pointer, needed - 1, code)})


def test_ids_outside_the_vocabulary_are_not_followed(simt: ModuleType) -> None:
    batch = Batch(8, torch.float32, rows=2)
    batch.actions = torch.tensor([-1, 1 << 40])
    row = {"q": batch.matrix(batch.random(2, 8)), "actions": batch.actions, "mask": batch.mask}
    results = {name: batch.statistic() for name in ("value", "correction", "gathered")}
    batch.call(simt.soft_value_forward, **row, tau=1.0, **results)
    assert results["gathered"].isnan().all()
