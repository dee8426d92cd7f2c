"""`soft_value` on examples worked by hand, its limits and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch

from softbellman import soft_value


def test_two_equal_actions_are_worth_tau_log_two() -> None:
    q = torch.full((3, 2), 1.5, dtype=torch.float64)
    expected = torch.full((3,), 1.5 + 0.4 * math.log(2), dtype=torch.float64)
    torch.testing.assert_close(soft_value(q, tau=0.4), expected, rtol=1e-15, atol=0)


def test_gradient_is_the_softmax() -> None:
    q = torch.tensor([math.log(1.0), math.log(3.0)], dtype=torch.float64, requires_grad=True)
    soft_value(q, tau=1.0).backward()
    assert q.grad is not None
    torch.testing.assert_close(q.grad, torch.tensor([0.25, 0.75], dtype=torch.float64))


def test_a_uniform_prior_averages() -> None:
    q = torch.tensor([math.log(1.0), math.log(3.0)], dtype=torch.float64)
    prior = torch.full((2,), 5.0, dtype=torch.float64)
    assert soft_value(q, tau=1.0, prior=prior).item() == pytest.approx(math.log(2.0), rel=1e-15)


def test_a_prior_of_minus_infinity_forbids_and_a_prior_per_row_is_read_per_row() -> None:
    q = torch.tensor([[1.0, 7.0], [1.0, 7.0], [1.0, 7.0]])
    prior = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]).log()
    assert soft_value(q, tau=0.5, prior=prior).tolist() == [1.0, 7.0, -math.inf]


def test_a_prior_of_one_vector_is_that_of_every_row() -> None:
    q, prior = torch.randn(4, 5, 9), torch.randn(9)
    assert torch.equal(
        soft_value(q, tau=0.5, prior=prior.expand(4, 5, 9)), soft_value(q, tau=0.5, prior=prior)
    )


def test_a_low_temperature_approaches_the_maximum() -> None:
    q = torch.tensor([[-3.0, 2.0, 1.0]], dtype=torch.float64)
    assert soft_value(q, tau=1e-3).item() == pytest.approx(2.0, abs=1e-12)


def test_one_token_is_worth_its_q() -> None:
    q = torch.randn(5, 1)
    torch.testing.assert_close(soft_value(q, tau=0.3), q.squeeze(-1), rtol=0, atol=0)


def test_an_impossible_row_is_worth_minus_infinity_without_a_gradient() -> None:
    q = torch.full((1, 130), -math.inf, requires_grad=True)
    value = soft_value(q, tau=0.3)
    value.backward(torch.ones(1))
    assert value.item() == -math.inf
    assert q.grad is not None and not q.grad.any()


def test_nan_in_a_real_row_is_not_hidden() -> None:
    q = torch.zeros(2, 70)
    q[0, 66] = math.nan
    assert soft_value(q, tau=1.0).isnan().tolist() == [True, False]


def test_errors_name_the_argument() -> None:
    q = torch.zeros(2, 3)
    with pytest.raises(TypeError, match=r"q must be float32, float64, bfloat16 or float16, got torch.int64"):
        soft_value(q.long(), tau=1.0)
    with pytest.raises(TypeError, match="q must be a tensor, got list"):
        soft_value([1.0], tau=1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"q must have at least one dimension, got shape \(\)"):
        soft_value(torch.tensor(1.0), tau=1.0)
    with pytest.raises(ValueError, match=r"q must have a last dimension of at least 1, got shape \(2, 0\)"):
        soft_value(torch.zeros(2, 0), tau=1.0)
    with pytest.raises(ValueError, match="q must be on the CPU or a CUDA device, got meta"):
        soft_value(torch.zeros(2, 3, device="meta"), tau=1.0)
    for tau in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="tau must be between 1e-30 and 1e30"):
            soft_value(q, tau=tau)
    with pytest.raises(TypeError, match="tau must be a Python number, got Tensor"):
        soft_value(q, tau=torch.tensor(1.0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"mask must have shape \(2,\).* got \(3,\)"):
        soft_value(q, tau=1.0, mask=torch.ones(3, dtype=torch.bool))
    with pytest.raises(
        TypeError, match=r"mask must be a bool tensor or .* \(True = real token\), got torch.float32"
    ):
        soft_value(q, tau=1.0, mask=torch.ones(2))
    with pytest.raises(ValueError, match=r"mask must be bool or hold integers 0 and 1, got 2"):
        soft_value(q, tau=1.0, mask=torch.full((2,), 2))
    with pytest.raises(ValueError, match=r"prior must have shape \(3,\) or \(2, 3\), got \(2,\)"):
        soft_value(q, tau=1.0, prior=torch.ones(2))
    with pytest.raises(
        TypeError, match=r"prior must be float32, float64, bfloat16 or float16, got torch.int64"
    ):
        soft_value(q, tau=1.0, prior=torch.ones(3, dtype=torch.int64))
