"""The switches of the backup on problems small enough to enumerate: returns over several steps, a prior policy.

Of a fixed policy with exact values every lambda-return has the mean Q of the policy. With a prior pi_0 the best policy is
`pi_0 exp(Q / tau)` normalised, and its sequences have the probabilities `P_0(y) exp(R(y) / tau) / Z`.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reference.test_exact_mdp import PROBLEMS, evaluate, every_problem, every_tau, improve
from reference.tiny_mdp import INFINITY, TinyMDP
from softbellman import actor_loss, divergence, policy_value, soft_value, td_targets

every_trace = pytest.mark.parametrize("trace", (0.0, 0.5, 1.0))
with_and_without_prior = pytest.mark.parametrize("with_prior", (False, True), ids=("entropy", "prior"))


def random_policy(mdp: TinyMDP, seed: int) -> Tensor:
    """Logits [S, V]."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(mdp.rewards.shape, generator=generator, dtype=torch.float64)
    return logits.masked_fill(~mdp.possible, -INFINITY)


def bonuses_of(logits: Tensor, tau: float, prior: Tensor | None) -> Tensor:
    """What a state's value has beside the expected action value, [S]."""
    if prior is None:
        return tau * policy_value(logits, torch.zeros_like(logits), tau=0.0).entropy
    return -tau * divergence(logits, prior, kind="reverse_kl")


def mean_targets(
    mdp: TinyMDP, logits: Tensor, q: Tensor, tau: float, prior: Tensor | None, trace: float
) -> Tensor:
    """The mean [S, V] of the targets of every state and action over all sequences of the policy; 0 where impossible."""
    states, tokens, mask = mdp.sequences()
    values = policy_value(logits, q, tau=tau, prior=prior).value[states]
    bonuses = bonuses_of(logits, tau, prior)[states]
    targets = td_targets(mdp.rewards[states, tokens], values, mask, trace=trace, bonuses=bonuses)
    weights = torch.where(mask, mdp.sequence_distribution(logits)[:, None], 0.0)
    sums, mass = torch.zeros(2, *mdp.rewards.shape, dtype=torch.float64)
    sums.index_put_((states, tokens), weights * targets, accumulate=True)
    mass.index_put_((states, tokens), weights, accumulate=True)
    assert torch.equal(mass > 0, mdp.possible)
    return (sums / mass).masked_fill(~mdp.possible, 0.0)


@every_problem
@every_trace
@with_and_without_prior
def test_the_mean_target_of_the_exact_critic_is_its_own_value(
    mdp: TinyMDP, trace: float, with_prior: bool
) -> None:
    tau, logits = 0.3, random_policy(mdp, 4)
    prior = random_policy(mdp, 5) if with_prior else None
    q = evaluate(mdp, logits, tau, prior)
    found = mean_targets(mdp, logits, q, tau, prior, trace)
    torch.testing.assert_close(found, q.masked_fill(~mdp.possible, 0.0), rtol=0, atol=1e-12)


@every_problem
@every_trace
@with_and_without_prior
def test_the_mean_targets_lead_a_wrong_critic_there(mdp: TinyMDP, trace: float, with_prior: bool) -> None:
    """From zeros; the Monte-Carlo return at once, since it asks no critic."""
    tau, logits = 0.3, random_policy(mdp, 4)
    prior = random_policy(mdp, 5) if with_prior else None
    wanted = evaluate(mdp, logits, tau, prior).masked_fill(~mdp.possible, 0.0)
    q, errors = torch.zeros_like(mdp.rewards), []
    for _ in range(mdp.horizon):
        frozen = q.masked_fill(~mdp.possible, -INFINITY)
        q = mean_targets(mdp, logits, frozen, tau, prior, trace)
        errors.append((q - wanted).abs().max().item())
    assert errors[-1] < 1e-12
    assert (errors[0] < 1e-12) == (trace == 1.0)


@every_problem
def test_a_longer_trace_relies_less_on_a_wrong_critic(mdp: TinyMDP) -> None:
    tau, logits = 0.3, random_policy(mdp, 4)
    q = evaluate(mdp, logits, tau)
    wrong = q + 0.5
    errors = [
        (mean_targets(mdp, logits, wrong, tau, None, trace) - q.masked_fill(~mdp.possible, 0.0))
        .abs()
        .sum()
        .item()
        for trace in (0.0, 0.3, 0.6, 0.9, 1.0)
    ]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-10


def optimal_q(mdp: TinyMDP, tau: float, prior: Tensor) -> Tensor:
    """`Q*(s, w) = r(s, w) + tau log sum_w' pi_0(w' | s') exp(Q*(s', w') / tau)`, solved from the ends."""
    q = mdp.rewards.masked_fill(~mdp.possible, -INFINITY)
    for _ in range(mdp.horizon):
        q = (mdp.rewards + mdp.future(soft_value(q, tau=tau, prior=prior))).masked_fill(
            ~mdp.possible, -INFINITY
        )
    return q


def tilted_distribution(mdp: TinyMDP, tau: float, prior: Tensor) -> Tensor:
    """`P_0(y) exp(R(y) / tau) / Z` over the complete sequences, [N]."""
    return torch.softmax(mdp.sequence_distribution(prior).log() + mdp.ended_payoffs / tau, 0)


@every_problem
@every_tau
def test_with_a_prior_the_token_policies_multiply_to_the_tilted_distribution(
    mdp: TinyMDP, tau: float
) -> None:
    prior = random_policy(mdp, 5)
    best = optimal_q(mdp, tau, prior) / tau + torch.log_softmax(prior, -1)
    wanted = tilted_distribution(mdp, tau, prior)
    torch.testing.assert_close(mdp.sequence_distribution(best), wanted, rtol=1e-9, atol=1e-300)


@every_problem
@every_tau
def test_soft_policy_iteration_with_a_prior_finds_it(mdp: TinyMDP, tau: float) -> None:
    """The critic's and the actor's losses, from the prior itself."""
    prior = random_policy(mdp, 5)
    logits, starts = prior, []
    for _ in range(mdp.horizon):
        q = evaluate(mdp, logits, tau, prior)
        starts.append(policy_value(logits[:1], q[:1], tau=tau, prior=prior[:1]).value.item())
        logits = improve(mdp, logits, q, tau, prior)
    assert starts == sorted(starts), "policy iteration made the policy worse"
    torch.testing.assert_close(
        evaluate(mdp, logits, tau, prior), optimal_q(mdp, tau, prior), rtol=0, atol=1e-7
    )
    torch.testing.assert_close(
        mdp.sequence_distribution(logits), tilted_distribution(mdp, tau, prior), rtol=1e-4, atol=1e-6
    )


@every_problem
@every_tau
def test_the_actor_rests_at_the_prior_tilted_by_its_values_and_nowhere_else(mdp: TinyMDP, tau: float) -> None:
    prior = random_policy(mdp, 5)
    q = optimal_q(mdp, tau, prior)
    for logits, stationary in ((q / tau + prior, True), (q / tau, False), (prior, False)):
        leaf = logits.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(actor_loss(leaf, q, tau=tau, prior=prior).loss.sum(), leaf)
        assert (gradient.abs().max().item() < 1e-13) == stationary


def test_the_policy_that_is_its_own_prior_has_no_bonus() -> None:
    """What the critic stage uses: the value of the actor under the divergence from itself is the plain expectation."""
    mdp = PROBLEMS["random payoff, V=4, T=3"]
    logits = random_policy(mdp, 4)
    torch.testing.assert_close(
        evaluate(mdp, logits, 0.3, logits), evaluate(mdp, logits, 0.0), rtol=0, atol=1e-12
    )
