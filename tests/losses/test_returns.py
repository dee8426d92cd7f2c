"""Targets of the critic: against the reference, the sums written out, and what must not reach them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import softbellman
from softbellman import reference

TRACES = (0.0, 0.5, 0.93, 1.0)
every_trace = pytest.mark.parametrize("trace", TRACES)


def inputs(lengths: list[int], steps: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Rewards, values, mask and bonuses."""
    generator = torch.Generator().manual_seed(steps)
    rewards, values, bonuses = torch.randn(3, len(lengths), steps, generator=generator, dtype=torch.float64)
    mask = torch.arange(steps) < torch.tensor(lengths, dtype=torch.int64)[:, None]
    return rewards.to(dtype), values.to(dtype), mask, bonuses.to(dtype)


@every_trace
@pytest.mark.parametrize("dtype", (torch.float64, torch.float32), ids=str)
@pytest.mark.parametrize(
    ("lengths", "steps"), (([1], 1), ([5, 2, 0, 4], 5), ([64, 63, 65, 1], 65), ([300, 7], 300), ([], 3))
)
def test_targets_are_those_of_the_reference(
    trace: float, dtype: torch.dtype, lengths: list[int], steps: int
) -> None:
    rewards, values, mask, bonuses = inputs(lengths, steps, dtype)
    found = softbellman.td_targets(rewards, values, mask, trace=trace, bonuses=bonuses)
    wide = (tensor.double() for tensor in (rewards, values))
    expected = reference.td_targets(*wide, mask, trace=trace, bonuses=bonuses.double())
    assert found.dtype == dtype and found.shape == mask.shape
    # Each of the T terms of a sum is at most the largest of both, and is added log2(T) times with a rounding each.
    size = (1 + steps) * (
        1 + float(torch.stack([rewards, values, bonuses]).abs().sum(0).max() if lengths else 0)
    )
    bound = (4 + math.log2(steps)) * torch.finfo(dtype).eps * size
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=bound)


@every_trace
def test_a_target_is_its_geometric_series(trace: float) -> None:
    """`G_t = sum_k trace^k [r_{t+k} + (1 - trace) V_{t+k+1} + trace bonus_{t+k+1}]`, the last token with its reward alone."""
    lengths = [6, 3, 1]
    rewards, values, mask, bonuses = inputs(lengths, 6)
    found = softbellman.td_targets(rewards, values, mask, trace=trace, bonuses=bonuses)
    for n, length in enumerate(lengths):
        for t in range(6):
            expected = 0.0
            for later in range(t, length):
                following = (
                    (1 - trace) * values[n, later + 1] + trace * bonuses[n, later + 1]
                    if later + 1 < length
                    else 0.0
                )
                expected += trace ** (later - t) * float(rewards[n, later] + following)
            assert found[n, t].item() == pytest.approx(expected, abs=1e-12)


def test_without_a_trace_they_are_equation_19_bit_for_bit() -> None:
    rewards, values, mask, bonuses = inputs([5, 2, 0, 4], 5, torch.float32)
    following = torch.zeros_like(values)
    following[:, :-1] = torch.where(mask[:, 1:], values[:, 1:], 0.0)
    expected = torch.where(mask, rewards + following, 0.0)
    for options in ({}, {"trace": 0.0}, {"trace": 0.0, "bonuses": bonuses}):
        assert torch.equal(softbellman.td_targets(rewards, values, mask, **options), expected)


def test_at_one_no_value_counts() -> None:
    rewards, values, mask, bonuses = inputs([5, 2, 0, 4], 5)
    returns = [
        softbellman.td_targets(rewards, found, mask, trace=1.0, bonuses=bonuses)
        for found in (values, 7.0 * values)
    ]
    assert torch.equal(*returns)
    plain = softbellman.td_targets(rewards, values, mask, trace=1.0)
    assert plain[0, 0].item() == pytest.approx(rewards[0].sum().item())


@every_trace
def test_padding_is_not_read(trace: float) -> None:
    rewards, values, mask, bonuses = inputs([5, 2, 0, 4], 5)
    clean = softbellman.td_targets(rewards, values, mask, trace=trace, bonuses=bonuses)
    for poison in (math.nan, math.inf):
        spoilt = (tensor.masked_fill(~mask, poison) for tensor in (rewards, values, bonuses))
        poisoned_rewards, poisoned_values, poisoned_bonuses = spoilt
        found = softbellman.td_targets(
            poisoned_rewards, poisoned_values, mask, trace=trace, bonuses=poisoned_bonuses
        )
        assert torch.equal(found, clean)
    assert not clean[~mask].any()


def test_inputs_are_left_as_they_are() -> None:
    tensors = inputs([4, 2], 4)
    before = [tensor.clone() for tensor in tensors]
    softbellman.td_targets(*tensors[:3], trace=0.5, bonuses=tensors[3])
    assert all(torch.equal(left, right) for left, right in zip(tensors, before, strict=True))


@pytest.mark.parametrize("trace", (0.0, 0.7, 1.0))
def test_gradcheck(trace: float) -> None:
    rewards, values, mask, bonuses = inputs([5, 2, 0, 4], 5)
    leaves = [tensor.requires_grad_() for tensor in (rewards, values, bonuses)]

    def targets(rewards: Tensor, values: Tensor, bonuses: Tensor) -> Tensor:
        return softbellman.td_targets(rewards, values, mask, trace=trace, bonuses=bonuses)

    assert torch.autograd.gradcheck(targets, leaves)


def test_bad_arguments_are_named() -> None:
    rewards, values, mask, bonuses = inputs([4, 2], 4)
    for trace in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="trace must be between 0 and 1"):
            softbellman.td_targets(rewards, values, mask, trace=trace)
    with pytest.raises(TypeError, match="trace must be a Python number"):
        softbellman.td_targets(rewards, values, mask, trace=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"values must have shape \(2, 4\), that of mask, got \(2, 3\)"):
        softbellman.td_targets(rewards, values[:, 1:], mask)
    with pytest.raises(ValueError, match="bonuses must have shape"):
        softbellman.td_targets(rewards, values, mask, trace=0.5, bonuses=bonuses[:1])
