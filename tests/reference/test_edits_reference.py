"""The reference's densities against lists of every way to edit small sequences."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from payoffs.edits_cases import SEQUENCES, SETTINGS, SPECIAL, VOCABULARY, law, row, settings_id

from softbellman.reference import edit_log_density, importance_weights, sample_edits
from softbellman.reference.edit_processes import Proposal, _scripts


@pytest.mark.parametrize("setting", SETTINGS, ids=settings_id)
def test_densities_against_every_way_to_edit(setting: tuple[str, dict[str, Any]]) -> None:
    proposal, options = setting
    for x in SEQUENCES:
        expected = law(x, proposal, **options)
        outcomes = sorted(expected)[:40]
        width = max(map(len, outcomes))
        edited = torch.tensor([[*y, *[9] * (width - len(y))] for y in outcomes], dtype=torch.int64)
        densities = edit_log_density(
            row(x), edited.view(1, len(outcomes), width), None, torch.tensor([[len(y) for y in outcomes]]),
            proposal=proposal, vocabulary=VOCABULARY, special_ids=(SPECIAL,), **options,
        )  # fmt: skip
        for y, density in zip(outcomes, densities[0].tolist(), strict=True):
            assert density == pytest.approx(math.log(expected[y]), abs=1e-12)


def test_weights_that_count_scripts() -> None:
    """(A-1, A, 1) gives W(1, 1): A - 1 substitutions, A insertions in 2 gaps, 1 deletion."""
    size = 7
    process = Proposal("edit", tuple(range(size)), 4, 0.2, 1.0, 3, (size - 1, size, 1))  # type: ignore[arg-type]
    assert process.scripts(1, 1) == (size - 1) + 2 * size + 1
    assert _scripts((size - 1, size, 1), 0, 2) == size**2  # type: ignore[arg-type]


def test_samples_are_edits_of_their_reference() -> None:
    tokens = torch.tensor([[2, 0, 1, 2], [1, 1, 0, 3]])
    for proposal, options in SETTINGS:
        edits = sample_edits(
            tokens, torch.tensor([4, 2]), samples=6, proposal=proposal, vocabulary=VOCABULARY, seed=3,
            special_ids=(SPECIAL,), pad_id=-1, **options,
        )  # fmt: skip
        for b, x in enumerate(((2, 0, 1, 2), (1, 1))):
            expected = law(x, proposal, **options)
            rows = zip(edits.tokens[b].tolist(), edits.lengths[b].tolist(), strict=True)
            for (y, length), density in zip(rows, edits.log_density[b].tolist(), strict=True):
                assert density == pytest.approx(math.log(expected[tuple(y[:length])]), abs=1e-12)
                assert y[length:] == [-1] * (len(y) - length)


def test_importance_weights_by_hand() -> None:
    payoff, log_q = torch.tensor([[0.5, 1.0]]).double(), torch.tensor([[0.25, 0.75]]).double().log()
    weights, size, log_normalizer = importance_weights(payoff, log_q, tau=0.5)
    first, second = math.e / 0.25, math.e**2 / 0.75
    assert weights[0].tolist() == pytest.approx([first / (first + second), second / (first + second)])
    assert size.item() == pytest.approx((first + second) ** 2 / (first**2 + second**2))
    assert log_normalizer.item() == pytest.approx(math.log((first + second) / 2))
