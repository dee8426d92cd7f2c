"""From random weights to the start by maximum likelihood, and from there by an arm, in a fixed number of updates."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from transformers import Qwen3ForCausalLM

from softbellman import Head, erac_critic_loss
from sorting.arms import TAU, Arm, Samples, likelihood
from sorting.model import Drawn, Sizes, draw, head_before, new_model
from sorting.task import FIRST, Pairs, is_right, token_rewards


@dataclass(frozen=True)
class Settings:
    """Of a run; the defaults are those of the table.

    Attributes:
        length, numbers: of a prompt, and to choose from.
        validation, test: prompts.
        sizes: of the model, and of the critic.
        batch, samples: prompts of an update, and answers that are drawn to each.
        start_updates, updates: of the start, and of an arm that draws.
        reader_updates: of the critic before all else, by maximum likelihood of the label that it reads.
        critic_updates: of the critic on answers of the start, before the arm's own updates.
        label_weight: of that likelihood in the critic's loss.
        start_rate, critic_rate: learning rates of the start and the reader, and of the critic.
        rates: that every arm chooses from.
        target_speed: how far the critic's target network moves in an update.
    """

    length: int = 6
    numbers: int = 20
    validation: int = 128
    test: int = 256
    sizes: Sizes = field(default_factory=Sizes)
    batch: int = 32
    samples: int = 4
    start_updates: int = 300
    updates: int = 40
    reader_updates: int = 200
    critic_updates: int = 50
    label_weight: float = 0.3
    start_rate: float = 3e-3
    critic_rate: float = 1e-3
    rates: tuple[float, ...] = (3e-4, 1e-3)
    target_speed: float = 0.1

    @property
    def vocabulary(self) -> int:
        """V."""
        return FIRST + self.numbers

    @property
    def steps(self) -> int:
        """Tokens that an answer may have, the end included: one more than a right one."""
        return self.length + 2


def optimizer_of(model: torch.nn.Module, rate: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.1, betas=(0.9, 0.95), fused=True)


def descend(loss: Tensor, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """One update, with the norm of the gradient bounded by 1."""
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def batches(pairs: Pairs, size: int, count: int, seed: int) -> Iterator[Pairs]:
    """Random batches without repetition in a batch."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        yield pairs.of(torch.randperm(len(pairs.prompts), generator=generator)[:size])


def fit_labels(
    model: Qwen3ForCausalLM, pairs: Pairs, settings: Settings, *, updates: int, rate: float, seed: int
) -> None:
    """Maximum likelihood, in place."""
    optimizer = optimizer_of(model, rate)
    for batch in batches(pairs, settings.batch, updates, seed):
        descend(likelihood(head_before(model, batch.prompts, batch.labels), batch.labels), model, optimizer)


def make_start(pairs: Pairs, settings: Settings, seed: int) -> Qwen3ForCausalLM:
    """The model that all arms of a seed begin with."""
    model = new_model(settings.vocabulary, settings.sizes, seed)
    fit_labels(model, pairs, settings, updates=settings.start_updates, rate=settings.start_rate, seed=seed)
    return model


class Critic:
    """Action values learnt from the rewards of samples, Eq. (18) and (19). It reads the label, the policy the prompt.

    It begins as a reader, a model that says its label after it. Its logits times tau are the first values, and it stays one:
    the likelihood of the label under `softmax(Q / tau)` is part of its loss.
    """

    def __init__(self, pairs: Pairs, settings: Settings, seed: int) -> None:
        self.model = new_model(settings.vocabulary, settings.sizes, seed)
        read = pairs._replace(prompts=pairs.labels[:, :-1])
        fit_labels(
            self.model, read, settings, updates=settings.reader_updates, rate=settings.start_rate, seed=seed
        )
        self.model.lm_head.weight.data.mul_(TAU)
        self.target = copy.deepcopy(self.model)
        self.speed, self.label_weight = settings.target_speed, settings.label_weight
        self.optimizer = optimizer_of(self.model, settings.critic_rate)

    def values(self, pairs: Pairs, drawn: Drawn, *, target: bool = False) -> Head:
        """`Q(y_<t, .)` as a head, `[N, T, V]`."""
        return head_before(self.target if target else self.model, pairs.labels[:, :-1], drawn.tokens)

    def update(self, policy: Head, batch: Pairs, shown: Pairs, drawn: Drawn) -> None:
        """One update of the critic on answers drawn to the prompts `shown`, then its target network moves."""
        rewards = token_rewards(drawn.tokens[:, None], shown.answers)[:, 0]
        with torch.no_grad():
            target = self.values(shown, drawn, target=True)
        loss = erac_critic_loss(
            policy.detach(), target, self.values(shown, drawn), drawn.tokens, rewards, drawn.mask,
            tau=TAU, smoothness=1e-3, reduction="mean",
        ).loss  # fmt: skip
        reading = head_before(self.model, batch.labels[:, :-1], batch.labels)
        loss = loss + self.label_weight * likelihood(replace(reading, scale=1 / TAU), batch.labels)
        descend(loss, self.model, self.optimizer)
        for mean, weight in zip(self.target.parameters(), self.model.parameters(), strict=True):
            mean.data.lerp_(weight.data, self.speed)


def make_critic(start: Qwen3ForCausalLM, pairs: Pairs, settings: Settings, seed: int) -> Critic:
    """The values of the start: what all arms of a seed that learn a critic begin with."""
    critic = Critic(pairs, settings, seed)
    for number, batch in enumerate(batches(pairs, settings.batch, settings.critic_updates, seed + 1)):
        shown = batch.repeated(settings.samples)
        drawn = draw(start, shown.prompts, steps=settings.steps, seed=2**20 * (seed + 1) + number)
        with torch.no_grad():
            policy = head_before(start, shown.prompts, drawn.tokens)
        critic.update(policy, batch, shown, drawn)
    return critic


def train(
    start: Qwen3ForCausalLM,
    arm: Arm,
    pairs: Pairs,
    settings: Settings,
    *,
    rate: float,
    seed: int,
    critic: Critic | None = None,
) -> Qwen3ForCausalLM:
    """A copy of the start after an arm's updates.

    The arms that draw see `batch * samples` answers an update. The likelihood sees as many labels in all, in more updates.

    Args:
        critic: of the start, for an arm that has one; a copy of it goes on learning.
    """
    model = copy.deepcopy(start)
    if arm.loss is None:
        updates = settings.updates * settings.samples
        fit_labels(model, pairs, settings, updates=updates, rate=rate, seed=seed)
        return model
    critic = copy.deepcopy(critic) if arm.has_critic else None
    optimizer = optimizer_of(model, rate)
    for number, batch in enumerate(batches(pairs, settings.batch, settings.updates, seed)):
        shown = batch.repeated(settings.samples)
        drawn = draw(model, shown.prompts, steps=settings.steps, seed=2**20 * seed + number)
        policy = head_before(model, shown.prompts, drawn.tokens)
        before = values = None
        with torch.no_grad():
            if arm.near_start:
                before = head_before(start, shown.prompts, drawn.tokens)
            if critic:
                values = critic.values(shown, drawn, target=True)
        samples = Samples(policy, drawn.tokens, drawn.mask, batch, before, values)
        descend(arm.loss(samples), model, optimizer)
        if critic:
            critic.update(policy, batch, shown, drawn)
    return model


def evaluate(model: Qwen3ForCausalLM, pairs: Pairs, settings: Settings) -> tuple[Tensor, Tensor]:
    """Of each prompt whether the likeliest answer, token by token, is right, and whether a drawn one is. `[B]` each."""
    found = [
        draw(model, pairs.prompts, steps=settings.steps, seed=0, temperature=temperature).tokens
        for temperature in (0.0, 1.0)
    ]
    greedy, drawn = (is_right(tokens, pairs.answers).double() for tokens in found)
    return greedy, drawn
