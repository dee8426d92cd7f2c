"""The objectives serve any module that maps (source, target prefix) to logits: a small Transformer, as actor and critic."""

from __future__ import annotations

import copy

import torch
from torch import nn

from softbellman.data import BOS, EOS, PAD, UNK, Batch
from softbellman.payoffs.payoff import Payoff
from softbellman.training.rollout import mode
from softbellman.training.settings import (
    ActorStageSettings,
    CreditSettings,
    CriticStageSettings,
    JointStageSettings,
    OptimizerSettings,
)
from softbellman.training.stages import ActorStage, CriticStage, JointStage, PolicyEvaluation, frozen_copy

WORDS, LENGTH, SIZE = 6, 4, 10  # ids 4..9; the task is to copy the source


class SmallTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        width = 32
        self.tokens = nn.Embedding(SIZE, width)
        self.positions = nn.Embedding(16, width)
        self.core = nn.Transformer(
            width,
            nhead=2,
            num_encoder_layers=1,
            num_decoder_layers=1,
            dim_feedforward=64,
            dropout=0.0,
            batch_first=True,
        )
        self.head = nn.Linear(width, SIZE)

    def _embed(self, ids):
        return self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))

    def forward(self, source, prefix):
        repeats = prefix.shape[0] // source.shape[0]
        source = source.repeat_interleave(repeats, 0)
        causal = nn.Transformer.generate_square_subsequent_mask(prefix.shape[1])
        padding = source.eq(PAD)
        hidden = self.core(
            self._embed(source), self._embed(prefix), tgt_mask=causal,
            src_key_padding_mask=padding, memory_key_padding_mask=padding,
        )  # fmt: skip
        return self.head(hidden)


def copy_batch(generator: torch.Generator, size: int = 24) -> Batch:
    words = torch.randint(4, 4 + WORDS, (size, LENGTH), generator=generator)
    end = torch.full((size, 1), EOS)
    start = torch.full((size, 1), BOS)
    return Batch(
        source=torch.cat([words, end], 1),
        target=torch.cat([start, words, end], 1),
        references=words.unsqueeze(1),
        reference_lengths=torch.full((size, 1), LENGTH),
        index=torch.arange(size),
    )


def test_a_transformer_trains_through_all_three_stages():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    actor, critic = SmallTransformer(), SmallTransformer()
    adam = OptimizerSettings(learning_rate=3e-3)

    stage = ActorStage(actor, ActorStageSettings(optimizer=adam), judge=dict)
    for step in range(25):
        stage.update(copy_batch(generator), step)

    forbidden = torch.zeros(SIZE, dtype=torch.bool)
    forbidden[[PAD, 1, BOS]] = True
    evaluation = PolicyEvaluation(
        actor, critic, frozen_copy(critic), payoff=Payoff(eos_id=EOS, unknown_id=UNK), credit=CreditSettings(target_speed=0.1),
        samples=1, extra_length=2, longest=LENGTH + 2, key=5, forbidden=forbidden,
    )  # fmt: skip

    held_out = copy_batch(torch.Generator().manual_seed(99), size=200)

    def payoff() -> float:
        rollout = evaluation.draw(held_out, step=10_000)
        return float(rollout.rewards.sum() / len(rollout.mask))

    def error() -> float:
        with torch.no_grad(), mode(critic, training=False):
            rollout = evaluation.draw(held_out, step=10_000)
            objective, *_ = evaluation.critic_loss(held_out, rollout, evaluation.policy(held_out, rollout))
        return float(objective.diagnostics["td_error"] / objective.diagnostics["tokens"])

    before = error()
    critic_stage = CriticStage(evaluation, CriticStageSettings(optimizer=adam), judge=dict)
    for step in range(120):
        critic_stage.update(copy_batch(generator), step)
    assert error() < 0.8 * before

    start = payoff()
    frozen = copy.deepcopy(actor.state_dict())
    joint = JointStage(
        evaluation,
        JointStageSettings(
            actor_optimizer=OptimizerSettings(learning_rate=1e-3, beta1=0.0),
            critic_optimizer=OptimizerSettings(learning_rate=1e-3, beta1=0.0),
            mle_weight=0.0,  # the policy gradient alone must do it
        ),
        judge=dict,
    )
    for step in range(120):
        joint.update(copy_batch(generator), step)
    assert any(not torch.equal(frozen[name], value) for name, value in actor.state_dict().items())
    assert payoff() > 1.1 * start
