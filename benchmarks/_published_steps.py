"""One update of every stage, the published way, on the networks of `_published_networks`.

Every step takes the batch and the settings our own stage takes and computes the published objective (the preset
`published`), on time-major tensors and at full padding: separate elementwise passes over [T, N, V], the graph of
the sampled actor kept, PyTorch's default optimisers. A step returns its losses, so that a test can hold them
against ours.

Notation: B sources, K sequences per source, N = B*K, T steps, V vocabulary.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks._published_networks import PublishedNetwork
from benchmarks._published_payoff import corrupt, dense_prefix_bleu, replace_ngrams
from softbellman.data import BOS, EOS, PAD, Batch
from softbellman.models import AttentionSeq2Seq
from softbellman.training.settings import OptimizerSettings, Settings

Losses = dict[str, Tensor]


def optimizer_of(module: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    if settings.name == "sgd":
        return torch.optim.SGD(module.parameters(), lr=settings.learning_rate)
    return torch.optim.Adam(module.parameters(), lr=settings.learning_rate, betas=(settings.beta1, 0.999))


def descend(loss: Tensor, module: nn.Module, optimizer: torch.optim.Optimizer, clip: float) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(module.parameters(), clip)
    optimizer.step()


def likelihood(network: PublishedNetwork, source: Tensor, target: Tensor) -> Tensor:
    """Negative log-likelihood of `target` [T + 1, N], each row's sum over its tokens: [N]."""
    labels = target[1:]
    log_prob: Tensor = network(source, target[:-1]).log_softmax(dim=2)
    nll = -log_prob.gather(2, labels[..., None]).squeeze(2) * (labels != PAD)
    return nll.sum(0)


class LikelihoodStep:
    """Maximum likelihood."""

    def __init__(self, settings: Settings, actor: AttentionSeq2Seq) -> None:
        self.network = PublishedNetwork(actor).train()
        self.optimizer = optimizer_of(self.network, settings.actor.optimizer)
        self.clip = settings.actor.optimizer.clip

    def update(self, batch: Batch) -> Losses:
        loss = likelihood(self.network, batch.source.t(), batch.target.t()).mean()
        descend(loss, self.network, self.optimizer, self.clip)
        return {"actor": loss.detach()}


class Draw(NamedTuple):
    """Tokens [T, N], log-probabilities [T, N, V] with their graph, rewards and mask [T, N]."""

    tokens: Tensor
    log_probs: Tensor
    rewards: Tensor
    mask: Tensor


class CriticStep:
    """Policy evaluation of a fixed actor, whose graph is built and thrown away; base of the joint step."""

    def __init__(self, settings: Settings, actor: AttentionSeq2Seq, critic: AttentionSeq2Seq) -> None:
        self.settings = settings
        self.actor = PublishedNetwork(actor).train()
        self.critic = PublishedNetwork(critic).train()
        self.target = copy.deepcopy(self.critic)
        own = settings.critic
        self.samples, self.extra = own.samples, own.extra_length
        self.critic_optimizer, self.clip = optimizer_of(self.critic, own.optimizer), own.optimizer.clip

    def draw(self, batch: Batch, forced: Tensor | None) -> Draw:
        longest = min(batch.target.shape[1] + self.extra, self.settings.data.max_length)
        tokens, log_probs = self.actor.sample(
            batch.source.t(), samples=self.samples, longest=longest, forced=forced
        )
        mask = tokens != PAD
        return Draw(tokens, log_probs, self.rewards(batch, tokens), mask)

    def rewards(self, batch: Batch, tokens: Tensor) -> Tensor:
        """Differences of the prefix BLEU times the reference's length. Shape: [T, N]."""
        words = tokens.masked_fill(tokens == EOS, PAD).t()
        hypotheses = words.reshape(len(batch), -1, len(tokens))  # (N, T) -> (B, K, T)
        scores = dense_prefix_bleu(
            hypotheses, (hypotheses != PAD).sum(2), batch.references[:, 0], batch.reference_lengths[:, 0]
        )
        scores = scores * batch.reference_lengths[:, :1, None]
        return scores.diff(dim=2, prepend=torch.zeros_like(scores[..., :1])).flatten(0, 1).t()

    def critic_loss(self, batch: Batch, drawn: Draw, *, masked: bool) -> tuple[Tensor, Tensor]:
        """The critic's loss, half the squared error and the variance over V; and Q [T, N, V]."""
        tau = self.settings.credit.tau
        prefix = torch.cat([torch.full_like(drawn.tokens[:1], BOS), drawn.tokens[:-1]])
        reference = batch.labels.t()
        mask = drawn.mask.float()
        q = self.critic(reference, prefix)
        taken = q.gather(2, drawn.tokens[..., None]).squeeze(2)
        with torch.no_grad():
            averaged = self.target(reference, prefix)
        log_probs = drawn.log_probs.detach()
        value = (log_probs.exp() * (averaged - tau * log_probs)).sum(2) * mask
        targets = drawn.rewards * mask
        targets[:-1] += value[1:]
        weight = mask if masked else torch.ones_like(mask)
        loss = 0.5 * (taken - targets) ** 2 * weight
        loss = loss + self.settings.credit.smoothness * q.var(2) * weight
        return loss.sum(0).mean(), q.detach()

    @torch.no_grad()
    def follow(self) -> None:
        speed = self.settings.credit.target_speed
        for ours, theirs in zip(self.target.parameters(), self.critic.parameters(), strict=True):
            ours.mul_(1 - speed).add_(theirs, alpha=speed)

    def update(self, batch: Batch, forced: Tensor | None = None) -> Losses:
        loss, _ = self.critic_loss(batch, self.draw(batch, forced), masked=True)
        descend(loss, self.critic, self.critic_optimizer, self.clip)
        self.follow()
        return {"critic": loss.detach()}


class JointStep(CriticStep):
    """Actor and critic together."""

    def __init__(self, settings: Settings, actor: AttentionSeq2Seq, critic: AttentionSeq2Seq) -> None:
        super().__init__(settings, actor, critic)
        own = settings.joint
        self.samples, self.extra = own.samples, own.extra_length
        self.actor_optimizer = optimizer_of(self.actor, own.actor_optimizer)
        self.critic_optimizer = optimizer_of(self.critic, own.critic_optimizer)

    def update(self, batch: Batch, forced: Tensor | None = None) -> Losses:
        tau, own = self.settings.credit.tau, self.settings.joint
        drawn = self.draw(batch, forced)
        critic_loss, q = self.critic_loss(batch, drawn, masked=False)
        log_probs = drawn.log_probs.detach()
        signal = q - tau * log_probs / (log_probs.norm(dim=2, keepdim=True) + 1e-8)
        actor_loss = (-(signal * drawn.log_probs.exp()).sum(2) * drawn.mask).sum(0).mean()
        mle_loss = likelihood(self.actor, batch.source.t(), batch.target.t()).mean()
        descend(
            actor_loss + own.mle_weight * mle_loss,
            self.actor,
            self.actor_optimizer,
            own.actor_optimizer.clip,
        )
        descend(critic_loss, self.critic, self.critic_optimizer, own.critic_optimizer.clip)
        self.follow()
        return {"critic": critic_loss.detach(), "actor": actor_loss.detach(), "mle": mle_loss.detach()}


Edit = Callable[[list[list[int]], int, int, random.Random], list[list[int]]]


class Edited:
    """Edited references with their prefix payoffs."""

    def __init__(self, edit: Edit, samples: int, vocabulary: int) -> None:
        self.edit, self.samples, self.vocabulary = edit, samples, vocabulary
        self.generator = random.Random(1)

    def draw(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Sequences [T + 1, N], BOS to EOS, and their prefix BLEU in [0, 1] at each label, [T, N]."""
        lengths = batch.reference_lengths[:, 0].tolist()
        references = [
            row[:length] for row, length in zip(batch.references[:, 0].tolist(), lengths, strict=True)
        ]
        edited = self.edit(references, self.samples, self.vocabulary, self.generator)
        longest = max(map(len, edited))
        rows = [[BOS, *row, EOS, *[PAD] * (longest - len(row))] for row in edited]
        target = torch.tensor(rows, device=batch.target.device)
        return target.t(), self.score(batch, target)

    @staticmethod
    def score(batch: Batch, target: Tensor) -> Tensor:
        """Prefix BLEU of `target` [N, T + 1] at each label, that of the whole behind its end: [T, N]."""
        words = (
            target[:, 1:].masked_fill(target[:, 1:] == EOS, PAD).reshape(len(batch), -1, target.shape[1] - 1)
        )
        scores = dense_prefix_bleu(
            words, (words != PAD).sum(2), batch.references[:, 0], batch.reference_lengths[:, 0]
        )
        return scores.flatten(0, 1).t()


class OracleStep:
    """Soft Q-learning; the state behind the end lends its value, as published."""

    def __init__(self, settings: Settings, oracle: AttentionSeq2Seq) -> None:
        self.tau, own = settings.oracle.tau, settings.oracle
        self.network = PublishedNetwork(oracle).train()
        self.optimizer, self.clip = optimizer_of(self.network, own.optimizer), own.optimizer.clip
        self.edited = Edited(corrupt, own.edits.samples, self.network.output.out_features)

    def update(self, batch: Batch, forced: Tensor | None = None) -> Losses:
        """`forced`: the edited references [T + 1, N] to take."""
        if forced is None:
            target, scores = self.edited.draw(batch)
        else:
            target, scores = forced, self.edited.score(batch, forced.t())
        labels = target[1:]
        mask = (labels != PAD).float()
        lengths = batch.reference_lengths[:, 0].repeat_interleave(target.shape[1] // len(batch))
        rewards = (scores * lengths).diff(dim=0, prepend=torch.zeros_like(scores[:1]))
        q = self.network(batch.labels.t(), target)  # [T + 1, N, V]
        values = self.tau * (q / self.tau).logsumexp(dim=2)
        taken = q[:-1].gather(2, labels[..., None]).squeeze(2)
        residual = (taken - rewards - values[1:]) * mask
        loss = residual.square().sum(0).mean()
        descend(loss, self.network, self.optimizer, self.clip)
        return {"oracle": loss.detach()}


class AugmentedStep:
    """RAML, and VAML where there is an oracle: Bernoulli mixture of its distribution and the next token."""

    def __init__(self, settings: Settings, actor: AttentionSeq2Seq, oracle: AttentionSeq2Seq | None) -> None:
        self.tau, own = settings.oracle.tau, settings.augmented
        self.share = own.oracle_share
        self.network = PublishedNetwork(actor).train()
        self.oracle = None if oracle is None else PublishedNetwork(oracle).eval()
        self.optimizer, self.clip = optimizer_of(self.network, own.optimizer), own.optimizer.clip
        self.edited = Edited(replace_ngrams, own.edits.samples, self.network.output.out_features)

    def update(self, batch: Batch, forced: Tensor | None = None) -> Losses:
        """`forced`: the edited references [T + 1, N] to take."""
        if forced is None:
            target, scores = self.edited.draw(batch)
        else:
            target, scores = forced, self.edited.score(batch, forced.t())
        prefix, labels = target[:-1], target[1:]
        mask = labels != PAD
        weights = scores[-1].view(len(batch), -1).softmax(dim=1).flatten()  # of whole sequences, [N]
        log_prob = self.network(batch.source.t(), prefix).log_softmax(dim=2)
        rows = -log_prob.gather(2, labels[..., None]).squeeze(2)
        if self.oracle is not None:
            with torch.no_grad():
                q = self.oracle(batch.labels.t(), prefix)
                wanted = (q / self.tau).softmax(dim=2)
            distilled = -(wanted * log_prob).sum(2)
            taken = torch.rand(rows.shape, device=rows.device) < self.share
            rows = torch.where(taken, distilled, rows)
        loss = (rows * mask * weights).sum() / len(batch)
        descend(loss, self.network, self.optimizer, self.clip)
        return {"actor": loss.detach()}
