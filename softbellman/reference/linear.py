"""The operators that start from hidden states: the logits whole, then the reference of the operator on logits.

Masked rows are projected from zeros, so that what they hold reaches neither a result nor the gradient of a weight.
`chunk_rows` is taken for the sake of one signature and changes nothing.
"""

from __future__ import annotations

from torch import Tensor

from softbellman.reference.actor import ActorLoss, actor_loss
from softbellman.reference.critic import CriticLoss, critic_loss
from softbellman.reference.cross_entropy import soft_target_cross_entropy, token_cross_entropy
from softbellman.reference.policy_value import PolicyValue, policy_value
from softbellman.reference.rows import clear_masked
from softbellman.reference.sampling import TokenSample, sample_tokens
from softbellman.reference.soft_bellman import soft_bellman_residual
from softbellman.reference.soft_value import soft_value


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor | None) -> Tensor:
    """`hidden @ weight.T + bias`, [..., H] and [V, H] -> [..., V]."""
    if mask is not None:
        hidden = hidden.masked_fill(~mask.unsqueeze(-1), 0.0)
    logits = hidden @ weight.T
    return logits if bias is None else logits + bias


def _reduce(loss: Tensor, reduction: str, mask: Tensor | None, row_weights: Tensor | None = None) -> Tensor:
    """Rows, which are 0 where masked, as they are, summed, or averaged over the real ones; weighted where reduced."""
    if reduction == "none":
        return loss
    if row_weights is not None:
        loss = clear_masked(row_weights.detach(), mask) * loss
    real = loss.numel() if mask is None else mask.sum().clamp(min=1)
    return loss.sum() if reduction == "sum" else loss.sum() / real


def linear_token_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    reduction: str = "none",
    row_weights: Tensor | None = None,
    chunk_rows: int | None = None,
) -> Tensor:
    """`-log pi(target)` of pi = softmax(hidden @ weight.T + bias) -> [...] or a scalar."""
    loss = token_cross_entropy(_logits(hidden, weight, bias, mask), targets, mask)
    return _reduce(loss, reduction, mask, row_weights)


def linear_soft_target_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    q_hidden: Tensor,
    q_weight: Tensor,
    bias: Tensor | None = None,
    q_bias: Tensor | None = None,
    *,
    tau: float,
    mask: Tensor | None = None,
    targets: Tensor | None = None,
    oracle_weight: float | Tensor = 1.0,
    reduction: str = "none",
    row_weights: Tensor | None = None,
    chunk_rows: int | None = None,
) -> Tensor:
    """Cross-entropy of one head's policy under another's softmax(q / tau), mixed with targets -> [...] or a scalar."""
    loss = soft_target_cross_entropy(
        _logits(hidden, weight, bias, mask),
        _logits(q_hidden, q_weight, q_bias, mask),
        tau=tau,
        mask=mask,
        targets=targets,
        oracle_weight=oracle_weight,
    )
    return _reduce(loss, reduction, mask, row_weights)


def linear_soft_value(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    tau: float,
    prior: Tensor | None = None,
    mask: Tensor | None = None,
    chunk_rows: int | None = None,
) -> Tensor:
    """`tau * log sum_w prior(w) exp(q(w) / tau)` of q = hidden @ weight.T + bias -> [...]."""
    return soft_value(_logits(hidden, weight, bias, mask), tau=tau, prior=prior, mask=mask)


def linear_soft_bellman_residual(
    hidden: Tensor,
    weight: Tensor,
    actions: Tensor,
    rewards: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    tau: float,
    terminal: Tensor | None = None,
    chunk_rows: int | None = None,
) -> Tensor:
    """`q_t(a_t) - (r_t + V_{t+1})` of q = hidden @ weight.T + bias, hidden [B, T, H] -> [B, T]."""
    return soft_bellman_residual(
        _logits(hidden, weight, bias, mask), actions, rewards, mask, tau=tau, terminal=terminal
    )


def linear_critic_loss(
    hidden: Tensor,
    weight: Tensor,
    actions: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    smoothness: float = 0.0,
    reduction: str = "none",
    chunk_rows: int | None = None,
) -> CriticLoss:
    """`critic_loss` of q = hidden @ weight.T + bias; the reduction is of the loss alone."""
    rows = critic_loss(_logits(hidden, weight, bias, mask), actions, targets, mask, smoothness=smoothness)
    return rows._replace(loss=_reduce(rows.loss, reduction, mask))


def linear_policy_value(
    hidden: Tensor,
    weight: Tensor,
    q_hidden: Tensor,
    q_weight: Tensor,
    bias: Tensor | None = None,
    q_bias: Tensor | None = None,
    *,
    tau: float,
    mask: Tensor | None = None,
    chunk_rows: int | None = None,
) -> PolicyValue:
    """`sum_w pi(w) [q(w) - tau log pi(w)]` and the entropy, pi of one head and q of another -> two of [...]."""
    logits, q = _logits(hidden, weight, bias, mask), _logits(q_hidden, q_weight, q_bias, mask)
    return policy_value(logits, q, tau=tau, mask=mask)


def linear_actor_loss(
    hidden: Tensor,
    weight: Tensor,
    q_hidden: Tensor,
    q_weight: Tensor,
    bias: Tensor | None = None,
    q_bias: Tensor | None = None,
    *,
    tau: float,
    mask: Tensor | None = None,
    entropy: str = "exact",
    reduction: str = "none",
    chunk_rows: int | None = None,
) -> ActorLoss:
    """`-(sum_w pi(w) q(w) + tau H(pi))`, pi of one head, the q of another a constant; the reduction is of the loss."""
    logits, q = _logits(hidden, weight, bias, mask), _logits(q_hidden, q_weight, q_bias, mask)
    rows = actor_loss(logits, q, tau=tau, mask=mask, entropy=entropy)
    if reduction == "none":
        return rows
    return ActorLoss(_reduce(rows.loss, reduction, mask), rows.entropy.detach())


def linear_sample_tokens(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    seed: int | Tensor,
    offset: int | Tensor = 0,
    temperature: float = 1.0,
    forbidden: Tensor | None = None,
    mask: Tensor | None = None,
    row_numbers: Tensor | None = None,
    chunk_rows: int | None = None,
) -> TokenSample:
    """One token per row of softmax((hidden @ weight.T + bias) / temperature) without the forbidden tokens."""
    return sample_tokens(
        _logits(hidden, weight, bias, mask),
        seed=seed,
        offset=offset,
        temperature=temperature,
        forbidden=forbidden,
        mask=mask,
        row_numbers=row_numbers,
    )
