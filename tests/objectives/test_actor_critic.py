"""The objectives against the paper's equations written out, packed rows against padded ones."""

from __future__ import annotations

import pytest
import torch

from softbellman.objectives import actor_objective, critic_objective, maximum_likelihood, td_targets

N, T, V = 3, 5, 7
LENGTHS = torch.tensor([5, 2, 4])
MASK = torch.arange(T) < LENGTHS[:, None]


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "logits": normal(N, T, V).requires_grad_(),
        "q": normal(N, T, V).requires_grad_(),
        "rewards": normal(N, T),
        "values": normal(N, T),
        "actions": torch.randint(V, (N, T), generator=generator),
    }


def test_targets_bootstrap_inside_and_stop_at_the_end(tensors):
    targets = td_targets(tensors["rewards"], tensors["values"], MASK)
    for n in range(N):
        for t in range(T):
            expected = 0.0
            if t < LENGTHS[n]:
                expected = tensors["rewards"][n, t]
                if t + 1 < LENGTHS[n]:
                    expected = expected + tensors["values"][n, t + 1]
            assert targets[n, t] == expected


def test_garbage_in_padding_never_reaches_a_target(tensors):
    values = tensors["values"].masked_fill(~MASK, torch.nan)
    rewards = tensors["rewards"].masked_fill(~MASK, torch.nan)
    assert torch.equal(
        td_targets(rewards, values, MASK), td_targets(tensors["rewards"], tensors["values"], MASK)
    )


def written_out_critic(q, actions, targets, smoothness):
    total = 0.0
    for n in range(N):
        for t in range(int(LENGTHS[n])):
            row = q[n, t]
            total = total + (row[actions[n, t]] - targets[n, t]) ** 2
            total = total + smoothness * ((row - row.mean()) ** 2).sum()
    return total / N


def test_critic_is_equation_18_and_its_gradient(tensors):
    q, actions, targets = tensors["q"], tensors["actions"], tensors["rewards"]
    ours = critic_objective(q, actions, targets, MASK, sequences=N, smoothness=0.01)
    theirs = written_out_critic(q, actions, targets, 0.01)
    assert torch.allclose(ours.loss, theirs, atol=1e-12)
    (mine,) = torch.autograd.grad(ours.loss, q)
    (expected,) = torch.autograd.grad(theirs, q)
    assert torch.allclose(mine, expected, atol=1e-12)
    error = (q.gather(2, actions.unsqueeze(2)).squeeze(2) - targets)[MASK]
    assert torch.allclose(ours.diagnostics["td_error"], error.abs().sum())


def test_mean_penalty_weights_the_variance(tensors):
    q, actions, targets = tensors["q"], tensors["actions"], tensors["rewards"]
    ours = critic_objective(q, actions, targets, MASK, sequences=N, smoothness=0.5, penalty="mean").loss
    q_action = q.gather(2, actions.unsqueeze(2)).squeeze(2)
    rows = (q_action - targets) ** 2 + 0.5 * q.var(2, correction=0)
    assert torch.allclose(ours, rows[MASK].sum() / N, atol=1e-12)


def test_published_penalty_is_half_the_error_and_the_unbiased_variance(tensors):
    q, actions, targets = tensors["q"], tensors["actions"], tensors["rewards"]
    ours = critic_objective(q, actions, targets, MASK, sequences=N, smoothness=0.01, penalty="published").loss
    q_action = q.gather(2, actions.unsqueeze(2)).squeeze(2)
    rows = 0.5 * (q_action - targets) ** 2 + 0.01 * q.var(2)
    assert torch.allclose(ours, rows[MASK].sum() / N, atol=1e-12)


@pytest.mark.parametrize("tau", [0.0, 0.3])
def test_actor_is_equation_20_and_leaves_the_critic_alone(tensors, tau):
    logits, q = tensors["logits"], tensors["q"]
    ours = actor_objective(logits, q, MASK, sequences=N, tau=tau)
    log_pi = logits.log_softmax(-1)
    value = (log_pi.exp() * (q.detach() - tau * log_pi)).sum(-1)
    expected = -value[MASK].sum() / N
    assert torch.allclose(ours.loss, expected, atol=1e-12)
    mine, critic = torch.autograd.grad(ours.loss, [logits, q], allow_unused=True)
    assert critic is None or not critic.any()
    (theirs,) = torch.autograd.grad(expected, logits)
    assert torch.allclose(mine, theirs, atol=1e-12)
    entropy = -(log_pi.exp() * log_pi).sum(-1)[MASK].sum()
    assert torch.allclose(ours.diagnostics["entropy"], entropy)


def test_with_a_prior_the_actor_pays_for_leaving_it(tensors):
    logits, q = tensors["logits"], tensors["q"]
    prior = q.detach().flip(2)
    ours = actor_objective(logits, q, MASK, sequences=N, tau=0.3, prior=prior)
    log_pi = logits.log_softmax(-1)
    value = (log_pi.exp() * (q.detach() - 0.3 * (log_pi - prior.log_softmax(-1)))).sum(-1)
    expected = -value[MASK].sum() / N
    assert torch.allclose(ours.loss, expected, atol=1e-12)
    (mine,) = torch.autograd.grad(ours.loss, logits)
    (theirs,) = torch.autograd.grad(expected, logits)
    assert torch.allclose(mine, theirs, atol=1e-12)


def test_packed_rows_give_the_padded_loss(tensors):
    logits, q, actions, targets = (tensors[name] for name in ("logits", "q", "actions", "rewards"))
    padded = [
        critic_objective(q, actions, targets, MASK, sequences=N, smoothness=0.1).loss,
        actor_objective(logits, q, MASK, sequences=N, tau=0.2).loss,
        maximum_likelihood(logits, actions, MASK, sequences=N).loss,
    ]
    packed = [
        critic_objective(q[MASK], actions[MASK], targets[MASK], sequences=N, smoothness=0.1).loss,
        actor_objective(logits[MASK], q[MASK], sequences=N, tau=0.2).loss,
        maximum_likelihood(logits[MASK], actions[MASK], sequences=N).loss,
    ]
    for one, other in zip(padded, packed, strict=True):
        assert torch.allclose(one, other, atol=1e-12)


def test_maximum_likelihood_is_cross_entropy(tensors):
    logits, labels = tensors["logits"], tensors["actions"]
    ours = maximum_likelihood(logits, labels, MASK, sequences=N)
    expected = torch.nn.functional.cross_entropy(logits[MASK], labels[MASK], reduction="sum")
    assert torch.allclose(ours.loss, expected / N)
    assert torch.allclose(ours.diagnostics["nll"], expected)
