"""`sample_tokens`: exact tokens, the distribution, what is never drawn, and what a draw depends on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from losses.harness import DTYPES, LAYOUTS, lay_out, statistic_dtype
from softbellman import reference, sample_tokens
from softbellman.reference.sampling import gumbel_noise


def logits_of(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assert_same_tokens(logits: Tensor, tokens: Tensor, expected: Tensor, **options: int) -> None:
    """Equal tokens; where not, two scores that lie within the rounding of the noise's logarithms."""
    differ = (tokens != expected).flatten().nonzero().flatten()
    assert len(differ) <= 1 + tokens.numel() // 1000
    rows = logits.reshape(-1, logits.shape[-1]).float()
    noise = gumbel_noise(*rows.shape, **options)
    for row in differ.tolist():
        drawn, other = int(tokens.flatten()[row]), int(expected.flatten()[row])
        assert abs(float((rows + noise)[row, drawn] - (rows + noise)[row, other])) < 1e-5


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "shape", ((1,), (5, 2), (3, 7), (2, 3, 33), (4, 257), (2, 1000), (3, 8191), (0, 9)), ids=str
)
def test_against_the_reference(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    logits, options = logits_of(shape).to(dtype), {"seed": 12345678901234, "offset": 2**33 + 5}
    sample = sample_tokens(logits, **options)
    expected = reference.sample_tokens(logits, **options)
    assert_same_tokens(logits, sample.tokens, expected.tokens, **options)
    assert sample.log_prob.dtype == sample.entropy.dtype == statistic_dtype(dtype)
    same = sample.tokens == expected.tokens
    tolerance = {"rtol": 0, "atol": 1e-12 if dtype == torch.float64 else 2e-5}
    torch.testing.assert_close(sample.log_prob[same], expected.log_prob[same], **tolerance)
    torch.testing.assert_close(sample.entropy, expected.entropy, **tolerance)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides(layout: str) -> None:
    logits = lay_out(logits_of((3, 4, 37)).float(), layout)
    for strided, dense in zip(
        sample_tokens(logits, seed=4), sample_tokens(logits.contiguous(), seed=4), strict=True
    ):
        assert torch.equal(strided, dense)


@pytest.mark.parametrize("temperature", (0.25, 3.0))
def test_temperature_and_forbidden_tokens(temperature: float) -> None:
    logits = logits_of((200, 33))
    forbidden = torch.arange(33) % 3 == 0
    sample = sample_tokens(logits, seed=1, temperature=temperature, forbidden=forbidden)
    expected = reference.sample_tokens(logits, seed=1, temperature=temperature, forbidden=forbidden)
    assert not forbidden[sample.tokens].any()
    assert (sample.tokens == expected.tokens).all()
    torch.testing.assert_close(sample.log_prob, expected.log_prob)
    torch.testing.assert_close(sample.entropy, expected.entropy)


def chi_square(counts: Tensor, probabilities: Tensor) -> float:
    expected = counts.sum() * probabilities
    return float(((counts - expected).square() / expected).sum())


def test_the_distribution_passes_a_chi_square_test_and_a_wrong_one_fails() -> None:
    """40,000 draws, fixed seed; the bound is the 1 - 1e-6 quantile of chi-square, 9 degrees of freedom."""
    logits = logits_of((10,), seed=7) / 2
    counts = torch.bincount(sample_tokens(logits.expand(40_000, 10), seed=11).tokens, minlength=10).double()
    bound = 45.08
    assert chi_square(counts, torch.softmax(logits, 0)) < bound
    assert chi_square(counts, torch.softmax(1.1 * logits, 0)) > bound


def test_offsets_give_independent_draws() -> None:
    """Pairs of draws at two offsets fill 4 x 4 cells evenly: chi-square, 15 degrees of freedom, 1 - 1e-6."""
    logits = torch.zeros(20_000, 4)
    first, second = (sample_tokens(logits, seed=3, offset=offset).tokens for offset in (0, 1))
    assert (
        chi_square(torch.bincount(4 * first + second, minlength=16).double(), torch.full((16,), 1 / 16))
        < 56.5
    )


def test_a_row_does_not_depend_on_the_other_rows() -> None:
    logits = logits_of((64, 50)).float()
    tokens = sample_tokens(logits, seed=5).tokens
    changed = logits.clone()
    changed[::2] = logits_of((32, 50), seed=9).float()
    assert torch.equal(sample_tokens(changed, seed=5).tokens[1::2], tokens[1::2])
    assert torch.equal(sample_tokens(logits[:7], seed=5).tokens, tokens[:7])


def test_a_row_draws_by_its_number() -> None:
    logits, options = logits_of((40, 50)).float(), {"seed": 5, "offset": 3}
    whole = sample_tokens(logits, **options)
    chosen = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:17]
    for rows in (chosen, chosen + 2**32):  # modulo 2**32
        some = sample_tokens(logits[chosen], row_numbers=rows, **options)
        assert torch.equal(some.tokens, whole.tokens[chosen])
    numbers = torch.tensor([[7, 7, 2**31], [2**32 - 1, 0, 12]])
    rows = logits_of((2, 3, 60))
    expected = reference.sample_tokens(rows, row_numbers=numbers, **options)
    assert torch.equal(sample_tokens(rows, row_numbers=numbers, **options).tokens, expected.tokens)
    scattered = torch.stack([numbers, numbers], -1)[..., 0]  # not contiguous
    assert torch.equal(sample_tokens(rows, row_numbers=scattered, **options).tokens, expected.tokens)
    alike = sample_tokens(torch.zeros(9, 50), row_numbers=torch.full((9,), 4), **options)
    assert len(alike.tokens.unique()) == 1


def test_seed_and_offset_may_lie_in_memory() -> None:
    logits, mask = logits_of((20, 30)), torch.arange(20) % 3 != 0
    seed, offset = torch.tensor(0), torch.tensor([0])
    for numbers in ((0, 0), (2**62 + 1, 7), (3, 2**40 + 9)):
        seed.fill_(numbers[0])
        offset.fill_(numbers[1])
        expected = sample_tokens(logits, seed=numbers[0], offset=numbers[1], mask=mask)
        for one, other in (
            (seed, offset),
            (numbers[0], offset),
            (seed, numbers[1]),
        ):
            drawn = sample_tokens(logits, seed=one, offset=other, mask=mask)
            assert all(map(torch.equal, drawn, expected))
        referred = reference.sample_tokens(logits, seed=seed, offset=offset, mask=mask)
        assert torch.equal(referred.tokens, expected.tokens)


def test_seed_and_offset_change_the_draw() -> None:
    logits = torch.zeros(50, 100)
    draws = {
        tuple(sample_tokens(logits, seed=s, offset=o).tokens.tolist())
        for s in (0, 1, 2**32)
        for o in (0, 1, 2**32)
    }
    assert len(draws) == 9
    assert torch.equal(sample_tokens(logits, seed=1).tokens, sample_tokens(logits, seed=1).tokens)


def test_masked_and_impossible_rows() -> None:
    logits = torch.zeros(4, 70)
    logits[0] = math.nan  # masked
    logits[1] = -math.inf
    logits[2, :69] = -math.inf
    logits[3, 5] = -math.inf
    mask = torch.tensor([False, True, True, True])
    forbidden = torch.arange(70) == 6
    tokens, log_prob, entropy = sample_tokens(logits, seed=2, mask=mask, forbidden=forbidden)
    assert tokens[:3].tolist() == [0, -1, 69]
    assert log_prob[:3].tolist() == [0.0, -math.inf, 0.0]
    assert entropy[:3].tolist() == [0.0, 0.0, 0.0]
    assert log_prob[3].item() == pytest.approx(-math.log(68), rel=1e-6)
    everything = torch.ones(70, dtype=torch.bool)
    assert sample_tokens(logits, seed=2, mask=mask, forbidden=everything).tokens.tolist() == [0, -1, -1, -1]


def test_nothing_carries_a_graph() -> None:
    sample = sample_tokens(torch.zeros(2, 3, requires_grad=True), seed=0)
    assert not sample.log_prob.requires_grad and not sample.entropy.requires_grad


def test_errors_name_the_argument() -> None:
    logits = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"seed must be between 0 and"):
        sample_tokens(logits, seed=-1)
    with pytest.raises(ValueError, match="offset must be between 0 and"):
        sample_tokens(logits, seed=0, offset=2**63)
    with pytest.raises(TypeError, match=r"seed must be an int, got float"):
        sample_tokens(logits, seed=1.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"offset must be an int or hold an int64 number, got torch.int32"):
        sample_tokens(logits, seed=0, offset=torch.tensor(1, dtype=torch.int32))
    with pytest.raises(ValueError, match=r"seed must be an int or one number, got shape \(2,\)"):
        sample_tokens(logits, seed=torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"seed must be on the device of logits, cpu, got meta"):
        sample_tokens(logits, seed=torch.tensor(1, device="meta"))
    with pytest.raises(TypeError, match=r"row_numbers must hold int64"):
        sample_tokens(logits, seed=0, row_numbers=torch.tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"row_numbers must have shape \(2,\)"):
        sample_tokens(logits, seed=0, row_numbers=torch.tensor([1]))
    with pytest.raises(ValueError, match="temperature must be between 1e-30 and 1e30, got 0"):
        sample_tokens(logits, seed=0, temperature=0.0)
    with pytest.raises(ValueError, match=r"forbidden must have shape \(3,\), got \(2, 3\)"):
        sample_tokens(logits, seed=0, forbidden=torch.zeros(2, 3, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"forbidden must be a bool tensor, got torch.float32"):
        sample_tokens(logits, seed=0, forbidden=torch.zeros(3))
