"""`erac_critic_loss` by hand, beside the operators it is made of, packed and padded; what it keeps and what it moves."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from softbellman import critic_loss, erac_critic_loss, policy_value, reference

TAU = 0.3
ROOT = Path(__file__).resolve().parents[2]


def example(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """logits, target_q, q [..., V], actions, rewards [...]."""
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(3, *shape, generator=generator, dtype=torch.float64).to(dtype)
    actions = torch.randint(shape[-1], shape[:-1], generator=generator)
    return (*rows, actions, torch.randn(shape[:-1], generator=generator, dtype=torch.float64))


def test_two_tokens_by_hand() -> None:
    logits = torch.tensor([[0.0, 0.0], [math.log(1.0), math.log(3.0)]], dtype=torch.float64)
    target_q = torch.tensor([[5.0, 7.0], [8.0, 4.0]], dtype=torch.float64)
    q = torch.tensor([[1.0, 3.0], [0.0, 4.0]], dtype=torch.float64, requires_grad=True)
    result = erac_critic_loss(
        logits, target_q, q, torch.tensor([1, 0]), torch.tensor([0.5, -1.0]), tau=0.5, smoothness=0.25
    )
    entropies = [math.log(2), -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))]
    values = [6.0 + 0.5 * entropies[0], 5.0 + 0.5 * entropies[1]]
    targets = [0.5 + values[1], -1.0]  # nothing follows the second token
    errors = [3.0 - targets[0], 0.0 - targets[1]]
    spreads = [2.0, 8.0]
    losses = [error**2 + 0.25 * spread for error, spread in zip(errors, spreads, strict=True)]
    expected = (losses, errors, targets, values, entropies, spreads)
    for name, actual, wanted in zip(result._fields, result, expected, strict=True):
        assert actual.tolist() == pytest.approx(wanted, rel=1e-14), name
    result.loss.sum().backward()
    assert q.grad is not None
    wanted = [[-0.5, 0.5 + 2 * errors[0]], [-1.0 + 2 * errors[1], 1.0]]
    torch.testing.assert_close(q.grad, torch.tensor(wanted, dtype=torch.float64), rtol=1e-14, atol=0)


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float64), ids=str)
def test_it_is_the_composition_of_policy_value_and_critic_loss(dtype: torch.dtype) -> None:
    logits, target_q, q, actions, rewards = example(3, 5, 70, dtype=dtype)
    mask = torch.arange(5) < torch.tensor([[5], [2], [1]])
    value, entropy = policy_value(logits, target_q, tau=TAU, mask=mask)
    targets = rewards.to(value.dtype, copy=True)
    targets[:, :-1] += value[:, 1:]
    targets = targets.masked_fill(~mask, 0.0)
    loss, td_error, spread = critic_loss(q, actions, targets, mask, smoothness=0.1)
    result = erac_critic_loss(logits, target_q, q, actions, rewards, mask, tau=TAU, smoothness=0.1)
    for actual, wanted in zip(result, (loss, td_error, targets, value, entropy, spread), strict=True):
        assert torch.equal(actual, wanted)


def test_sequences_packed_behind_each_other_are_the_padded_ones() -> None:
    logits, target_q, q, actions, rewards = example(3, 4, 6, dtype=torch.float64)
    lengths = torch.tensor([2, 4, 1])
    mask = torch.arange(4) < lengths[:, None]
    terminal = torch.zeros(7, dtype=torch.bool)
    terminal[lengths.cumsum(0) - 1] = True
    weights = torch.rand(3, 4, dtype=torch.float64)
    q.requires_grad_()
    padded = erac_critic_loss(logits, target_q, q, actions, rewards, mask, tau=TAU, smoothness=0.1)
    (wanted,) = torch.autograd.grad((weights * padded.loss).sum(), q)
    packed = erac_critic_loss(  # (N, T, V) -> (M, V)
        *(tensor[mask] for tensor in (logits, target_q, q, actions, rewards)),
        tau=TAU,
        smoothness=0.1,
        terminal=terminal,
    )
    (found,) = torch.autograd.grad((weights[mask] * packed.loss).sum(), q)
    for name, some, others in zip(packed._fields, packed, padded, strict=True):
        assert torch.equal(some, others[mask]), name
    assert torch.equal(found, wanted)


def test_a_masked_position_inside_a_sequence_is_not_bootstrapped_from() -> None:
    logits, target_q, q, actions, rewards = example(1, 4, 6)
    mask = torch.tensor([[True, True, False, True]])
    result = erac_critic_loss(logits, target_q, q, actions, rewards, mask, tau=TAU)
    rewards = rewards.float()[0]
    assert torch.equal(
        result.targets[0],
        torch.stack([rewards[0] + result.value[0, 1], rewards[1], rewards[2] * 0, rewards[3]]),
    )


def test_without_entropy_it_is_the_target_of_actor_critic() -> None:
    logits, target_q, q, actions, rewards = example(2, 3, 9, dtype=torch.float64)
    expected = (logits.softmax(-1) * target_q).sum(-1)
    result = erac_critic_loss(logits, target_q, q, actions, rewards, tau=0.0)
    torch.testing.assert_close(result.value, expected)
    torch.testing.assert_close(result.targets[:, :-1], rewards[:, :-1] + expected[:, 1:])


def test_the_gradient_goes_to_q_alone() -> None:
    logits, target_q, q, actions, rewards = example(2, 3, 9)
    for tensor in (logits, target_q, q, rewards):
        tensor.requires_grad_()
    result = erac_critic_loss(logits, target_q, q, actions, rewards, tau=TAU, smoothness=0.1)
    assert [part.requires_grad for part in result] == [True] + [False] * 5
    result.loss.sum().backward()
    assert logits.grad is None and target_q.grad is None and rewards.grad is None
    assert q.grad is not None and q.grad.any()
    constant = erac_critic_loss(logits, target_q, q.detach(), actions, rewards, tau=TAU)
    assert not constant.loss.requires_grad


def test_gradcheck_with_ends_within_the_row() -> None:
    logits, target_q, q, actions, rewards = example(2, 5, 4, dtype=torch.float64)
    terminal = torch.tensor([[False, True, False, False, True], [True, False, False, True, False]])
    options = {"tau": TAU, "smoothness": 0.2, "terminal": terminal}

    def loss(q: Tensor) -> Tensor:
        return erac_critic_loss(logits, target_q, q, actions, rewards, **options).loss  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(loss, q.requires_grad_())
    ours = erac_critic_loss(logits, target_q, q, actions, rewards, **options)  # type: ignore[arg-type]
    plain = reference.erac_critic_loss(logits, target_q, q, actions, rewards, **options)  # type: ignore[arg-type]
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other)


def test_less_than_64_bytes_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks._memory import peak_bytes

    logits, target_q, q, actions, rewards = example(8, 16, 300)
    q.requires_grad_()
    rewards = rewards.float()
    for terminal in (None, torch.zeros(8, 16, dtype=torch.bool)):
        peak = peak_bytes(
            lambda ends=terminal: erac_critic_loss(
                logits, target_q, q, actions, rewards, tau=TAU, smoothness=0.1, terminal=ends
            ),
            "cpu",
        )
        assert 0 < peak < 64 * 8 * 16


def test_a_sequence_has_the_same_bits_alone_and_in_a_batch() -> None:
    arguments = example(9, 3, 1031)
    batch = erac_critic_loss(*arguments, tau=TAU, smoothness=0.1)
    alone = erac_critic_loss(*(tensor[4:5] for tensor in arguments), tau=TAU, smoothness=0.1)
    for one, other in zip(batch, alone, strict=True):
        assert torch.equal(one[4:5], other)


def test_errors_name_the_argument() -> None:
    logits, target_q, q, actions, rewards = example(2, 3, 5)
    with pytest.raises(ValueError, match=r"logits must have at least two dimensions, got shape \(5,\)"):
        erac_critic_loss(logits[0, 0], target_q[0, 0], q[0, 0], actions[0, 0], rewards[0, 0], tau=TAU)
    with pytest.raises(
        TypeError, match=r"target_q must have the dtype of logits, torch.float32, got torch.bf"
    ):
        erac_critic_loss(logits, target_q.bfloat16(), q, actions, rewards, tau=TAU)
    with pytest.raises(ValueError, match=r"q must have the shape of logits, \(2, 3, 5\), got \(2, 3, 4\)"):
        erac_critic_loss(logits, target_q, q[..., :4], actions, rewards, tau=TAU)
    with pytest.raises(ValueError, match=r"rewards must have shape \(2, 3\).* got \(2, 2\)"):
        erac_critic_loss(logits, target_q, q, actions, rewards[:, :2], tau=TAU)
    with pytest.raises(TypeError, match="terminal must be a bool tensor"):
        erac_critic_loss(logits, target_q, q, actions, rewards, tau=TAU, terminal=rewards)
    with pytest.raises(ValueError, match="terminal must be bool or hold integers 0 and 1, got"):
        erac_critic_loss(logits, target_q, q, actions, rewards, tau=TAU, terminal=actions + 2)
    with pytest.raises(ValueError, match="tau must be 0 or between 1e-30 and 1e30, got -1"):
        erac_critic_loss(logits, target_q, q, actions, rewards, tau=-1.0)
    for wrong in (-1, 5):
        with pytest.raises(ValueError, match=rf"action.*{wrong}"):
            erac_critic_loss(logits, target_q, q, torch.full_like(actions, wrong), rewards, tau=TAU)
