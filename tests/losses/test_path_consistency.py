"""Path consistency: against the reference, and 0 at the optimum of enumerated problems along every path."""

from __future__ import annotations

import pytest
import torch
from reference.tiny_mdp import EOS, build, random_payoff
from torch import Tensor

import softbellman
from softbellman import Head, reference

MDP = build(3, 4, random_payoff(3))
STATES, TOKENS, MASK = MDP.sequences()  # [N, T]
POSSIBLE = (MDP.successors >= 0) | (torch.arange(3) == EOS)


def optimum(tau: float, prior: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Soft-optimal action values [S, V], from the longest prefixes to the empty one, and state values [S]."""
    base = torch.zeros_like(MDP.rewards) if prior is None else tau * torch.log_softmax(prior, -1)
    values = torch.zeros(len(MDP.states), dtype=torch.float64)
    for _ in range(MDP.horizon):
        q = (MDP.rewards + MDP.future(values)).masked_fill(~POSSIBLE, -torch.inf)
        values = tau * torch.logsumexp((q + base) / tau, -1)
    return q, values


@pytest.mark.parametrize("steps", [0, 1, 2, 7])
@pytest.mark.parametrize("tau", [0.1, 1.3])
def test_every_path_is_consistent_at_the_optimum(tau: float, steps: int) -> None:
    q, values = optimum(tau)
    logits, rewards = (q / tau)[STATES], MDP.rewards[STATES, TOKENS]
    found = softbellman.path_consistency(
        logits, None, values[STATES], TOKENS, rewards, MASK, tau=tau, steps=steps
    )
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-12)
    other = softbellman.path_consistency(
        1.1 * logits, None, values[STATES], TOKENS, rewards, MASK, tau=tau, steps=steps
    )
    assert other[MASK].abs().max() > 1e-3


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_with_a_prior_the_optimum_is_the_tilted_one(steps: int) -> None:
    tau = 0.7
    prior = torch.randn(POSSIBLE.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    prior = prior.masked_fill(~POSSIBLE, -torch.inf)
    q, values = optimum(tau, prior)
    policy = q / tau + torch.log_softmax(prior, -1)
    found = softbellman.path_consistency(
        policy[STATES],
        prior[STATES],
        values[STATES],
        TOKENS,
        MDP.rewards[STATES, TOKENS],
        MASK,
        tau=tau,
        steps=steps,
    )
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-12)


def inputs(dtype: torch.dtype) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    numbers = {
        name: torch.randn(4, 6, generator=draw, dtype=torch.float64).to(dtype)
        for name in ("values", "rewards")
    }
    rows = {
        name: torch.randn(4, 6, 9, generator=draw, dtype=torch.float64).to(dtype)
        for name in ("policy", "reference")
    }
    mask = torch.arange(6) < torch.tensor([[6], [1], [0], [4]])
    return {**rows, **numbers, "actions": torch.randint(9, (4, 6), generator=draw), "mask": mask}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("steps", [0, 1, 2, 5, 50])
def test_residuals_are_those_of_the_reference(steps: int, dtype: torch.dtype) -> None:
    given = inputs(dtype)
    found = softbellman.path_consistency(**given, tau=0.3, steps=steps)
    wide = {name: one.double() if one.is_floating_point() else one for name, one in given.items()}
    expected = reference.path_consistency(**wide, tau=0.3, steps=steps)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=10 * tolerance)
    assert found.dtype == dtype


def test_gradients_and_heads() -> None:
    given = inputs(torch.float64)
    leaves = given["policy"].requires_grad_(), given["values"].requires_grad_()

    def call(policy: Tensor, values: Tensor) -> Tensor:
        return softbellman.path_consistency(**{**given, "policy": policy, "values": values}, tau=0.3, steps=2)

    assert torch.autograd.gradcheck(call, leaves)
    hidden, weight = torch.randn(4, 6, 5, dtype=torch.float64), torch.randn(9, 5, dtype=torch.float64)
    torch.testing.assert_close(
        call(Head(hidden, weight, chunk_rows=4), given["values"]),
        call(hidden @ weight.T, given["values"]),  # type: ignore[arg-type]
    )


def test_padding_is_not_read() -> None:
    given = inputs(torch.float64)
    mask = given["mask"]
    wanted = softbellman.path_consistency(**given, tau=0.3, steps=2)
    spoilt = {
        name: torch.where(mask if one.dim() == 2 else mask[..., None], one, torch.nan)
        for name, one in given.items()
        if one.is_floating_point()
    }
    leaf = spoilt["policy"].requires_grad_()
    found = softbellman.path_consistency(**{**given, **spoilt, "policy": leaf}, tau=0.3, steps=2)
    assert torch.equal(found, wanted) and not found[~mask].any()
    found.sum().backward()
    assert leaf.grad is not None and leaf.grad[mask].isfinite().all() and not leaf.grad[~mask].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau": 0.0}, "tau must be between 1e-30 and 1e30, got 0.0"),
        ({"steps": -1}, "steps must be"),
        ({"values": torch.zeros(4, 5)}, r"values must have shape \(4, 6\)"),
        ({"policy": torch.zeros(6, 9)}, r"policy must be \[N, T, V\], got shape \(6, 9\)"),
    ],
)
def test_errors_name_the_argument(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        softbellman.path_consistency(**{**inputs(torch.float32), "tau": 0.3, **change})  # type: ignore[arg-type]
