"""Sequences that an encoder-decoder model is trained on beside its references: weighted edits, and samples of its own.

Notation: B sources, K sequences a source, N = B*K, T steps with the end token, L reference tokens without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import GenerationConfig

from softbellman.hf.forward import IGNORED
from softbellman.hf.rewards import PAYOFFS
from softbellman.payoffs import importance_weights, sample_edits

OBJECTIVES = ("raml", "soft_q", "vaml", "critic", "erac")


@dataclass(frozen=True, kw_only=True)
class CreditSettings:
    """What `Seq2SeqCreditTrainer` trains by.

    Attributes:
        objective: "raml", "soft_q", "vaml", "critic" or "erac".
        tau: temperature in the unit of the payoff, tokens; above 0, and 0 for the plain actor-critic.
        payoff: R, "bleu" (times the reference's length) or "edit_distance".
        payoff_options: of `bleu_rewards`, such as `smoothing`.
        samples: K, edited or drawn sequences a source.
        proposal: of edits: "ngram", "corrupt", "hamming" or "edit".
        proposal_options: of `sample_edits`, such as `max_order`, `rate`, `temperature`.
        keep_reference: whether the first of K edits is the reference.
        extra_tokens: how much longer than a batch's longest reference a drawn sequence may be.
        smoothness: lambda_var, the weight of the critic's variance over the vocabulary.
        target_speed: beta of `phi_bar <- beta phi + (1 - beta) phi_bar`, in (0, 1].
        likelihood_weight: lambda_mle, the weight of the references' likelihood beside the actor's objective, at least 0.
        critic_learning_rate: of the critic's Adam in "erac".
        reference_weight: of the likelihood of the reference under `softmax(Q / reference_tau)` in the critic's loss, at least
            0: it keeps the order of tokens that a critic which was trained to read the reference begins with.
        reference_tau: above 0, tokens.
    """

    objective: str
    tau: float
    payoff: str = "bleu"
    payoff_options: dict[str, Any] = field(default_factory=dict)
    samples: int = 4
    proposal: str = "ngram"
    proposal_options: dict[str, Any] = field(default_factory=dict)
    keep_reference: bool = True
    extra_tokens: int = 10
    smoothness: float = 0.001
    target_speed: float = 0.001
    likelihood_weight: float = 0.1
    critic_learning_rate: float = 1e-4
    reference_weight: float = 0.0
    reference_tau: float = 0.1

    def __post_init__(self) -> None:
        for name, known in (("objective", OBJECTIVES), ("payoff", tuple(PAYOFFS))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(map(repr, known))}, got {getattr(self, name)!r}"
                )
        if not (self.tau > 0.0 or (self.tau == 0.0 and self.objective in ("critic", "erac"))):
            raise ValueError(f"tau must be above 0, got {self.tau}; 0 is for 'critic' and 'erac'")
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")
        if not 0.0 < self.target_speed <= 1.0:
            raise ValueError(f"target_speed must be above 0 and at most 1, got {self.target_speed}")
        if not self.reference_tau > 0:
            raise ValueError(f"reference_tau must be above 0, got {self.reference_tau}")
        for name in ("smoothness", "likelihood_weight", "extra_tokens", "reference_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")


class References(NamedTuple):
    """Token ids without the end `[B, L]`, 0 behind the lengths `[B]`, and with it as a source `[B, L + 1]` with its mask."""

    tokens: Tensor
    lengths: Tensor
    source: Tensor
    attended: Tensor


class Sequences(NamedTuple):
    """K sequences a source.

    Attributes:
        labels: tokens, the end included where it is there, -100 behind, `[N, T]`.
        mask: True at real labels, `[N, T]`.
        rewards: `r_t` of Eq. (13), float32, `[N, T]`.
        weights: importance weights, each source's add up to 1, `[B, K]`; None for drawn ones.
    """

    labels: Tensor
    mask: Tensor
    rewards: Tensor
    weights: Tensor | None


def references_of(labels: Tensor, *, end: int, pad: int) -> References:
    """The references in the labels of a batch, int64 `[B, T]`, -100 or `pad` behind.

    A label that ends with the end token and one that was cut before it are both read up to there.
    """
    cut = (labels == IGNORED) | (labels == end) | (labels == pad)
    before = cut.cumsum(1) == 0  # (B, T)
    lengths = before.sum(1)
    longest = int(lengths.max()) if len(labels) else 0
    steps = torch.arange(longest + 1, device=labels.device)
    source = torch.nn.functional.pad(labels, (0, 1), value=pad)[:, : longest + 1]
    source = source.masked_fill(steps >= lengths[:, None], pad).masked_fill(steps == lengths[:, None], end)
    tokens = source[:, :longest].masked_fill(steps[:longest] >= lengths[:, None], 0)
    return References(tokens, lengths, source, (steps <= lengths[:, None]).long())


def weighted_edits(
    references: References,
    settings: CreditSettings,
    *,
    vocabulary: int,
    end: int,
    special_ids: Sequence[int],
    seed: int,
    offset: int,
) -> Sequences:
    """K edits of each reference, ended, with weights `exp(R / tau) / q`, self-normalised.

    Args:
        vocabulary: how many ids edits choose from, V; special ones are never changed or produced.
        end, special_ids: the end token, and at most 16 ids.
        seed, offset: key and counter of the draw.
    """
    drawn = sample_edits(
        references.tokens,
        references.lengths,
        samples=settings.samples,
        proposal=settings.proposal,
        vocabulary=vocabulary,
        seed=seed,
        offset=offset,
        special_ids=special_ids,
        keep_gold=settings.keep_reference,
        **settings.proposal_options,
    )
    sources, samples, width = drawn.tokens.shape
    ended = drawn.tokens.new_zeros(sources, samples, width + 1)
    ended[..., :-1] = drawn.tokens
    ended.scatter_(2, drawn.lengths[..., None], end)
    rewards = payoff_rewards(ended, drawn.lengths + 1, references, settings, end=end)
    weights = importance_weights(rewards.sum(-1), drawn.log_density, tau=settings.tau).weights
    mask = torch.arange(width + 1, device=ended.device) <= drawn.lengths[..., None]
    return _flat(ended, mask, rewards, weights.float())


@torch.no_grad()
def drawn_sequences(
    model: Any,
    source: dict[str, Tensor],
    references: References,
    settings: CreditSettings,
    *,
    end: int,
    pad: int,
    start: int,
    forbidden: Sequence[int],
) -> Sequences:
    """K sequences a source, drawn from the model's own distribution over tokens that are not forbidden, without dropout."""
    longest = references.tokens.shape[1] + settings.extra_tokens + 1
    generation = GenerationConfig(
        do_sample=True,
        top_k=0,
        num_return_sequences=settings.samples,
        max_new_tokens=longest,
        suppress_tokens=list(forbidden),
        eos_token_id=end,
        pad_token_id=pad,
        decoder_start_token_id=start,
    )
    training = model.training
    model.eval()
    try:
        with _generating_by(model, generation):
            tokens = model.generate(**source, generation_config=generation)[:, 1:]  # without the start
    finally:
        model.train(training)
    ended = (tokens == end).cumsum(1)
    mask = (ended == 0) | ((ended == 1) & (tokens == end))  # up to the first end
    shaped = tokens.view(len(references.tokens), settings.samples, -1)
    lengths = mask.sum(1).view(len(shaped), -1)
    rewards = payoff_rewards(shaped, lengths, references, settings, end=end)
    return _flat(shaped, mask.view(shaped.shape), rewards, None)


@contextmanager
def _generating_by(model: Any, generation: GenerationConfig) -> Iterator[None]:
    """Nothing but `generation`: what it leaves open transformers would take from the model's own, beams and penalties too."""
    holders = [
        module
        for module in model.modules()
        if isinstance(vars(module).get("generation_config"), GenerationConfig)
    ]
    kept = [holder.generation_config for holder in holders]
    for holder in holders:
        holder.generation_config = generation
    try:
        yield
    finally:
        for holder, own in zip(holders, kept, strict=True):
            holder.generation_config = own


def payoff_rewards(
    tokens: Tensor, lengths: Tensor, references: References, settings: CreditSettings, *, end: int
) -> Tensor:
    """`r_t` of sequences `[B, K, T]`, float64; 0 at the end token."""
    return PAYOFFS[settings.payoff](
        tokens.contiguous(),
        references.tokens,
        hypothesis_lengths=lengths,
        reference_lengths=references.lengths,
        eos_id=end,
        dtype=torch.float64,
        **settings.payoff_options,
    )


def _flat(tokens: Tensor, mask: Tensor, rewards: Tensor, weights: Tensor | None) -> Sequences:
    """`[B, K, T] -> [N, T]`, no longer than the longest."""
    longest = int(mask.sum(-1).max()) if mask.numel() else 0
    tokens, mask, rewards = (part[..., :longest].flatten(0, 1) for part in (tokens, mask, rewards))
    return Sequences(tokens.masked_fill(~mask, IGNORED), mask, rewards.float(), weights)
