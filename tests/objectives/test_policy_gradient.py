"""Policy gradient and minimum risk: against their definitions, and against the gradient of the expected payoff."""

from __future__ import annotations

import pytest
import torch
from reference.tiny_mdp import EOS, build, random_payoff
from torch import Tensor

from softbellman import Head
from softbellman.objectives import (
    actor_objective,
    first_of_equals,
    mean_of_others,
    minimum_risk,
    policy_gradient,
    td_targets,
)

MDP = build(3, 3, random_payoff(5))
STATES, TOKENS, MASK = MDP.sequences()  # [N, T]
POSSIBLE = (MDP.successors >= 0) | (torch.arange(3) == EOS)  # in the last step EOS alone


def policy_of_every_state(seed: int = 0) -> Tensor:
    """Logits [S, V], `-inf` at impossible tokens."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(POSSIBLE.shape, generator=generator, dtype=torch.float64)
    return logits.masked_fill(~POSSIBLE, -torch.inf).requires_grad_()


def payoffs_of_sequences() -> Tensor:
    """R of each complete sequence, [N]."""
    return MDP.rewards[STATES, TOKENS].masked_fill(~MASK, 0.0).sum(1)


@pytest.mark.parametrize("baseline", [0.0, 0.7])
def test_its_mean_is_the_gradient_of_the_expected_payoff(baseline: float) -> None:
    """All sequences, each with its probability: the expectation over draws, without drawing."""
    logits, payoffs = policy_of_every_state(), payoffs_of_sequences()
    probabilities = MDP.sequence_distribution(logits)
    (expected,) = torch.autograd.grad(-(probabilities * payoffs).sum(), logits)
    weights = (probabilities.detach() * (payoffs - baseline))[:, None].expand_as(TOKENS)
    assert float(probabilities.detach().sum()) == pytest.approx(1.0)
    found = policy_gradient(logits[STATES], TOKENS, weights, MASK, sequences=1)
    (gradient,) = torch.autograd.grad(found.loss, logits)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)


def test_leave_one_out_is_unbiased_over_all_pairs_of_draws() -> None:
    logits, payoffs = policy_of_every_state(1), payoffs_of_sequences()
    probabilities = MDP.sequence_distribution(logits)
    (expected,) = torch.autograd.grad(-(probabilities * payoffs).sum(), logits)
    count = len(payoffs)
    pairs = torch.cartesian_prod(torch.arange(count), torch.arange(count))  # [N^2, 2]
    both = payoffs[pairs]
    advantages = both - mean_of_others(both)
    chance = probabilities.detach()[pairs].prod(1, keepdim=True)
    weights = (chance * advantages).flatten()[:, None].expand(-1, TOKENS.shape[1])
    rows = pairs.flatten()
    found = policy_gradient(logits[STATES[rows]], TOKENS[rows], weights, MASK[rows], sequences=2)
    (gradient,) = torch.autograd.grad(found.loss, logits)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("share", [1.0, 0.0])
@pytest.mark.parametrize("prior", [False, True])
def test_returns_correct_whatever_critic_the_actor_follows(share: float, prior: bool) -> None:
    """Eq. (20) with a wrong Q, and what Q misses of the returns: the gradient of the regularised expected payoff."""
    tau, logits, start = 0.4, policy_of_every_state(2), policy_of_every_state(3).detach()
    q = torch.randn(POSSIBLE.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    log_pi, log_start = (
        torch.log_softmax(one, -1).masked_fill(~POSSIBLE, 0.0) for one in (logits, start)
    )  # what is impossible counts nothing
    terms = torch.softmax(logits, -1) * (log_start - log_pi if prior else -log_pi)
    bonus = tau * terms.sum(-1)
    rewards = MDP.rewards[STATES, TOKENS].masked_fill(~MASK, 0.0)
    bonuses = bonus[STATES].masked_fill(~MASK, 0.0)
    probabilities = MDP.sequence_distribution(logits)
    (expected,) = torch.autograd.grad(-(probabilities * (rewards + bonuses).sum(1)).sum(), logits)

    returns = td_targets(rewards, torch.zeros_like(rewards), MASK, trace=1.0, bonuses=bonuses.detach())
    missed = returns - q[STATES, TOKENS]
    loss = torch.zeros((), dtype=torch.float64)
    for row, chance in enumerate(MDP.sequence_distribution(logits).detach()):
        place = STATES[row]
        prior_rows = start[place] if prior else None
        options = {"sequences": 1, "tau": tau, "prior": prior_rows}
        actor = actor_objective(logits[place], q[place], MASK[row], **options)  # type: ignore[arg-type]
        more = policy_gradient(logits[place], TOKENS[row], share * missed[row], MASK[row], sequences=1)
        loss = loss + chance * (actor.loss + more.loss)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.allclose(gradient, expected, rtol=1e-9, atol=1e-11) == (share == 1.0)


def test_what_lies_behind_the_end_does_not_enter() -> None:
    logits = torch.randn(4, 6, 5, dtype=torch.float64)
    actions, advantages = torch.randint(5, (4, 6)), torch.randn(4, 6, dtype=torch.float64)
    mask = torch.arange(6) < torch.tensor([[6], [3], [1], [0]])
    wanted = policy_gradient(logits, actions, advantages, mask, sequences=4)
    spoilt = logits.masked_fill(~mask[..., None], torch.nan).requires_grad_()
    found = policy_gradient(spoilt, actions, advantages.masked_fill(~mask, torch.nan), mask, sequences=4)
    found.loss.backward()
    assert float(found.loss.detach()) == float(wanted.loss)
    assert spoilt.grad is not None and spoilt.grad.isfinite().all() and not spoilt.grad[~mask].any()
    assert float(found.diagnostics["advantage_size"]) == pytest.approx(float(advantages[mask].abs().sum()))
    picked = torch.log_softmax(logits, -1).gather(-1, actions[..., None]).squeeze(-1)
    assert float(wanted.loss) == pytest.approx(float(-(picked * advantages)[mask].sum() / 4))


def test_a_head_gives_what_its_logits_give() -> None:
    hidden, weight = torch.randn(7, 4, dtype=torch.float64), torch.randn(9, 4, dtype=torch.float64)
    actions, advantages = torch.randint(9, (7,)), torch.randn(7, dtype=torch.float64)
    answers = []
    for form in (lambda h: Head(h, weight, chunk_rows=3), lambda h: h @ weight.T):
        leaf = hidden.clone().requires_grad_()
        found = policy_gradient(form(leaf), actions, advantages, sequences=2)
        found.loss.backward()
        answers.append((found.loss.detach(), leaf.grad))
    for one, other in zip(*answers, strict=True):
        torch.testing.assert_close(one, other)


def test_mean_of_others() -> None:
    payoffs = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]])
    assert mean_of_others(payoffs).tolist() == [[4.0, 3.5, 1.5], [1.5, 1.5, 0.0]]
    with pytest.raises(ValueError, match="a mean over other sequences needs at least 2, got 1"):
        mean_of_others(payoffs[:, :1])


def test_minimum_risk_by_hand() -> None:
    """Softmax over alpha log p, not over p: of p = 0.1 and 0.4 with alpha 0.5 the weights are 1/3 and 2/3."""
    log_probs = torch.tensor([[0.1, 0.4]], dtype=torch.float64).log().requires_grad_()
    found = minimum_risk(log_probs, torch.tensor([[3.0, 9.0]], dtype=torch.float64), alpha=0.5)
    assert float(found.loss.detach()) == pytest.approx(-(3 / 3 + 9 * 2 / 3))
    found.loss.backward()
    # alpha Q (risk - (-R)) : the better candidate gains what the other loses
    assert log_probs.grad is not None
    assert log_probs.grad.tolist()[0] == pytest.approx([0.5 / 3 * (7 - 3), 0.5 * 2 / 3 * (7 - 9)])
    assert float(found.diagnostics["effective_samples"]) == pytest.approx(1 / (1 / 9 + 4 / 9))


def test_minimum_risk_is_differentiable_and_leaves_out() -> None:
    generator = torch.Generator().manual_seed(0)
    log_probs = -torch.rand(3, 4, generator=generator, dtype=torch.float64).requires_grad_() * 5
    payoffs = torch.rand(3, 4, generator=generator, dtype=torch.float64)
    candidates = torch.tensor([[True] * 4, [True, False, True, False], [False] * 4])
    assert torch.autograd.gradcheck(
        lambda scores: minimum_risk(scores, payoffs, candidates, alpha=0.7).loss,
        log_probs.detach().requires_grad_(),
    )
    found = minimum_risk(log_probs, payoffs.masked_fill(~candidates, torch.nan), candidates, alpha=0.7)
    kept = candidates[1].nonzero().squeeze(1)
    alone = minimum_risk(log_probs[1:2, kept], payoffs[1:2, kept], alpha=0.7)
    first = minimum_risk(log_probs[:1], payoffs[:1], alpha=0.7)
    assert float(found.loss.detach()) == pytest.approx(
        (float(first.loss.detach()) + float(alone.loss.detach())) / 3
    )
    with pytest.raises(ValueError, match=r"alpha must be above 0, got 0\.0"):
        minimum_risk(log_probs, payoffs, alpha=0.0)


def test_equal_sequences_count_once() -> None:
    tokens = torch.tensor([[[4, 5, 9], [4, 5, 7], [4, 5, 6], [4, 5, 7]]])
    mask = torch.tensor([[[1, 1, 0], [1, 1, 1], [1, 1, 0], [1, 1, 1]]]).bool()
    assert first_of_equals(tokens, mask).tolist() == [[True, True, False, False]]
