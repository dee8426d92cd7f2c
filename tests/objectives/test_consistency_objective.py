"""Path consistency as an objective: its gradient written out, and what it finds on problems that can be enumerated."""

from __future__ import annotations

import pytest
import torch
from reference.tiny_mdp import EOS, bleu_like_payoff, build, random_payoff
from torch import Tensor

from softbellman import path_consistency, reference
from softbellman.objectives import consistency_objective

PROBLEMS = {
    "random payoff": build(3, 4, random_payoff(5)),
    "BLEU-like payoff": build(4, 3, bleu_like_payoff((1, 2))),
}
every_problem = pytest.mark.parametrize("mdp", PROBLEMS.values(), ids=PROBLEMS.keys())


def numbers(seed: int = 0) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    found = {
        name: torch.randn(5, 6, generator=draw, dtype=torch.float64)
        for name in ("log_ratios", "values", "rewards")
    }
    return {**found, "mask": torch.arange(6) < torch.tensor([[6], [1], [0], [4], [3]])}


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 50])
def test_it_is_half_the_squared_residuals_of_the_operator(steps: int) -> None:
    given = numbers()
    logits = torch.randn(5, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    actions = torch.randint(7, (5, 6), generator=torch.Generator().manual_seed(2))
    given["log_ratios"] = logits.log_softmax(-1).gather(-1, actions[..., None]).squeeze(-1)
    found, diagnostics = consistency_objective(**given, sequences=5, tau=0.3, steps=steps)
    for module in (reference.path_consistency, path_consistency):
        residual = module(
            logits, None, given["values"], actions, given["rewards"], given["mask"], tau=0.3, steps=steps
        )
        torch.testing.assert_close(found, 0.5 * residual.square().sum() / 5)
    torch.testing.assert_close(diagnostics["path_error"], residual.abs().sum())
    assert int(diagnostics["paths"]) == 14


@pytest.mark.parametrize("steps", [0, 2])
def test_gradients_of_policy_and_values(steps: int) -> None:
    given = numbers(3)
    leaves = given["log_ratios"].requires_grad_(), given["values"].requires_grad_()

    def loss(log_ratios: Tensor, values: Tensor) -> Tensor:
        return consistency_objective(
            log_ratios, values, given["rewards"], given["mask"], sequences=2, tau=0.7, steps=steps
        ).loss

    assert torch.autograd.gradcheck(loss, leaves)
    both = torch.autograd.grad(loss(*leaves), leaves)
    (policy,) = torch.autograd.grad(loss(leaves[0], leaves[1].detach()), leaves[:1])
    (values,) = torch.autograd.grad(loss(leaves[0].detach(), leaves[1]), leaves[1:])
    assert torch.equal(both[0], policy) and torch.equal(both[1], values)
    assert not policy[~given["mask"]].any() and not values[~given["mask"]].any()


def test_padding_is_not_read() -> None:
    given = numbers()
    wanted = consistency_objective(**given, sequences=5, tau=0.3, steps=2).loss
    spoilt = {
        name: torch.where(given["mask"], one, torch.nan) for name, one in given.items() if name != "mask"
    }
    leaf = spoilt["log_ratios"].requires_grad_()
    found = consistency_objective(**spoilt, mask=given["mask"], sequences=5, tau=0.3, steps=2).loss
    found.backward()
    assert torch.equal(found, wanted)
    assert leaf.grad is not None and leaf.grad.isfinite().all()


@pytest.mark.parametrize("steps", [0, 2])
def test_paths_through_what_is_never_said_do_not_count(steps: int) -> None:
    given = numbers()
    impossible = torch.zeros(5, 6, dtype=torch.bool)
    impossible[0, 3] = impossible[1, 4] = True  # the second one is padding
    ratios = given["log_ratios"].masked_fill(impossible, -torch.inf).requires_grad_()
    found = consistency_objective(
        **{**given, "log_ratios": ratios}, sequences=5, tau=0.3, steps=steps, impossible=impossible
    )
    left_out = [0, 1, 2, 3] if steps == 0 else [2, 3]
    assert int(found.diagnostics["paths"]) == 14 - len(left_out)
    residual = consistency_residuals(given, steps)
    residual[0, left_out] = 0.0
    torch.testing.assert_close(found.loss, 0.5 * residual.square().sum() / 5)
    found.loss.backward()
    assert ratios.grad is not None and ratios.grad.isfinite().all()


def consistency_residuals(given: dict[str, Tensor], steps: int) -> Tensor:
    """Path by path."""
    found = torch.zeros(5, 6, dtype=torch.float64)
    for row in range(5):
        length = int(given["mask"][row].sum())
        for start in range(length):
            end = min(start + steps, length) if steps else length
            earned = given["rewards"][row, start:end] - 0.3 * given["log_ratios"][row, start:end]
            after = given["values"][row, end] if end < length else 0.0
            found[row, start] = earned.sum() + after - given["values"][row, start]
    return found


@every_problem
@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize("tau", [0.2, 1.0])
def test_the_optimum_has_no_residual_and_no_gradient(mdp, tau: float, steps: int) -> None:
    """Of separate values and of those of the logits, `V = tau logsumexp(Q / tau)`."""
    states, tokens, mask = mdp.sequences()
    q = mdp.optimal_q(tau)
    for factor, stationary in ((1.0, True), (1.1, False)):
        logits = (factor * q / tau).requires_grad_()
        table = (tau * torch.logsumexp(q / tau, -1)).requires_grad_()
        for values in (table, tau * torch.logsumexp(logits, -1)):
            ratios = logits.log_softmax(-1)[states, tokens]
            loss, diagnostics = consistency_objective(
                ratios, values[states], mdp.rewards[states, tokens], mask, sequences=len(mask), tau=tau, steps=steps,
            )  # fmt: skip
            gradient = torch.autograd.grad(loss, logits)[0][mdp.possible]
            assert (float(loss.detach()) < 1e-20) == stationary == (float(gradient.abs().max()) < 1e-10)
            assert (float(diagnostics["path_error"]) < 1e-9) == stationary


@every_problem
@pytest.mark.parametrize("unified", [True, False])
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_table_learns_the_soft_optimal_policy(mdp, unified: bool, steps: int) -> None:
    """From zero, on all sequences, by L-BFGS: the payoff distribution of Eq. (1)."""
    tau = 0.5
    states, tokens, mask = mdp.sequences()
    logits = torch.zeros_like(mdp.rewards, requires_grad=True)
    table = torch.zeros(len(mdp.states), dtype=torch.float64, requires_grad=True)
    leaves = [logits] if unified else [logits, table]
    optimizer = torch.optim.LBFGS(
        leaves, max_iter=3000, tolerance_grad=1e-12, tolerance_change=1e-18, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        policy = logits.masked_fill(~mdp.possible, -torch.inf)
        values = tau * torch.logsumexp(policy, -1) if unified else table
        ratios = policy.log_softmax(-1)[states, tokens]
        total = consistency_objective(
            ratios, values[states], mdp.rewards[states, tokens], mask, sequences=1, tau=tau, steps=steps
        ).loss
        total.backward()
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    learnt = logits.detach().masked_fill(~mdp.possible, -torch.inf)
    torch.testing.assert_close(
        mdp.sequence_distribution(learnt), mdp.payoff_distribution(tau), rtol=1e-4, atol=1e-8
    )
    assert (states >= 0).all() and int((tokens == EOS).sum(1).min()) == 1


def test_errors_name_the_argument() -> None:
    given = numbers()
    with pytest.raises(ValueError, match=r"values and log_ratios must be \[N, T\], got shapes \(5, 5\)"):
        consistency_objective(**{**given, "values": torch.zeros(5, 5)}, sequences=1, tau=1.0)
    with pytest.raises(ValueError, match="tau must be between"):
        consistency_objective(**given, sequences=1, tau=0.0)
