"""Rows around and beyond the words and pieces in which the CPU draws `corrupt` and `hamming`, against the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from softbellman import reference, sample_edits

NONE, LEADING, SCATTERED = (), (0, 1), (1, 4)


def check(tokens: torch.Tensor, lengths: torch.Tensor, **options: Any) -> torch.Tensor:
    arguments: dict[str, Any] = {"samples": 2, "vocabulary": 6, "offset": 2**33 + 1, "pad_id": -1, **options}
    ours = sample_edits(tokens, lengths, **arguments)
    expected = reference.sample_edits(tokens, lengths, **arguments)
    assert torch.equal(ours.tokens, expected.tokens)
    torch.testing.assert_close(ours.log_density, expected.log_density, rtol=1e-12, atol=1e-12)
    return (ours.tokens[0, -1] != tokens[0]).sum()


def batch(length: int) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.randint(0, 6, (2, length), generator=torch.Generator().manual_seed(length))
    return tokens, torch.tensor([length, length - length // 3])


@pytest.mark.parametrize("special_ids", [NONE, LEADING, SCATTERED], ids=["none", "leading", "scattered"])
@pytest.mark.parametrize("length", [15, 16, 17, 64, 65, 130])
def test_corrupt(length: int, special_ids: tuple[int, ...]) -> None:
    for rate in (0.004, 0.5, 1.0):
        options: dict[str, Any] = {"rate": rate, "special_ids": special_ids, "keep_gold": length == 65}
        changed = check(*batch(length), proposal="corrupt", seed=2**40 + length, **options)
        assert changed > 0 or rate < 0.5


@pytest.mark.parametrize(
    ("length", "special_ids"), [(1024, SCATTERED), (1025, NONE), (1025, LEADING), (2100, SCATTERED)]
)
def test_corrupt_in_pieces(length: int, special_ids: tuple[int, ...]) -> None:
    check(*batch(length), proposal="corrupt", seed=length, rate=0.3, special_ids=special_ids)


@pytest.mark.parametrize("special_ids", [NONE, LEADING, SCATTERED], ids=["none", "leading", "scattered"])
@pytest.mark.parametrize("length", [16, 63, 64, 65])
def test_hamming(length: int, special_ids: tuple[int, ...]) -> None:
    options: dict[str, Any] = {"temperature": 0.8, "special_ids": special_ids, "keep_gold": length == 65}
    assert check(*batch(length), proposal="hamming", seed=length, **options) > 0


@pytest.mark.parametrize(("length", "special_ids"), [(1025, LEADING), (1400, NONE)])
def test_hamming_in_pieces(length: int, special_ids: tuple[int, ...]) -> None:
    options: dict[str, Any] = {"temperature": 9.0, "special_ids": special_ids}
    assert check(*batch(length), proposal="hamming", seed=1, **options) > 1024 or length < 1400
