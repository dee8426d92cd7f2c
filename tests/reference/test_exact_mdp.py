"""The theory on problems small enough to enumerate, through the public operators, in float64.

Proposition 1: with the Q* of the recursion (equation 7) the token-level policies softmax(Q* / tau) multiply
to the payoff distribution. Soft Q-learning (equation 16) finds Q*; soft policy iteration (equations 19 and
20) finds the same policy (Corollary 1).
"""

from __future__ import annotations

import pytest
import torch

from reference.tiny_mdp import INFINITY, TinyMDP, bleu_like_payoff, build, random_payoff
from softbellman import (
    actor_loss,
    critic_loss,
    policy_value,
    soft_bellman_residual,
    soft_target_cross_entropy,
    soft_value,
)

PROBLEMS = {
    "random payoff, V=3, T=4": build(3, 4, random_payoff(1)),
    "random payoff, V=4, T=3": build(4, 3, random_payoff(2)),
    "BLEU-like payoff, V=4, T=4": build(4, 4, bleu_like_payoff((1, 2, 3))),
}
every_problem = pytest.mark.parametrize("mdp", PROBLEMS.values(), ids=PROBLEMS.keys())
every_tau = pytest.mark.parametrize("tau", (0.2, 1.0))


@every_problem
@pytest.mark.parametrize("tau", (0.045, 0.4, 2.0))
def test_the_token_policies_of_q_multiply_to_the_payoff_distribution(mdp: TinyMDP, tau: float) -> None:
    distribution = mdp.sequence_distribution(mdp.optimal_q(tau) / tau)
    torch.testing.assert_close(distribution, mdp.payoff_distribution(tau), rtol=1e-9, atol=1e-300)
    assert distribution.sum().item() == pytest.approx(1.0, abs=1e-12)


@every_problem
@every_tau
def test_the_soft_value_of_the_start_is_the_log_partition_of_the_payoffs(mdp: TinyMDP, tau: float) -> None:
    payoffs = torch.tensor([mdp.payoff((*prefix, 0)) for prefix in mdp.states], dtype=torch.float64)
    start = soft_value(mdp.optimal_q(tau)[:1], tau=tau) + mdp.payoff(())
    assert start.item() == pytest.approx((tau * torch.logsumexp(payoffs / tau, 0)).item(), rel=1e-12)


@every_problem
@every_tau
def test_q_has_no_bellman_residual_and_a_wrong_q_has_one(mdp: TinyMDP, tau: float) -> None:
    states, tokens, mask = mdp.sequences()
    q, rewards = mdp.optimal_q(tau), mdp.rewards[states, tokens]
    assert soft_bellman_residual(q[states], tokens, rewards, mask, tau=tau).abs().max().item() < 1e-12
    assert soft_bellman_residual(q[states] + 0.1, tokens, rewards, mask, tau=tau).abs().max().item() > 0.05


@every_problem
@every_tau
def test_soft_q_learning_converges_to_q(mdp: TinyMDP, tau: float) -> None:
    """The squared residual of every sequence, minimised from zero by L-BFGS."""
    states, tokens, mask = mdp.sequences()
    rewards, impossible = mdp.rewards[states, tokens], ~mdp.possible
    table = torch.zeros_like(mdp.rewards, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [table], max_iter=2000, tolerance_grad=1e-13, tolerance_change=1e-18, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        q = table.masked_fill(impossible, -INFINITY)
        residual = soft_bellman_residual(q[states], tokens, rewards, mask, tau=tau)
        total = residual.square().sum()
        total.backward()
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    learnt = table.detach().masked_fill(impossible, -INFINITY)
    torch.testing.assert_close(learnt, mdp.optimal_q(tau), rtol=0, atol=1e-5)
    torch.testing.assert_close(
        mdp.sequence_distribution(learnt / tau), mdp.payoff_distribution(tau), rtol=1e-3, atol=1e-9
    )


def evaluate(
    mdp: TinyMDP, logits: torch.Tensor, tau: float, prior: torch.Tensor | None = None
) -> torch.Tensor:
    """Q of the policy [S, V]: the critic regressed onto the targets of equation 19 until they stop moving.

    Every state and action appears once and the loss is a square, so one gradient step of size 1/2 lands on
    the target; T sweeps carry the values from the ends of the sequences to their start.
    """
    impossible = ~mdp.possible
    actions = torch.arange(mdp.vocabulary).expand(len(mdp.states), -1)  # [S, V]
    q = torch.zeros_like(mdp.rewards)
    for _ in range(mdp.horizon):
        frozen = q.masked_fill(impossible, -INFINITY)
        targets = mdp.rewards + mdp.future(policy_value(logits, frozen, tau=tau, prior=prior).value)
        q.requires_grad_()
        rows = q.unsqueeze(1).expand(-1, mdp.vocabulary, -1)  # [S, V] -> [S, V, V]
        (gradient,) = torch.autograd.grad(critic_loss(rows, actions, targets).loss.sum(), q)
        q = q.detach() - 0.5 * gradient
    return q.masked_fill(impossible, -INFINITY)


def improve(
    mdp: TinyMDP, logits: torch.Tensor, q: torch.Tensor, tau: float, prior: torch.Tensor | None = None
) -> torch.Tensor:
    """The policy table [S, V] that minimises the actor's loss against q, by L-BFGS."""
    impossible = ~mdp.possible
    table = logits.masked_fill(impossible, 0.0).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [table], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-18, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        total = actor_loss(table.masked_fill(impossible, -INFINITY), q, tau=tau, prior=prior).loss.sum()
        total.backward()
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return table.detach().masked_fill(impossible, -INFINITY)


@every_problem
@every_tau
def test_soft_policy_iteration_reaches_the_same_policy(mdp: TinyMDP, tau: float) -> None:
    logits = torch.zeros_like(mdp.rewards).masked_fill(~mdp.possible, -INFINITY)
    starts = []
    for _ in range(mdp.horizon):
        q = evaluate(mdp, logits, tau)
        starts.append(policy_value(logits[:1], q[:1], tau=tau).value.item())
        logits = improve(mdp, logits, q, tau)
    assert starts == sorted(starts), "policy iteration made the policy worse"
    torch.testing.assert_close(evaluate(mdp, logits, tau), mdp.optimal_q(tau), rtol=0, atol=1e-7)
    # the actor's gradient carries the factor pi, so a sequence of probability 1e-7 is resolved no further
    torch.testing.assert_close(
        mdp.sequence_distribution(logits), mdp.payoff_distribution(tau), rtol=1e-4, atol=1e-6
    )


@every_problem
def test_the_value_of_a_policy_is_its_expected_payoff_and_entropy(mdp: TinyMDP) -> None:
    """Equation 9 unrolled: `sum_y P(y) [R(y) - R() - tau log P(y)]` over all enumerated sequences."""
    tau = 0.3
    logits = torch.randn(mdp.rewards.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    logits = logits.masked_fill(~mdp.possible, -INFINITY)
    probability = mdp.sequence_distribution(logits)
    payoffs = torch.tensor([mdp.payoff((*prefix, 0)) for prefix in mdp.states], dtype=torch.float64)
    expected = (probability * (payoffs - mdp.payoff(()) - tau * probability.log())).sum()
    value = policy_value(logits[:1], evaluate(mdp, logits, tau)[:1], tau=tau).value
    assert value.item() == pytest.approx(expected.item(), rel=1e-11)


@every_problem
@every_tau
def test_distilling_q_gives_the_payoff_distribution(mdp: TinyMDP, tau: float) -> None:
    """At pi = softmax(Q* / tau) the gradient of equation 17 is zero in every state, and nowhere else."""
    q = mdp.optimal_q(tau)
    for logits, stationary in (((q / tau), True), ((0.9 * q / tau), False)):
        leaf = logits.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(soft_target_cross_entropy(leaf, q, tau=tau).sum(), leaf)
        assert (gradient.abs().max().item() < 1e-14) == stationary
