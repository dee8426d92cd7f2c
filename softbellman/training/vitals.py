"""What a validation measures of actor and critic beside their scores.

Where in a sentence the Bellman residual lies, how long and how random drawn sequences are, which term of its loss moves the
actor. It is measured on some validation sentences, in evaluation mode, without a backward pass through a network. No weight
and no draw of a run changes by it.

Notation: B sentences, N drawn sequences, T steps, M real tokens (rows), V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from softbellman.core.chunks import CPU_CHUNK_BYTES
from softbellman.core.head import Head, Rows
from softbellman.data import Batch
from softbellman.losses import actor_loss, token_cross_entropy
from softbellman.training.rollout import Rollout, mode, vocabulary_rows
from softbellman.training.settings import JointStageSettings

if TYPE_CHECKING:
    from softbellman.training.stages import PolicyEvaluation

QUARTERS = 4
"""Parts of a sentence whose Bellman residuals are told apart."""

SENTENCES = 100
"""Validation sentences measured: some 1,000 tokens, whose mean entropy is known to a few hundredths of a nat."""

_COPIES = 5  # logits, values, zeros and two gradients of a chunk exist at one time

Sums = dict[str, Tensor]


@torch.no_grad()
def measure(
    evaluation: PolicyEvaluation, batches: Sequence[Batch], settings: JointStageSettings
) -> dict[str, float]:
    """Measure actor and critic on sequences drawn from the actor, the same draws at every call.

    Args:
        evaluation: actor, critic, target critic, and how sequences are drawn.
        batches: validation sentences with their references.
        settings: of the joint stage: whose values the actor follows, and the weight of its maximum-likelihood term.

    Returns:
        By name, in the unit of the payoff where no other is named:
        `dev_td_error_q1` to `dev_td_error_q4`: mean absolute `Q(y_<t, y_t) - Qhat_t`, Eq. (18), in the first to the last
        quarter of the sentence; NaN for a quarter without a token.
        `dev_entropy`: mean entropy of the policy in the states of the drawn tokens, nats.
        `dev_sample_length_ratio`: drawn tokens over those of the references, without end tokens.
        `dev_unended`: share of the sequences that had not ended at their largest length.
        `gradient_value`, `gradient_entropy`, `gradient_likelihood`: norm of the gradient of each term of the actor's loss with
        respect to all its logits: `-sum_w pi Q`, `-tau H`, and the weighted negative log-likelihood of the references. A loss
        is the sum over tokens and the mean over sequences.
        `gradient_returns`: of the term weighted by `return_weight`, where there is one.
    """
    sums: Sums = {}
    devices = [batch.source.device for batch in batches[:1] if batch.source.is_cuda]
    with (
        torch.random.fork_rng(
            devices
        ),  # draws with dropout (credit.sampling_dropout) would move what follows
        mode(evaluation.critic, training=False),
        mode(evaluation.actor, training=False),
    ):
        for step, batch in enumerate(batches):
            for name, value in _measure_batch(evaluation, batch, step, settings).items():
                sums[name] = sums[name] + value if name in sums else value
    found: dict[str, Any] = {name: value.tolist() for name, value in sums.items()}
    parts = zip(found["td_error"], found["tokens"], strict=True)
    sequences, sentences = found["sequences"], found["sequences"] / evaluation.samples
    returns = {}
    if settings.return_weight:
        norm = math.sqrt(found["squared_returns"]) / sequences
        returns["gradient_returns"] = settings.return_weight * norm
    return {
        **returns,
        **{f"dev_td_error_q{part}": _ratio(*pair) for part, pair in enumerate(parts, start=1)},
        "dev_entropy": _ratio(found["entropy"], sum(found["tokens"])),
        "dev_sample_length_ratio": _ratio(found["drawn"], found["wanted"]),
        "dev_unended": _ratio(found["unended"], sequences),
        "gradient_value": math.sqrt(found["squared_value"]) / sequences,
        "gradient_entropy": math.sqrt(found["squared_entropy"]) / sequences,
        "gradient_likelihood": settings.mle_weight * math.sqrt(found["squared_likelihood"]) / sentences,
    }


def quarters(mask: Tensor) -> Tensor:
    """The quarter of its sequence that each position lies in, 0 to 3, from the mask of real positions. `[N, T]` -> `[N, T]`."""
    place = torch.arange(mask.shape[1], device=mask.device)
    length = mask.sum(1, keepdim=True).clamp(min=1)
    return torch.div(QUARTERS * place, length, rounding_mode="floor").clamp(max=QUARTERS - 1)


def _measure_batch(
    evaluation: PolicyEvaluation, batch: Batch, step: int, settings: JointStageSettings
) -> Sums:
    """The sums of one batch, float64; `td_error` and `tokens` by quarter, `[4]`."""
    rollout = evaluation.draw(batch, step)
    policy = evaluation.policy(batch, rollout)
    prior = evaluation.prior_policy(batch, rollout)
    targets, averaged, _, returns = evaluation.backup(batch, rollout, policy, prior=prior)
    returns = returns.flatten()[rollout.rows]
    q = vocabulary_rows(
        evaluation.critic, batch.critic_source, rollout.prefix, rollout.rows, logits="chunked"
    )
    followed = q if settings.follow == "critic" else averaged
    actions = rollout.actions.flatten()[rollout.rows]
    sums = {name: targets.new_zeros((), dtype=torch.float64) for name in _OF_ROWS}
    taken = []
    for part in _chunks(policy):
        values = _whole(q, part)
        taken.append(values.gather(1, actions[part, None]).squeeze(1))
        if followed is not q:
            values = _whole(followed, part)
        start = None if prior is None else _whole(prior, part)
        logits = _whole(policy, part)
        for name, value in _policy_terms(logits, values, start, evaluation).items():
            sums[name] += value
        if settings.return_weight:
            missed = returns[part] - values.gather(1, actions[part, None]).squeeze(1)
            sums["squared_returns"] += _likelihood_gradient(logits, actions[part], missed)
    error = (torch.cat(taken) - targets.flatten()[rollout.rows]).abs().double()
    quarter = quarters(rollout.mask).flatten()[rollout.rows]
    by_quarter = error.new_zeros(QUARTERS)
    sums["td_error"] = by_quarter.index_add(0, quarter, error)
    sums["tokens"] = by_quarter.index_add(0, quarter, torch.ones_like(error))
    return {
        **sums,
        **_lengths(rollout, batch, evaluation.samples),
        "squared_likelihood": _likelihood_term(evaluation, batch),
    }


_OF_ROWS = ("entropy", "squared_value", "squared_entropy", "squared_returns")


def _policy_terms(logits: Tensor, q: Tensor, prior: Tensor | None, evaluation: PolicyEvaluation) -> Sums:
    """Entropy and squared gradient norms of the two terms of Eq. (20), of some rows `[C, V]`.

    With a prior the second term is the divergence from it.
    """
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        value, entropy = actor_loss(leaf, q, tau=0.0, entropy="none", reduction="sum")
        bonus = actor_loss(
            leaf,
            torch.zeros_like(q),
            tau=evaluation.actor_tau,
            entropy=evaluation.credit.actor_entropy,
            prior=prior,
            reduction="sum",
        ).loss
    return {
        "entropy": entropy.sum(dtype=torch.float64),
        "squared_value": _squared_gradient(value, leaf),
        "squared_entropy": _squared_gradient(bonus, leaf),
    }


def _likelihood_term(evaluation: PolicyEvaluation, batch: Batch) -> Tensor:
    """Squared gradient norm of the references' negative log-likelihood, its weight left out."""
    said = vocabulary_rows(evaluation.actor, batch.source, batch.prefix, batch.rows, logits="chunked")
    labels = batch.labels.flatten()[batch.rows]
    total = torch.zeros((), dtype=torch.float64, device=labels.device)
    for part in _chunks(said):
        total += _likelihood_gradient(_whole(said, part), labels[part])
    return total


def _likelihood_gradient(logits: Tensor, tokens: Tensor, weights: Tensor | None = None) -> Tensor:
    """Squared gradient norm of a weighted log-likelihood of tokens `[C]` under rows `[C, V]`."""
    with torch.enable_grad():
        leaf = logits.detach().requires_grad_()
        loss = token_cross_entropy(leaf, tokens, reduction="sum", row_weights=weights)
    return _squared_gradient(loss, leaf)


def _squared_gradient(loss: Tensor, leaf: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, leaf)
    return gradient.square().sum(dtype=torch.float64)


def _lengths(rollout: Rollout, batch: Batch, samples: int) -> Sums:
    lengths = rollout.mask.sum(1)
    ended = rollout.actions.gather(1, lengths[:, None] - 1).squeeze(1) == batch.special.eos
    return {
        "sequences": torch.tensor(float(len(lengths)), dtype=torch.float64),
        "drawn": (lengths - ended.long()).sum().double(),
        "wanted": samples * batch.reference_lengths[:, 0].sum().double(),
        "unended": (~ended).sum().double(),
    }


def _chunks(rows: Rows) -> Iterator[slice]:
    """Slices of rows `[M, V]` whose logits and gradients fit the memory of a chunk."""
    count, vocabulary = rows.shape
    size = max(1, CPU_CHUNK_BYTES // (_COPIES * 4 * vocabulary))
    for first in range(0, count, size):
        yield slice(first, first + size)


def _whole(rows: Rows, part: slice) -> Tensor:
    """Some rows over the vocabulary, `[C, V]`."""
    chunk = rows[part]
    return chunk.logits() if isinstance(chunk, Head) else chunk


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan
