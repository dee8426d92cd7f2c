"""Drawn sequences: shapes, masks and payoffs agree with each other."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from softbellman.data import BOS, EOS, PAD, UNK
from softbellman.decoding import sample
from softbellman.models import AttentionSeq2Seq
from softbellman.models.projection import known_logits
from softbellman.objectives import actor_objective
from softbellman.payoffs import sentence_bleu
from softbellman.payoffs.payoff import Payoff
from softbellman.training.evaluation import corpus_batches
from softbellman.training.networks import build_actor
from softbellman.training.rollout import mode, real_rows, roll_out, row_features, row_logits
from softbellman.training.task import load_task


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
        "payoff": Payoff(eos_id=EOS, unknown_id=UNK),
        "samples": 3,
        "extra_length": 4,
        "longest": 15,
        "seed": 7,
        "offset": 0,
        "forbidden": forbidden,
    }
    with mode(actor, training=False):
        return roll_out(partial(sample, actor), batch, **{**arguments, **changes})


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


@pytest.mark.parametrize("forbid", [False, True])
def test_kept_logits_are_those_of_the_drawn_states(setting, forbid):
    """The actor's loss on them has the value and the gradient it has on logits computed again."""
    actor, batch, forbidden = setting
    rollout = draw(setting, keep_logits=True)
    assert torch.equal(rollout.rows.sort().values, real_rows(rollout.mask))
    with mode(actor, training=False):
        again = row_logits(actor, batch.source, rollout.prefix, rollout.rows)
        torch.testing.assert_close(rollout.logits, again, rtol=0, atol=1e-5)
        features = row_features(actor, batch.source, rollout.prefix, rollout.rows)
    if forbid:
        rollout.logits.masked_fill_(forbidden, -torch.inf)
        again = again.masked_fill(forbidden, -torch.inf)
    known = known_logits(features, *actor.projection(), rollout.logits)
    q = torch.randn(known.shape, generator=torch.Generator().manual_seed(1))
    gradients = []
    for logits in (known, again):
        loss = actor_objective(logits, q, sequences=3, tau=0.1).loss
        gradients.append(torch.autograd.grad(loss, [p for p in actor.parameters()]))
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert expected.abs().max() > 0


def test_an_encoding_serves_drawing_and_learning(setting):
    """From the actor's own encoding come the same tokens and logits, and gradients reach the encoder through it."""
    actor, batch, _ = setting
    memory = actor.encode(batch.source)
    from_source = draw(setting, keep_logits=True)
    from_memory = draw(setting, keep_logits=True, start=actor.begin(None, memory=memory.detach()))
    assert torch.equal(from_source.actions, from_memory.actions)
    actor.eval()
    arguments = batch.source, from_source.prefix, from_source.rows
    gradients = []
    for known in (None, memory):
        loss = row_logits(actor, *arguments, memory=known).square().mean()
        gradients.append(torch.autograd.grad(loss, list(actor.encoder.parameters())))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
        assert one.abs().max() > 0


@pytest.mark.parametrize(
    ("options", "alike"),
    [({"dropout": 0.5}, True), ({"embedding_dropout": 0.1}, False), ({"layers": 2, "dropout": 0.5}, False)],
)
def test_encodings_differ_where_dropout_lies_in_them(options, alike):
    model = AttentionSeq2Seq(9, 7, embedding=4, hidden=6, **options)
    assert model.encodes_alike == alike
    source = torch.tensor([[4, 5, 6, 3]])
    trained = model.train().encode(source).values
    assert torch.equal(trained, model.eval().encode(source).values) == alike


class Whole(torch.nn.Module):
    """A module that only maps (source, prefix) to logits."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, source, prefix):
        return self.inner(source, prefix)
