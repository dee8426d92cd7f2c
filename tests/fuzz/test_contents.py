"""What tensors hold and how they lie: ids and lengths out of range are refused, and no layout changes a bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fuzzing import fuzz
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import softbellman as ops

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
BEYOND = st.one_of(
    st.integers(-3, -1),
    st.sampled_from([-(2**63), -(2**32), 2**31, 2**32, 2**32 + 1, 2**63 - 1]),
    st.integers(0, 4),
)


def outside(size: int) -> st.SearchStrategy[int]:
    """Numbers that are no index below `size`, some of which become one when cut to 32 bits."""
    return BEYOND.map(lambda number: number + size if 0 <= number < 5 else number)


def with_one(values: Tensor, place: int, wrong: int) -> Tensor:
    changed = values.clone()
    changed.view(-1)[place % values.numel()] = wrong
    return changed


@fuzz
@given(st.data(), st.integers(1, 4), st.integers(1, 9), st.integers(0, 99), st.booleans())
def test_ids_out_of_range_are_refused(
    data: st.DataObject, rows: int, vocabulary: int, place: int, as_head: bool
) -> None:
    ids = with_one(torch.zeros(2, rows, dtype=torch.int64), place, data.draw(outside(vocabulary)))
    numbers = torch.zeros(2, rows)
    q = (
        ops.Head(torch.randn(2, rows, 3), torch.randn(vocabulary, 3))
        if as_head
        else torch.randn(2, rows, vocabulary)
    )
    for call in (
        lambda: ops.critic_loss(q, ids, numbers),
        lambda: ops.soft_bellman_residual(q, ids, numbers, tau=1.0),
        lambda: ops.token_cross_entropy(q, ids),
        lambda: ops.erac_critic_loss(q, q, q, ids, numbers, tau=1.0),
    ):
        with pytest.raises((ValueError, IndexError), match=r"\["):
            call()


@fuzz
@given(st.data(), st.integers(1, 3), st.integers(1, 5), st.integers(0, 99))
def test_lengths_beyond_the_row_are_refused(
    data: st.DataObject, sources: int, length: int, place: int
) -> None:
    tokens = torch.zeros(sources, 2, length, dtype=torch.int64)
    right = torch.zeros(sources, 2, dtype=torch.int64)
    wrong = with_one(right, place, data.draw(outside(length + 1)))
    frequencies = ops.DocumentFrequencies.from_references(torch.zeros(1, 1, dtype=torch.int64))
    single = {"references": tokens[:, 0], "reference_lengths": right[:, 0]}
    calls: list[Any] = [ops.prefix_bleu, ops.corpus_bleu_statistics, ops.sentence_rouge_l]
    calls.append(lambda *batch, **lengths: ops.cider_rewards(*batch, **lengths, frequencies=frequencies))
    for call in calls:
        for lengths in ({"hypothesis_lengths": wrong}, {"reference_lengths": wrong}):
            with pytest.raises(ValueError, match="lengths must lie between 0 and"):
                call(tokens, tokens, **lengths)
    for function in (ops.prefix_edit_distance, ops.edit_distance_rewards):
        with pytest.raises(ValueError, match="lengths must lie between 0 and"):
            function(tokens, **single, hypothesis_lengths=wrong)
    for proposal in ("ngram", "corrupt", "hamming", "edit"):
        with pytest.raises(ValueError, match="lengths must lie between 0 and"):
            flat = tokens.reshape(2 * sources, length)
            ops.sample_edits(flat, wrong.view(-1), samples=2, proposal=proposal, vocabulary=5, seed=1)
    with pytest.raises(ValueError, match="reference_lengths must lie between 0 and"):
        ops.DocumentFrequencies.from_references(tokens, reference_lengths=wrong)


@fuzz
@given(
    st.data(), st.integers(2, 9), st.integers(0, 99), st.sampled_from(["ngram", "corrupt", "hamming", "edit"])
)
def test_tokens_outside_the_vocabulary_are_refused(
    data: st.DataObject, vocabulary: int, place: int, proposal: str
) -> None:
    tokens = with_one(torch.ones(3, 4, dtype=torch.int64), place, data.draw(outside(vocabulary)))
    with pytest.raises(ValueError, match="below the vocabulary"):
        ops.sample_edits(tokens, samples=2, proposal=proposal, vocabulary=vocabulary, seed=1)
    with pytest.raises(ValueError, match="references must be ids in"):
        ops.optimal_completion_values(tokens, tokens, vocabulary=vocabulary, eos_id=0)
    with pytest.raises(ValueError, match="references must be ids in"):
        ops.bleu_completion_values(tokens, tokens, vocabulary=vocabulary, eos_id=0)


# ---- layouts ----


@st.composite
def layouts(draw: st.DrawFn, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A tensor [A, B, V] of any strides and offset, and the same numbers side by side."""
    sizes = draw(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 70)))
    order = draw(st.permutations([0, 1, 2]))
    steps = draw(st.tuples(*[st.integers(1, 3)] * 3))
    expanded = draw(st.sets(st.integers(0, 1)))
    offset = draw(st.integers(0, 9))
    strides, reach = [0, 0, 0], 1
    for axis in order:
        strides[axis] = 0 if axis in expanded else reach * steps[axis]
        reach *= 1 if axis in expanded else sizes[axis] * steps[axis]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    storage = torch.randn(offset + reach + 1, generator=generator, dtype=torch.float64).to(dtype)
    strided = torch.as_strided(storage, sizes, strides, offset)
    return strided, strided.contiguous()


def results_of(q: Tensor, logits: Tensor) -> list[Tensor]:
    leaves = [values.detach().requires_grad_() for values in (q, logits)]
    ids = torch.zeros(q.shape[:-1], dtype=torch.int64)
    numbers = torch.zeros(q.shape[:-1], dtype=torch.float64 if q.dtype == torch.float64 else torch.float32)
    policy = ops.policy_value(leaves[1], leaves[0], tau=0.5)
    results = [
        ops.soft_value(leaves[0], tau=0.5),
        *policy,
        *ops.critic_loss(leaves[0], ids, numbers, smoothness=0.1)[:1],
    ]
    results += [ops.soft_target_cross_entropy(leaves[1], q, tau=0.7), ops.divergence(leaves[1], q)]
    gradients = torch.autograd.grad([result.sum() for result in results], leaves)
    drawn = ops.sample_tokens(logits, seed=7, offset=1)
    return [*(result.detach() for result in results), *gradients, *drawn]


@fuzz
@given(st.data(), st.sampled_from(DTYPES))
def test_no_layout_changes_a_bit(data: st.DataObject, dtype: torch.dtype) -> None:
    strided, dense = data.draw(layouts(dtype))
    for one, other in zip(results_of(strided, dense), results_of(dense, dense), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(results_of(dense, strided), results_of(dense, dense), strict=True):
        assert torch.equal(one, other)


@fuzz
@given(st.data(), st.integers(1, 3), st.integers(1, 3), st.integers(0, 6), st.integers(1, 3))
def test_no_layout_of_tokens_changes_a_count(
    data: st.DataObject, sources: int, samples: int, length: int, step: int
) -> None:
    order = data.draw(st.permutations([0, 1, 2]))
    sizes = (sources, samples, length)
    wide = torch.randint(
        0, 4, [sizes[axis] * step for axis in order], generator=torch.Generator().manual_seed(length)
    )
    back = [order.index(axis) for axis in range(3)]
    tokens = wide.permute(back)[:sources, ::step, ::step][:, :samples, :length]
    if data.draw(st.booleans()):
        tokens = tokens[:, :1].expand(sizes)
    dense = tokens.contiguous()
    for call in (ops.corpus_bleu_statistics, ops.prefix_rouge_l):
        assert torch.equal(call(tokens, tokens), call(dense, dense))
    assert torch.equal(
        ops.prefix_edit_distance(tokens, tokens[:, 0]), ops.prefix_edit_distance(dense, dense[:, 0])
    )
    if length > 0:
        one, other = (ops.DocumentFrequencies.from_references(each) for each in (tokens, dense))
        assert all(map(torch.equal, one.ngrams + one.counts, other.ngrams + other.counts))
