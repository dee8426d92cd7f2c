"""Sampled edits against lists of every way to edit small sequences, and against the reference."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from payoffs.edits_cases import (
    SEQUENCES,
    SETTINGS,
    SPECIAL,
    VOCABULARY,
    every_sequence,
    law,
    row,
    sequences,
    settings_id,
)
from softbellman import edit_log_density, reference, sample_edits

PROPOSALS = ("ngram", "corrupt", "hamming", "edit")
SMALL: dict[str, Any] = {"vocabulary": VOCABULARY, "special_ids": (SPECIAL,)}
every_setting = pytest.mark.parametrize("setting", SETTINGS, ids=settings_id)


@every_setting
def test_density_of_every_sequence(setting: tuple[str, dict[str, Any]]) -> None:
    """What can be reached has the probability of all ways to it, nothing else has any, and all of it adds up to 1."""
    proposal, options = setting
    for x in SEQUENCES:
        longest = len(x) + (options["max_distance"] if proposal == "edit" else 0)
        if longest > 7:
            continue
        expected = law(x, proposal, **options)
        edited, lengths = every_sequence(longest)
        density = edit_log_density(row(x), edited, None, lengths, proposal=proposal, **SMALL, **options)[0]
        wanted = torch.tensor(
            [math.log(expected[y]) if y in expected else -math.inf for y in sequences(edited[0], lengths[0])],
            dtype=torch.float64,
        )
        torch.testing.assert_close(density, wanted, rtol=0, atol=1e-12)
        assert density.exp().sum().item() == pytest.approx(1.0, abs=1e-12)


@every_setting
def test_samples_follow_the_density(setting: tuple[str, dict[str, Any]]) -> None:
    proposal, options = setting
    samples = 30_000
    for number, x in enumerate(SEQUENCES[:3]):
        expected = law(x, proposal, **options)
        edits = sample_edits(
            row(x), samples=samples, proposal=proposal, seed=11 + number, offset=2**40, **SMALL, **options
        )
        padded = torch.cat([edits.tokens[0], edits.lengths[0, :, None]], -1)
        different, seen = torch.unique(padded, dim=0, return_counts=True)
        outcomes = sequences(different[:, :-1], different[:, -1])
        counts = Counter(dict(zip(outcomes, seen.tolist(), strict=True)))
        assert counts.keys() <= expected.keys()
        rare = [y for y, probability in expected.items() if probability * samples < 10]
        frequent = expected.keys() - set(rare)
        groups = [(counts[y], expected[y] * samples) for y in frequent]
        groups.append((sum(counts[y] for y in rare), sum(expected[y] for y in rare) * samples))
        statistic = sum((count - mean) ** 2 / mean for count, mean in groups if mean > 0)
        assert chi2.sf(statistic, max(len(groups) - 1, 1)) > 1e-4


@every_setting
def test_the_reference_draws_the_same_tokens(setting: tuple[str, dict[str, Any]]) -> None:
    proposal, options = setting
    tokens = torch.randint(0, 9, (5, 6), generator=torch.Generator().manual_seed(3))
    lengths = torch.tensor([6, 5, 3, 1, 0])
    for special_ids in ((), (0, 5), (8, 3, 2, 77)):
        for keep_gold in (False, True):
            arguments = {
                "samples": 6, "proposal": proposal, "vocabulary": 9, "seed": 2**62 + 5, "offset": 2**35 + 1,
                "special_ids": special_ids, "keep_gold": keep_gold, "pad_id": -7, **options,
            }  # fmt: skip
            ours = sample_edits(tokens, lengths, **arguments)
            expected = reference.sample_edits(tokens, lengths, **arguments)
            assert torch.equal(ours.tokens, expected.tokens)
            assert torch.equal(ours.lengths, expected.lengths)
            torch.testing.assert_close(ours.log_density, expected.log_density, rtol=1e-13, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_batch_agrees_with_the_reference(data: st.DataObject) -> None:
    proposal = data.draw(st.sampled_from(PROPOSALS))
    vocabulary = data.draw(st.integers(1, 5))
    length, batch = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 2))
    cell = st.integers(0, vocabulary - 1)
    tokens = torch.tensor(
        data.draw(st.lists(st.lists(cell, min_size=length, max_size=length), min_size=batch, max_size=batch)),
        dtype=torch.int64,
    ).view(batch, length)
    limit = st.integers(0, 3) if proposal == "edit" else st.none() | st.integers(0, 6)
    weight = st.sampled_from((0.0, 0.5, 1.0, 7.0))
    weights = data.draw(st.tuples(weight, weight, weight).filter(any))
    arguments: dict[str, Any] = {
        "samples": data.draw(st.integers(0, 3)),
        "proposal": proposal,
        "vocabulary": vocabulary,
        "seed": data.draw(st.integers(0, 2**63 - 1)),
        "offset": data.draw(st.integers(0, 2**63 - 1)),
        "special_ids": data.draw(st.lists(st.integers(-1, 6), max_size=3)),
        "max_order": data.draw(st.integers(1, 16)),
        "rate": data.draw(st.floats(0, 1)),
        "temperature": data.draw(st.floats(0.1, 100)),
        "max_distance": data.draw(limit),
        "operation_weights": weights,
        "keep_gold": data.draw(st.booleans()),
    }
    ours, expected = sample_edits(tokens, **arguments), reference.sample_edits(tokens, **arguments)
    assert torch.equal(ours.tokens, expected.tokens) and torch.equal(ours.lengths, expected.lengths)
    torch.testing.assert_close(ours.log_density, expected.log_density, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("proposal", PROPOSALS)
def test_special_tokens_stay_and_are_never_produced(proposal: str) -> None:
    special = (0, 1, 2, 30)
    tokens = torch.randint(0, 31, (20, 12), generator=torch.Generator().manual_seed(0))
    tokens[:, 0], tokens[:, -1] = 1, 2
    edits = sample_edits(
        tokens, samples=30, proposal=proposal, vocabulary=31, seed=5, special_ids=special,
        rate=0.9, temperature=8.0, pad_id=-1,
    )  # fmt: skip
    assert edits.tokens.max() < 31
    changed = 0
    for b, x in enumerate(tokens.tolist()):
        for y in sequences(edits.tokens[b], edits.lengths[b]):
            assert [token for token in y if token in special] == [token for token in x if token in special]
            assert y[0] == 1 and y[-1] == 2
            changed += list(y) != x
    assert changed > 300


@pytest.mark.parametrize("proposal", PROPOSALS)
def test_mixture_with_the_reference(proposal: str) -> None:
    tokens, lengths = torch.tensor([[0, 1, 3, 1], [2, 0, 9, 9]]), torch.tensor([4, 2])
    tokens[1, 2:] = 3
    arguments: dict[str, Any] = {"samples": 5, "proposal": proposal, "seed": 1, "max_distance": 2, **SMALL}
    plain = sample_edits(tokens, lengths, **arguments)
    mixed = sample_edits(tokens, lengths, keep_gold=True, **arguments)
    assert torch.equal(mixed.tokens[:, 1:], plain.tokens[:, 1:])
    names = ("proposal", "max_distance", "vocabulary", "special_ids")
    scoring = {name: arguments[name] for name in names}
    density = edit_log_density(tokens, mixed.tokens, lengths, mixed.lengths, **scoring).exp()
    for b, x in enumerate(((0, 1, 3, 1), (2, 0))):
        rows = sequences(mixed.tokens[b], mixed.lengths[b])
        assert rows[0] == x
        gold = torch.tensor([float(y == x) for y in rows], dtype=torch.float64)
        torch.testing.assert_close(
            mixed.log_density[b].exp(), gold / 5 + 0.8 * density[b], rtol=1e-13, atol=0
        )
    alone = sample_edits(tokens, lengths, keep_gold=True, **{**arguments, "samples": 1})
    assert alone.log_density.tolist() == [[0.0], [0.0]]
    assert sequences(alone.tokens[0], alone.lengths[0]) == [(0, 1, 3, 1)]


@pytest.mark.parametrize("proposal", PROPOSALS)
def test_seeds_offsets_and_rows_are_independent(proposal: str) -> None:
    tokens = torch.arange(40).view(1, 40).expand(2, 40)
    arguments: dict[str, Any] = {"proposal": proposal, "vocabulary": 5000, "rate": 0.5}
    arguments["temperature"] = 1.0 if proposal == "edit" else 0.15
    draws = [
        sample_edits(tokens, samples=50, seed=seed, offset=offset, **arguments).tokens
        for seed, offset in ((1, 0), (2, 0), (1, 1), (1, 2**32), (2**40, 0))
    ]
    rows = torch.cat(draws).flatten(0, 1)
    edited = rows[(rows[:, :40] != torch.arange(40)).any(-1)]
    assert len(edited) > 450 and len(edited.unique(dim=0)) >= 0.97 * len(edited)
    again = sample_edits(tokens, samples=50, seed=1, **arguments).tokens
    assert torch.equal(again, draws[0])


def test_a_row_depends_on_its_number_alone() -> None:
    """The same row draws the same edits at any padded length, beside other rows and in any layout."""
    tokens = torch.randint(0, 99, (3, 10), generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([10, 4, 7])
    wide = torch.full((3, 50), 98)
    wide[:, 5:15] = tokens
    strided = torch.full((3, 20), 98)
    strided[:, ::2] = tokens
    for proposal in PROPOSALS:
        arguments: dict[str, Any] = {"samples": 3, "proposal": proposal, "vocabulary": 99, "seed": 4}
        arguments["max_distance"] = 8
        expected = sample_edits(tokens, lengths, **arguments)
        for layout in (wide[:, 5:15], strided[:, ::2], tokens.t().contiguous().t()):
            for one, other in zip(sample_edits(layout, lengths, **arguments), expected, strict=True):
                assert torch.equal(one, other)
        padded = sample_edits(wide[:, 5:40], lengths.int(), **arguments)
        width = expected.tokens.shape[-1]
        assert torch.equal(padded.tokens[..., :width], expected.tokens)
        torch.testing.assert_close(padded.log_density, expected.log_density, rtol=0, atol=0)
        first = sample_edits(tokens[:1], lengths[:1], **arguments)
        assert torch.equal(first.tokens, expected.tokens[:1])


@pytest.mark.parametrize("proposal", PROPOSALS)
def test_empty_batches(proposal: str) -> None:
    for batch, samples, length in ((0, 2, 5), (2, 0, 5), (2, 3, 0)):
        tokens = torch.zeros((batch, length), dtype=torch.int64)
        edits = sample_edits(
            tokens, samples=samples, proposal=proposal, vocabulary=3, seed=0, max_distance=2, pad_id=9
        )
        width = length + 2 * (proposal == "edit")
        assert edits.tokens.shape == (batch, samples, width)
        assert edits.lengths.shape == edits.log_density.shape == (batch, samples)
        if length == 0:
            assert (edits.tokens == 9).all() and not edits.lengths.any() and not edits.log_density.any()


@pytest.mark.parametrize("proposal", PROPOSALS)
@pytest.mark.parametrize("special_ids", [(0, 1), (0, 1, 2)])
def test_an_alphabet_of_one_and_of_none(proposal: str, special_ids: tuple[int, ...]) -> None:
    tokens = torch.tensor([[0, 2, 2, 1]])
    arguments: dict[str, Any] = {
        "proposal": proposal,
        "vocabulary": 3,
        "special_ids": special_ids,
        "rate": 1.0,
    }
    edits = sample_edits(tokens, samples=200, seed=0, **arguments)
    assert not edits.log_density.isnan().any()
    if proposal == "edit" and len(special_ids) == 2:
        assert len(edits.lengths.unique()) > 3  # insertions and deletions are left
    else:
        assert torch.equal(edits.tokens[..., :4], tokens[:, None].expand(1, 200, 4))
        torch.testing.assert_close(edits.log_density, torch.zeros(1, 200, dtype=torch.float64))
