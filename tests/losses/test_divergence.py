"""The kernels of `divergence` against the float64 reference, and what the sums promise: no negative and no lost digit."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from losses.harness import DTYPES, INFINITY, LAYOUTS, SHAPES, assert_close, lay_out, statistic_dtype
from losses.test_against_reference import edge_rows
from softbellman import divergence, reference
from softbellman.losses.divergence import KINDS
from softbellman.reference.rows import log_softmax

every_kind = pytest.mark.parametrize("kind", KINDS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
# Weights of other in the mixture on either side of a half.
BETAS = (0.1, 0.5, 0.93)


def arguments(
    *,
    kind: str = "forward_kl",
    beta: float = 0.5,
    temperature: float = 1.0,
    other_temperature: float | None = None,
    mask: Tensor | None = None,
) -> dict[str, Any]:
    """The options of the operator, all of them."""
    if other_temperature is None:
        other_temperature = temperature
    return {
        "kind": kind,
        "beta": beta,
        "temperature": temperature,
        "other_temperature": other_temperature,
        "mask": mask,
    }


def random_rows(
    shape: tuple[int, ...], dtype: torch.dtype, *, scale: float = 2.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = (scale * torch.randn(2, *shape, generator=generator, dtype=torch.float64)).to(dtype)
    return values[0], values[1]


def compare(logits: Tensor, other: Tensor, **options: Any) -> None:
    """Assert that divergence and both gradients equal the reference within the error model of harness.py."""
    mask = options.get("mask")
    upstream = torch.randn(logits.shape[:-1], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    upstream = upstream.to(statistic_dtype(logits.dtype))
    leaves = [rows.detach().requires_grad_() for rows in (logits, other)]
    wide = [rows.detach().double().requires_grad_() for rows in (logits, other)]
    result, expected = divergence(*leaves, **options), reference.divergence(*wide, **options)
    gradients = torch.autograd.grad(result, leaves, upstream)
    expected_gradients = torch.autograd.grad(expected, wide, upstream.double())
    of_result, of_gradients = magnitude(*(rows.detach() for rows in wide), upstream.double(), options)
    assert result.dtype == statistic_dtype(logits.dtype)
    assert (result >= 0).all()
    if mask is not None:
        assert not result[~mask].any()
    assert_close("divergence", result, expected, of_result, logits)
    for name, actual, wanted, size in zip(
        ("logits", "other"), gradients, expected_gradients, of_gradients, strict=True
    ):
        assert actual.dtype == logits.dtype
        assert_close(f"grad {name}", actual, wanted, size, logits)


def magnitude(
    logits: Tensor, other: Tensor, upstream: Tensor, options: dict[str, Any]
) -> tuple[Tensor, list[Tensor]]:
    """How large the roundings of a result may be: weights times logarithms, times one plus the size of the exponents."""
    options = arguments(**options)
    if options["mask"] is not None:
        masked = ~options["mask"].unsqueeze(-1)
        logits, other = logits.masked_fill(masked, 0.0), other.masked_fill(masked, 0.0)
    scaled = logits / options["temperature"], other / options["other_temperature"]
    (policy, log_policy), (target, log_target) = log_softmax(scaled[0]), log_softmax(scaled[1])
    largest = [rows.masked_fill(rows.isinf(), 0.0).abs().amax(-1, keepdim=True) for rows in scaled]
    amplified = 2 + largest[0] + largest[1]
    ratio = log_policy.abs() + log_target.abs() + 1
    if options["kind"] == "jsd":  # never more than the logarithm of a weight
        ratio = ratio.clamp(max=1 - math.log(min(options["beta"], 1 - options["beta"])))
    terms = (policy + target) * ratio * amplified
    rows = terms.sum(-1, keepdim=True)
    slopes = [(policy + target) * (ratio + rows) * amplified * upstream.abs().unsqueeze(-1) for _ in range(2)]
    temperatures = options["temperature"], options["other_temperature"]
    return rows.squeeze(-1), [slope / t for slope, t in zip(slopes, temperatures, strict=True)]


@every_kind
@every_dtype
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes_and_types(kind: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    for beta in BETAS if kind == "jsd" else (0.5,):
        compare(*random_rows(shape, dtype), kind=kind, beta=beta, temperature=0.7, other_temperature=1.6)


@every_kind
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", ((2, 3, 33), (3, 4, 130), (2, 5, 1)), ids=str)
def test_strides(kind: str, dtype: torch.dtype, layout: str, shape: tuple[int, ...]) -> None:
    logits, other = random_rows(shape, dtype)
    compare(lay_out(logits, layout), other, kind=kind)
    compare(logits, lay_out(other, layout), kind=kind)


@every_kind
@every_dtype
def test_masked_rows_are_not_read(kind: str, dtype: torch.dtype) -> None:
    mask = torch.tensor([[True, False, True, True], [True, True, False, False]])
    logits, other = random_rows((2, 4, 70), dtype)
    compare(logits, other, kind=kind, mask=mask)
    poisoned = [rows.clone() for rows in (logits, other)]
    for rows in poisoned:
        rows[~mask] = math.nan
    gradients = []
    for pair in ((logits, other), poisoned):
        leaves = [rows.clone().requires_grad_() for rows in pair]
        divergence(*leaves, kind=kind, mask=mask).sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for clean, after_nan in zip(*gradients, strict=True):
        assert clean is not None and after_nan is not None
        assert torch.equal(clean, after_nan)
        assert not after_nan[~mask].any()


@every_kind
@every_dtype
def test_rows_with_negative_infinity(kind: str, dtype: torch.dtype) -> None:
    """Every pattern beside every other: tokens that both, one or none of the two rule out, and no token at all."""
    edges = edge_rows()
    pairs = list(itertools.product(range(len(edges)), repeat=2))
    logits, other = random_rows((len(pairs), edges.shape[-1]), dtype)
    logits = (logits.double() + edges[[first for first, _ in pairs]]).to(dtype)
    other = (other.double() + edges[[second for _, second in pairs]]).to(dtype)
    compare(logits, other, kind=kind, beta=0.3)
    if kind != "jsd":
        assert divergence(logits, other, kind=kind).isinf().any()


@pytest.mark.parametrize("dtype", (torch.float64, torch.float32), ids=str)
@every_kind
def test_infinite_rows_have_no_gradient(kind: str, dtype: torch.dtype) -> None:
    possible, impossible = torch.zeros(1, 70, dtype=dtype), torch.zeros(1, 70, dtype=dtype)
    impossible[0, 66] = -INFINITY
    logits, other = (impossible, possible) if kind == "forward_kl" else (possible, impossible)
    leaves = [rows.clone().requires_grad_() for rows in (logits, other)]
    result = divergence(*leaves, kind=kind)
    result.sum().backward()
    assert result.isinf().all() == (kind != "jsd")
    for leaf in leaves:
        assert leaf.grad is not None and leaf.grad.isfinite().all()
        assert leaf.grad.any() == (kind == "jsd")


@every_kind
def test_nan_in_a_real_row_is_not_hidden(kind: str) -> None:
    for broken in range(2):
        rows = [torch.zeros(2, 70), torch.zeros(2, 70)]
        rows[broken][0, 66] = math.nan
        assert divergence(*rows, kind=kind).isnan().tolist() == [True, False]


@every_kind
@pytest.mark.parametrize("dtype", (torch.float64, torch.float32), ids=str)
@pytest.mark.parametrize("shift", (0.0, 1e4), ids=("around zero", "around 1e4"))
def test_huge_values_at_a_low_temperature(kind: str, dtype: torch.dtype, shift: float) -> None:
    logits, other = random_rows((12, 300), dtype, scale=3e3)
    compare(logits + shift, other + shift, kind=kind, temperature=0.01, other_temperature=0.02)


@pytest.mark.parametrize("scale", (3e9, 3e12))
@every_kind
def test_normalisers_beyond_the_precision_of_float32(kind: str, scale: float) -> None:
    """There a rounded normaliser says nothing about the weights: the backward pass sums the row again."""
    logits, other = random_rows((5, 4100), torch.float32, scale=1.0)
    top = scale + logits.double().floor() * scale * 2.0**-20
    compare(top.float(), (top + other.double().floor() * scale * 2.0**-20).float(), kind=kind)


@every_kind
@pytest.mark.parametrize("beta", (1e-6, *BETAS, 1 - 1e-6))
@pytest.mark.parametrize("temperature", (1.0, 0.37))
def test_a_tiny_divergence_is_right_within_one_percent(kind: str, beta: float, temperature: float) -> None:
    """About 1e-9 beside logits of scale 100: the sum of `o log(o / p)` would have no digit of it in float32."""
    generator = torch.Generator().manual_seed(2)
    logits = 100 + torch.randn(16, 5000, generator=generator)
    logits[:, :64] += 6.0
    other = logits + 4.5e-5 * temperature * torch.randn(16, 5000, generator=generator)
    options: dict[str, Any] = {"kind": kind, "beta": beta, "temperature": temperature}
    if kind == "jsd" and not 0.01 < beta < 0.99:
        # about 1e-9 through the weight
        other = logits + 0.05 * temperature * torch.randn(16, 5000, generator=generator)
    leaves = [rows.clone().requires_grad_() for rows in (logits, other)]
    wide = [rows.double().requires_grad_() for rows in (logits, other)]
    result, expected = divergence(*leaves, **options), reference.divergence(*wide, **options)
    assert (expected > 0).all() and (expected < 5e-9).all()
    torch.testing.assert_close(result.double(), expected, rtol=0.01, atol=0)
    gradients = torch.autograd.grad(result.sum(), leaves)
    for actual, wanted in zip(gradients, torch.autograd.grad(expected.sum(), wide), strict=True):
        assert (actual.double() - wanted).norm() < 0.02 * wanted.norm()


@every_kind
@every_dtype
def test_equal_rows_have_no_divergence(kind: str, dtype: torch.dtype) -> None:
    logits, _ = random_rows((7, 3000), dtype, scale=5.0)
    leaves = [logits.clone().requires_grad_() for _ in range(2)]
    result = divergence(*leaves, kind=kind, beta=0.3, temperature=0.3)
    assert not result.any()
    result.sum().backward()
    for leaf in leaves:
        assert leaf.grad is not None and not leaf.grad.any()


@every_kind
def test_a_constant_added_to_the_logits_changes_little(kind: str) -> None:
    logits, other = random_rows((8, 500), torch.float64)
    expected = divergence(logits, other, kind=kind)
    torch.testing.assert_close(divergence(logits + 8, other - 4, kind=kind), expected, rtol=1e-12, atol=1e-15)


def test_kinds_by_hand() -> None:
    policy, target = (
        torch.tensor([0.25, 0.75], dtype=torch.float64),
        torch.tensor([0.5, 0.5], dtype=torch.float64),
    )
    rows = policy.log(), target.log()
    forward = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    reverse = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert divergence(*rows).item() == pytest.approx(forward, rel=1e-14)
    assert divergence(*rows, kind="reverse_kl").item() == pytest.approx(reverse, rel=1e-14)
    assert divergence(*rows[::-1], kind="reverse_kl").item() == pytest.approx(forward, rel=1e-14)
    mixture = 0.2 * target + 0.8 * policy
    jsd = 0.2 * (target * (target / mixture).log()).sum() + 0.8 * (policy * (policy / mixture).log()).sum()
    assert divergence(*rows, kind="jsd", beta=0.2).item() == pytest.approx(jsd.item(), rel=1e-13)
    assert divergence(*rows[::-1], kind="jsd", beta=0.8).item() == pytest.approx(jsd.item(), rel=1e-13)


@every_kind
@pytest.mark.parametrize("beta", BETAS)
def test_gradcheck(kind: str, beta: float) -> None:
    logits, other = (rows.requires_grad_() for rows in random_rows((2, 3, 9), torch.float64, scale=1.0))
    mask = torch.tensor([[True, True, False], [True, False, True]])

    def function(first: Tensor, second: Tensor) -> Tensor:
        return divergence(
            first, second, kind=kind, beta=beta, temperature=0.8, other_temperature=1.3, mask=mask
        )

    assert torch.autograd.gradcheck(function, (logits, other))


@every_kind
def test_a_gradient_is_computed_only_where_it_is_wanted(kind: str) -> None:
    rows = random_rows((4, 300), torch.float32)
    both = [one.clone().requires_grad_() for one in rows]
    expected = torch.autograd.grad(divergence(*both, kind=kind).sum(), both)
    for place in (0, 1):
        some = list(rows)
        some[place] = rows[place].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(divergence(*some, kind=kind).sum(), some[place])
        torch.testing.assert_close(gradient, expected[place])
