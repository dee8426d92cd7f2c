"""Heads of any form give what their logits give, and heads that are none are refused with a sentence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fuzzing import fuzz
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import softbellman as ops
from softbellman import Head

OPTIONS = st.fixed_dictionaries(
    {
        "scale": st.sampled_from([1.0, -0.5, 0.0625]),
        "softcap": st.sampled_from([None, 30.0, 2.0]),
        "chunk_rows": st.sampled_from([None, 1, 3, 2**62]),
    }
)


@st.composite
def heads(draw: st.DrawFn) -> Head:
    """Float64, of any leading shape, with strided hidden states and weights; some tokens forbidden by the bias."""
    leading = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    width, vocabulary = draw(st.integers(1, 5)), draw(st.integers(1, 40))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def normal(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator, dtype=torch.float64)

    hidden = normal(*leading, 2 * width)[..., ::2] if draw(st.booleans()) else normal(*leading, width)
    weight = normal(width, vocabulary).T if draw(st.booleans()) else normal(vocabulary, width)
    bias = normal(vocabulary) if draw(st.booleans()) else None
    if bias is not None and draw(st.booleans()):
        bias[1:] = bias[1:].masked_fill(bias[1:] > 0.5, float("-inf"))
    return Head(hidden, weight, bias, **draw(OPTIONS))


@fuzz
@given(heads(), st.booleans())
def test_a_head_gives_what_its_logits_give(head: Head, masked: bool) -> None:
    logits = head.logits()
    ids = torch.zeros(logits.shape[:-1], dtype=torch.int64)
    numbers = torch.zeros(logits.shape[:-1], dtype=torch.float64)
    mask = torch.arange(ids.numel()).view(ids.shape) % 3 != 1 if masked else None
    calls: list[Any] = [
        lambda rows: ops.soft_value(rows, tau=0.5, mask=mask),
        lambda rows: ops.policy_value(rows, logits, tau=0.5, mask=mask),
        lambda rows: ops.critic_loss(rows, ids, numbers, mask, smoothness=0.1),
        lambda rows: ops.token_cross_entropy(rows, ids, mask),
        lambda rows: ops.soft_target_cross_entropy(rows, logits, tau=0.7, mask=mask),
        lambda rows: ops.divergence(rows, logits, mask=mask),
        lambda rows: ops.sample_tokens(rows, seed=3, offset=1, mask=mask),
    ]
    for call in calls:
        found, expected = call(head), call(logits)
        pairs = [(found, expected)] if isinstance(found, Tensor) else zip(found, expected, strict=True)
        for one, other in pairs:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9, equal_nan=True)


NO_HEAD = st.sampled_from(
    [
        {"hidden": torch.zeros(3)[0]},
        {"hidden": torch.zeros(2, 4, dtype=torch.int64)},
        {"hidden": [[0.0] * 3]},
        {"weight": torch.zeros(3)},
        {"weight": torch.zeros(5, 4)},
        {"weight": torch.zeros(0, 3)},
        {"weight": torch.zeros(5, 3, 1)},
        {"weight": None},
        {"bias": torch.zeros(4)},
        {"bias": torch.zeros(5, 1)},
        {"bias": 0.0},
        {"scale": 0.0},
        {"scale": float("nan")},
        {"scale": float("inf")},
        {"scale": "1"},
        {"softcap": 0.0},
        {"softcap": -1.0},
        {"softcap": float("nan")},
        {"chunk_rows": 0},
        {"chunk_rows": -1},
        {"chunk_rows": 1.5},
        {"chunk_rows": 2**63},
        {"chunk_rows": True},
    ]
)


@fuzz
@given(NO_HEAD)
def test_what_is_no_head_is_refused(wrong: dict[str, Any]) -> None:
    right = {"hidden": torch.zeros(2, 3), "weight": torch.zeros(5, 3), "bias": torch.zeros(5)}
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        Head(**{**right, **wrong})
