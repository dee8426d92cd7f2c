"""The objectives of RAML, VAML and soft Q-learning on problems small enough to enumerate."""

from __future__ import annotations

import pytest
import torch

from reference.tiny_mdp import INFINITY, TinyMDP, bleu_like_payoff, build, random_payoff
from softbellman.objectives import oracle_distillation, soft_q_objective, weighted_likelihood

PROBLEMS = {
    "random payoff": build(3, 4, random_payoff(1)),
    "BLEU-like payoff": build(4, 4, bleu_like_payoff((1, 2, 3))),
}
every_problem = pytest.mark.parametrize("mdp", PROBLEMS.values(), ids=PROBLEMS.keys())
TAU = 0.4


def minimise(table: torch.Tensor, loss) -> None:
    optimizer = torch.optim.LBFGS(
        [table], max_iter=2000, tolerance_grad=1e-13, tolerance_change=1e-18, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        total = loss()
        total.backward()
        return total

    optimizer.step(closure)


def policy_of(mdp: TinyMDP, table: torch.Tensor) -> torch.Tensor:
    return table.masked_fill(~mdp.possible, -INFINITY)


@every_problem
def test_raml_on_all_sequences_finds_the_payoff_distribution(mdp: TinyMDP) -> None:
    states, tokens, mask = mdp.sequences()
    weights = mdp.payoff_distribution(TAU)[:, None].expand(mask.shape)
    table = torch.zeros_like(mdp.rewards, requires_grad=True)

    def loss() -> torch.Tensor:
        return weighted_likelihood(policy_of(mdp, table)[states], tokens, weights, mask, sources=1).loss

    minimise(table, loss)
    found = mdp.sequence_distribution(policy_of(mdp, table.detach()))
    torch.testing.assert_close(found, mdp.payoff_distribution(TAU), rtol=1e-4, atol=1e-6)


@every_problem
def test_vaml_finds_the_payoff_distribution_whatever_the_sequences_weigh(mdp: TinyMDP) -> None:
    """With Q* every state's target is exact, so the weights decide how fast, not where (eq. 5 and 17)."""
    states, _, mask = mdp.sequences()
    weights = torch.rand(len(mask), 1, dtype=torch.float64).expand(mask.shape) + 0.1
    q = mdp.optimal_q(TAU)
    table = torch.zeros_like(mdp.rewards, requires_grad=True)

    def loss() -> torch.Tensor:
        logits = policy_of(mdp, table)[states]
        return oracle_distillation(logits, q[states], weights, mask, sources=1, tau=TAU).loss

    minimise(table, loss)
    found = mdp.sequence_distribution(policy_of(mdp, table.detach()))
    torch.testing.assert_close(found, mdp.payoff_distribution(TAU), rtol=1e-4, atol=1e-7)


@every_problem
def test_soft_q_learning_on_packed_rows_finds_q(mdp: TinyMDP) -> None:
    states, tokens, mask = mdp.sequences()
    rewards = mdp.rewards[states, tokens]
    last = mask & ~torch.nn.functional.pad(mask[:, 1:], (0, 1))
    table = torch.zeros_like(mdp.rewards, requires_grad=True)

    def objective():
        q = policy_of(mdp, table)[states]
        return soft_q_objective(
            q[mask], tokens[mask], rewards[mask], sequences=len(mask), tau=TAU, terminal=last[mask]
        )

    padded = soft_q_objective(
        policy_of(mdp, table)[states], tokens, rewards, mask, sequences=len(mask), tau=TAU
    )
    torch.testing.assert_close(objective().loss, padded.loss)
    torch.testing.assert_close(objective().diagnostics, padded.diagnostics)
    minimise(table, lambda: objective().loss)
    torch.testing.assert_close(policy_of(mdp, table.detach()), mdp.optimal_q(TAU), rtol=0, atol=1e-4)
