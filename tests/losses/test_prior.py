"""A prior of `soft_value`, `policy_value` and `actor_loss`, given as logits: against the float64 reference."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import softbellman
from losses.harness import DTYPES, INFINITY, LAYOUTS, SHAPES, assert_close, finite, lay_out, statistic_dtype
from losses.test_against_reference import edge_rows
from softbellman import reference
from softbellman.core.launch import launch, row_matrix, several_per_row
from softbellman.reference.rows import log_softmax

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def soft_value(q: Tensor, prior: Tensor | None, tau: float, mask: Tensor | None = None) -> Tensor:
    return softbellman.soft_value(q, tau=tau, prior=prior, mask=mask)


def policy_value(
    logits: Tensor, q: Tensor, prior: Tensor | None, tau: float, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    return softbellman.policy_value(logits, q, tau=tau, prior=prior, mask=mask)


def random_rows(
    shape: tuple[int, ...], dtype: torch.dtype, *, scale: float = 2.0, seed: int = 0
) -> list[Tensor]:
    """Logits, q and prior."""
    generator = torch.Generator().manual_seed(seed)
    return list((scale * torch.randn(3, *shape, generator=generator, dtype=torch.float64)).to(dtype).unbind())


def largest(rows: Tensor) -> Tensor:
    return finite(rows).abs().amax(-1, keepdim=True)


def upstream_of(rows: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows.shape[:-1], generator=generator, dtype=torch.float64).to(
        statistic_dtype(rows.dtype)
    )


def compare_soft_value(q: Tensor, prior: Tensor, tau: float, mask: Tensor | None = None) -> None:
    leaf, wide = q.detach().requires_grad_(), q.detach().double().requires_grad_()
    result, expected = (
        soft_value(leaf, prior, tau, mask),
        reference.soft_value(wide, tau=tau, prior=prior.double(), mask=mask),
    )
    upstream = upstream_of(q, 1)
    (gradient,) = torch.autograd.grad(result, leaf, upstream)
    (expected_gradient,) = torch.autograd.grad(expected, wide, upstream.double())
    q, prior = wide.detach(), prior.double()
    if mask is not None:
        q, prior = (rows.masked_fill(~mask.unsqueeze(-1), 0.0) for rows in (q, prior))
    size = largest(q) + tau * largest(prior)
    amplified = log_softmax(q / tau + prior)[0] * (2 + 2 * size / tau)
    assert_close("value", result, expected, size.squeeze(-1) + tau * (1 + math.log(q.shape[-1])), leaf)
    assert_close(
        "grad q", gradient, expected_gradient, upstream.double().abs().unsqueeze(-1) * amplified, leaf
    )


def compare_policy_value(
    logits: Tensor, q: Tensor, prior: Tensor, tau: float, mask: Tensor | None = None
) -> None:
    leaves = [rows.detach().requires_grad_() for rows in (logits, q)]
    wide = [rows.detach().double().requires_grad_() for rows in (logits, q)]
    results = policy_value(*leaves, prior, tau, mask)
    expected = reference.policy_value(*wide, tau=tau, prior=prior.double(), mask=mask)
    upstream = [upstream_of(q, 1), upstream_of(q, 2)]
    gradients = torch.autograd.grad(results, leaves, upstream)
    expected_gradients = torch.autograd.grad(expected, wide, [gradient.double() for gradient in upstream])
    x, y, weights = wide[0].detach(), wide[1].detach(), prior.double()
    if mask is not None:
        x, y, weights = (rows.masked_fill(~mask.unsqueeze(-1), 0.0) for rows in (x, y, weights))
    policy, log_policy = log_softmax(x)
    amplified = 2 + largest(x) + log_policy.abs()
    size = finite(y).abs() + tau * (finite(weights).abs() + largest(weights) + math.log(x.shape[-1]))
    entropy = (policy * (log_policy.abs() + 1) * amplified).sum(-1, keepdim=True)
    value = (policy * size * amplified).sum(-1, keepdim=True) + size.amax(-1, keepdim=True) + tau * entropy
    by_value, by_entropy = (gradient.double().abs().unsqueeze(-1) for gradient in upstream)
    slopes = by_value * (size + tau * log_policy.abs() + value) + by_entropy * (log_policy.abs() + entropy)
    assert_close("value", results[0], expected.value, value.squeeze(-1), leaves[0])
    assert_close("entropy", results[1], expected.entropy, entropy.squeeze(-1), leaves[0])
    assert_close("grad logits", gradients[0], expected_gradients[0], policy * amplified * slopes, leaves[0])
    assert_close("grad q", gradients[1], expected_gradients[1], by_value * policy * amplified, leaves[0])


def compare(logits: Tensor, q: Tensor, prior: Tensor, tau: float = 0.7, mask: Tensor | None = None) -> None:
    compare_soft_value(q, prior, tau, mask)
    compare_policy_value(logits, q, prior, tau, mask)


@every_dtype
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes_and_types(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    compare(*random_rows(shape, dtype))


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", ((2, 3, 33), (3, 4, 130), (2, 5, 1)), ids=str)
def test_strides_of_the_prior(dtype: torch.dtype, layout: str, shape: tuple[int, ...]) -> None:
    logits, q, prior = random_rows(shape, dtype)
    compare(logits, q, lay_out(prior, layout))


@every_dtype
def test_masked_rows_are_not_read(dtype: torch.dtype) -> None:
    mask = torch.tensor([[True, False, True, True], [True, True, False, False]])
    rows = random_rows((2, 4, 70), dtype)
    for values in rows:
        values[~mask] = math.nan
    wide = [values.masked_fill(~mask.unsqueeze(-1), 0.0) for values in rows]
    compare(*wide, mask=mask)
    for leaves in (rows, wide):
        leaves[0].requires_grad_()
        leaves[1].requires_grad_()
    results = [
        (soft_value(q, prior, 0.7, mask), *policy_value(logits, q, prior, 0.7, mask))
        for logits, q, prior in (rows, wide)
    ]
    for poisoned, clean in zip(*results, strict=True):
        assert torch.equal(poisoned, clean)
        assert not poisoned[~mask].any()
        poisoned.sum().backward(retain_graph=True)
        clean.sum().backward(retain_graph=True)
    for poisoned, clean in zip(rows[:2], wide[:2], strict=True):
        assert poisoned.grad is not None and clean.grad is not None
        assert torch.equal(poisoned.grad, clean.grad)


@every_dtype
def test_rows_with_negative_infinity(dtype: torch.dtype) -> None:
    """The prior, or the prior with the others, rules out the first tokens, the last, all but one, all, every other, none."""
    edges = edge_rows()
    logits, q, prior = (rows.double() for rows in random_rows(tuple(edges.shape), dtype))
    compare_soft_value(q.to(dtype), (prior + edges).to(dtype), 0.7)
    compare_soft_value((q + edges.flip(0)).to(dtype), (prior + edges).to(dtype), 0.7)
    ruled_out = (logits + edges).to(dtype), q.to(dtype)
    compare_policy_value(*ruled_out, (prior + edges).to(dtype), 0.7)
    compare_policy_value((logits + edges).to(dtype), (q + edges).to(dtype), prior.to(dtype), 0.7)


@every_dtype
def test_a_prior_that_rules_out_what_the_policy_does(dtype: torch.dtype) -> None:
    logits, q, prior = random_rows((3, 150), dtype)
    prior[0, 7] = -INFINITY  # possible for the policy: worth -inf
    prior[1] = -INFINITY  # no prior at all
    logits.requires_grad_()
    q.requires_grad_()
    value, entropy = policy_value(logits, q, prior, 0.5)
    assert value.isinf().tolist() == [True, True, False]
    assert (value[:2] < 0).all()
    assert entropy.isfinite().all()
    assert soft_value(q, prior, 0.5).isinf().tolist() == [False, True, False]
    (value.sum() + soft_value(q, prior, 0.5).sum()).backward()
    for leaf in (logits, q):
        assert leaf.grad is not None and leaf.grad.isfinite().all()
    assert logits.grad is not None and not logits.grad[:2].any()


def test_a_row_without_a_prior_has_no_gradient() -> None:
    q, prior = torch.zeros(2, 70, requires_grad=True), torch.full((2, 70), -INFINITY)
    value = soft_value(q, prior, 0.5)
    assert (value == -INFINITY).all()
    value.backward(torch.ones(2))
    assert q.grad is not None and not q.grad.any()


@pytest.mark.parametrize("dtype", (torch.float64, torch.float32), ids=str)
@pytest.mark.parametrize("shift", (0.0, 1e4), ids=("around zero", "around 1e4"))
def test_huge_values_at_a_low_temperature(dtype: torch.dtype, shift: float) -> None:
    logits, q, prior = (3e3 * rows + shift for rows in random_rows((12, 300), dtype))
    compare(logits, q, prior, tau=0.01)
    compare(logits, q, prior, tau=3.0)


def test_normalisers_beyond_the_precision_of_float32() -> None:
    """There a rounded normaliser says nothing about the weights: the backward pass sums the row again."""
    _, q, prior = random_rows((5, 4100), torch.float32, scale=1.0)
    compare_soft_value(1e3 + q, prior, 1e-7)


def test_a_uniform_prior_changes_nothing_but_a_constant() -> None:
    logits, q, _ = random_rows((4, 300), torch.float64)
    prior = torch.full_like(q, 0.3)
    shift = 0.7 * math.log(300)
    torch.testing.assert_close(soft_value(q, prior, 0.7), soft_value(q, None, 0.7) - shift)
    torch.testing.assert_close(
        policy_value(logits, q, prior, 0.7)[0], policy_value(logits, q, None, 0.7)[0] - shift
    )


def test_by_hand() -> None:
    q = torch.tensor([math.log(1.0), math.log(3.0)], dtype=torch.float64)
    prior = torch.tensor([math.log(3.0), 0.0], dtype=torch.float64)  # 3/4, 1/4
    assert soft_value(q, prior, 1.0).item() == pytest.approx(math.log(0.75 + 0.75), rel=1e-15)
    logits = torch.zeros(2, dtype=torch.float64)
    expected = 0.5 * (math.log(3.0) - 2 * math.log(0.5 / 0.75)) - math.log(0.5 / 0.25)
    assert policy_value(logits, q, prior, 2.0)[0].item() == pytest.approx(expected, rel=1e-14)
    assert policy_value(logits, q, prior, 0.0)[0].item() == pytest.approx(0.5 * math.log(3.0), rel=1e-15)


def test_the_soft_value_is_the_value_of_its_own_policy() -> None:
    """V = sum_w pi (q - tau log(pi / pi_0)) where pi is softmax(q / tau + prior), and no policy is worth more."""
    logits, q, prior = random_rows((6, 500), torch.float64)
    best = soft_value(q, prior, 0.3)
    torch.testing.assert_close(policy_value(q / 0.3 + prior, q, prior, 0.3)[0], best, rtol=1e-13, atol=1e-13)
    assert (policy_value(logits, q, prior, 0.3)[0] < best).all()


def test_gradcheck() -> None:
    logits, q, prior = random_rows((2, 3, 9), torch.float64, scale=1.0)
    logits.requires_grad_()
    q.requires_grad_()
    mask = torch.tensor([[True, True, False], [True, False, True]])
    assert torch.autograd.gradcheck(lambda q: soft_value(q, prior, 0.6, mask), (q,))
    assert torch.autograd.gradcheck(lambda logits, q: policy_value(logits, q, prior, 0.6, mask), (logits, q))


def test_a_prior_needs_the_exact_entropy_and_a_normalizer() -> None:
    logits, q, prior = random_rows((2, 9), torch.float32)
    results = several_per_row(q, 2)
    with pytest.raises(ValueError, match="normalizer must come with prior"):
        launch(
            "soft_value_forward",
            q,
            q=row_matrix(q),
            tau=1.0,
            prior=row_matrix(prior),
            value=results[0],
            correction=results[1],
        )
    with pytest.raises(ValueError, match=r"entropy_mode must be 0 \(exact\) with a prior"):
        launch(
            "policy_forward",
            q,
            logits=row_matrix(logits),
            q=row_matrix(q),
            prior=row_matrix(prior),
            tau=1.0,
            entropy_mode=1,
            value=results[0],
            entropy=results[1],
        )
