"""The rank correlation knows a perfect critic from an inverted and an indifferent one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from softbellman.data import EOS, UNK
from softbellman.payoffs.payoff import Payoff
from softbellman.training.evaluation import corpus_batches
from softbellman.training.health import _continue, _mean_spearman, ranking
from softbellman.training.networks import build_actor
from softbellman.training.task import load_task


def test_spearman_by_hand():
    predicted = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], dtype=torch.float64)
    realised = torch.tensor([[5.0, 6.0, 9.0], [3.0, 2.0, 1.0], [4.0, 4.0, 4.0]], dtype=torch.float64)
    assert _mean_spearman(predicted, realised) == pytest.approx(0.0)  # +1, -1, and no order at all
    assert _mean_spearman(predicted[:1], realised[:1]) == pytest.approx(1.0)
    assert math.isnan(_mean_spearman(predicted[2:], realised[2:]))


class KnowingCritic(nn.Module):
    """Q(y_<t, w) by trying w and continuing greedily: what the correlation compares with."""

    def __init__(self, actor, batch, payoff, forbidden, sign):
        super().__init__()
        self.actor, self.batch, self.payoff, self.forbidden, self.sign = actor, batch, payoff, forbidden, sign

    def forward(self, source, prefix):
        rows, steps = prefix.shape
        size = len(self.forbidden)
        values = torch.zeros(rows, steps, size)
        for step in range(steps):
            for token in range(size):
                forced = torch.cat([prefix[:, 1 : step + 1], torch.full((rows, 1), token)], dim=1)
                lengths = torch.full((rows,), step + 1)
                tokens, ends = _continue(self.actor, self.batch.source, forced, lengths, 13, self.forbidden)
                rewards = self.payoff.rewards(
                    tokens.unsqueeze(1),
                    self.batch.references,
                    hypothesis_lengths=ends.unsqueeze(1),
                    reference_lengths=self.batch.reference_lengths,
                )
                values[:, step, token] = self.sign * rewards.sum(-1).squeeze(1)
        return values


@pytest.mark.parametrize("sign", [1, -1])
def test_a_critic_that_knows_the_returns_is_perfect(tiny_settings, sign):
    task = load_task(tiny_settings.data)
    torch.manual_seed(3)
    actor = build_actor(tiny_settings, source_size=len(task.source_codec), target_size=len(task.target_codec))
    with torch.no_grad():
        actor.output.bias[4:].normal_()  # some spread between the tokens
        actor.output.bias[40:] = -torch.inf  # 36 words are left: the critic tries each of them
    forbidden = torch.arange(len(task.target_codec)) >= 40
    forbidden[:3] = True
    batch = next(iter(corpus_batches(task.dev, 4).epoch(0)))
    payoff = Payoff(eos_id=EOS, unknown_id=UNK)
    critic = KnowingCritic(actor, batch, payoff, forbidden, sign)
    found = ranking(actor, critic, batch, payoff=payoff, max_length=12, forbidden=forbidden)
    assert found.correlation == pytest.approx(sign, abs=1e-9)
    assert found.possible_gain > 0
    assert 1 <= found.states <= len(batch) and found.metrics()["ranked_states"] == found.states
    assert found.gain_error >= 0
    if sign > 0:
        assert found.gain == pytest.approx(found.possible_gain)
    else:
        assert found.gain <= 0
