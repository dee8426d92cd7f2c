"""Drawn sequences: shapes, masks and payoffs agree with each other."""

from __future__ import annotations

import pytest
import torch

from softbellman.data import BOS, EOS, PAD, UNK
from softbellman.ops import sentence_bleu
from softbellman.training.evaluation import corpus_batches
from softbellman.training.payoff import Payoff
from softbellman.training.rollout import mode, real_rows, roll_out, row_logits
from softbellman.training.task import build_actor, load_task


@pytest.fixture
def setting(tiny_settings):
    task = load_task(tiny_settings.data)
    torch.manual_seed(0)
    actor = build_actor(tiny_settings, source_size=len(task.source_codec), target_size=len(task.target_codec))
    batch = next(iter(corpus_batches(task.dev, 12).epoch(0)))
    return actor, batch, task.forbidden(torch.device("cpu"))


def draw(setting, **changes):
    actor, batch, forbidden = setting
    arguments = {
        "payoff": Payoff(),
        "samples": 3,
        "extra_length": 4,
        "longest": 15,
        "seed": 7,
        "offset": 0,
        "forbidden": forbidden,
    }
    with mode(actor, training=False):
        return roll_out(actor, batch, **{**arguments, **changes})


def test_prefix_actions_and_mask_line_up(setting):
    rollout = draw(setting)
    batch = setting[1]
    assert rollout.prefix.shape == rollout.actions.shape == rollout.mask.shape == rollout.rewards.shape
    assert (rollout.prefix[:, 0] == BOS).all()
    inner = rollout.mask[:, 1:]
    assert torch.equal(rollout.prefix[:, 1:][inner], rollout.actions[:, :-1][inner])
    assert (rollout.actions[~rollout.mask] == PAD).all()
    assert not torch.isin(rollout.actions[rollout.mask], torch.tensor([PAD, BOS, UNK])).any()
    ended = (rollout.actions == EOS).any(1)
    limits = (batch.mask.sum(1) + 4).clamp(max=15).repeat_interleave(3)
    assert (rollout.mask.sum(1)[~ended] == limits[~ended]).all()  # an open sequence stops at its own limit
    assert torch.equal(rollout.rows, real_rows(rollout.mask))


def test_rewards_add_up_to_the_payoff_and_the_end_earns_nothing(setting):
    rollout = draw(setting)
    batch = setting[1]
    words = rollout.mask & (rollout.actions != EOS)
    hypotheses = rollout.actions.view(len(batch), 3, -1)
    score = sentence_bleu(
        hypotheses,
        batch.references[:, :1],
        hypothesis_lengths=words.sum(1).view(len(batch), 3),
        reference_lengths=batch.reference_lengths[:, :1],
        smoothing="add-k",
        unmatched_id=UNK,
    )
    expected = score * batch.reference_lengths[:, :1]
    assert torch.allclose(
        rollout.rewards.sum(1).view(len(batch), 3), expected.to(rollout.rewards.dtype), atol=1e-5
    )
    assert (rollout.rewards[~words] == 0).all()
    assert rollout.rewards.abs().sum() > 0


def test_a_draw_is_a_function_of_seed_and_offset(setting):
    first, again, other = draw(setting), draw(setting), draw(setting, offset=100)
    assert torch.equal(first.actions, again.actions)
    assert first.actions.shape != other.actions.shape or not torch.equal(first.actions, other.actions)


def test_rows_of_a_factored_model_are_those_of_the_whole_one(setting):
    actor, batch, _ = setting
    rollout = draw(setting)
    with mode(actor, training=False), torch.no_grad():
        rows = row_logits(actor, batch.source, rollout.prefix, rollout.rows)
        whole = actor(batch.source, rollout.prefix)
        plain = row_logits(Whole(actor), batch.source, rollout.prefix, rollout.rows)
    assert torch.allclose(rows, whole[rollout.mask], atol=1e-6)
    assert torch.equal(plain, whole[rollout.mask])


class Whole(torch.nn.Module):
    """A module that only maps (source, prefix) to logits."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, source, prefix):
        return self.inner(source, prefix)
