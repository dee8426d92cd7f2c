"""From rewards of tokens to advantages of tokens, relative to the other completions of a prompt.

Notation: N completions, G of each prompt one behind the other, T tokens, tau temperature in the unit of the rewards.

A credit gives each token a number `x_t`, and the advantage is what `x_t` has over its mean in the group,

    A_t = (x_t - 1/G sum_k x_t^k) / (std + 1e-4),

x being 0 behind a completion's end, where nothing is to come. The mean includes the completion itself, as in GRPO: the
gradient is (1 - 1/G) times that with the mean of the others, which is unbiased. std is that of the completions' totals.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from softbellman.losses import td_targets
from softbellman.payoffs import optimal_completion_values

OFFSET = 1e-4
"""What TRL adds to a standard deviation before it divides by it."""


def rewards_to_go(rewards: Tensor, mask: Tensor) -> Tensor:
    """`x_t = sum_s>=t r_s`, `[N, T]`.

    Args:
        rewards: of each token, `[N, T]`.
        mask: True at a completion's tokens, a prefix of each row, `[N, T]`.

    Example:
        >>> rewards_to_go(torch.ones(1, 3), torch.tensor([[True, True, False]]))
        tensor([[2., 1., 0.]])
    """
    return td_targets(rewards, torch.zeros_like(rewards), mask, trace=1.0)


def soft_rewards_to_go(
    rewards: Tensor, log_probs: Tensor, entropies: Tensor, mask: Tensor, *, tau: float
) -> Tensor:
    """`x_t = r_t + sum_s>t (r_s + tau H_s) - tau log pi(y_t)`, `[N, T]`: one draw of `Q(y_<t, y_t) - tau log pi(y_t)`.

    Q is the entropy-regularised action value of the policy that drew the tokens, Eq. (19), without a critic; the mean of x_t
    over tokens is its soft value `V(y_<t)`. At tau = 0 it is `rewards_to_go`.

    Args:
        rewards: of each token, `[N, T]`.
        log_probs: `log pi(y_t | y_<t)`, nats, `[N, T]`.
        entropies: `H_t = H(pi(. | y_<t))`, nats, `[N, T]`.
        mask: True at a completion's tokens, a prefix of each row, `[N, T]`.
        tau: temperature, at least 0.
    """
    rewards = rewards.to(entropies.dtype)
    returns = td_targets(rewards, torch.zeros_like(rewards), mask, trace=1.0, bonuses=tau * entropies)
    return torch.where(mask, returns - tau * log_probs, 0.0)


def completion_regrets(
    completions: Sequence[Sequence[int]], references: Sequence[Sequence[int]], *, eos_id: int
) -> list[Tensor]:
    """`x_t = Q*(y_<t, y_t) - max_w Q*(y_<t, w)` of the edit distance: minus the edits that token t made unavoidable.

    `Q*` are the optimal completion values (`softbellman.optimal_completion_values`). The sum over the tokens of an ended
    completion is minus its edit distance.

    Args:
        completions: token ids, the end included where it is there.
        references: token ids without the end, one for each completion.
        eos_id: the token that ends a completion.

    Returns:
        Tokens at most 0, float32, `[T]` for each completion.

    Example:
        >>> completion_regrets([[5, 9, 7, 0]], [[5, 6, 7]], eos_id=0)
        [tensor([ 0., -1.,  0.,  0.])]
    """
    return [
        _regrets(tokens, reference, eos_id) for tokens, reference in zip(completions, references, strict=True)
    ]


def _regrets(tokens: Sequence[int], reference: Sequence[int], eos_id: int) -> Tensor:
    # Only ids that occur can differ in value, so a small vocabulary stands for the whole one.
    every = torch.tensor([eos_id, *tokens, *reference])
    ids, renamed = torch.unique(every, return_inverse=True)
    hypothesis = renamed[1 : 1 + len(tokens)][None]
    values = optimal_completion_values(
        hypothesis, renamed[1 + len(tokens) :][None], vocabulary=len(ids), eos_id=int(renamed[0])
    )
    taken = values.gather(2, hypothesis[..., None])[..., 0]
    return (taken - values.amax(2))[0]  # (1, T) -> (T,)


def group_advantages(
    values: Tensor, totals: Tensor, counted: Tensor, *, group: int, scale: str = "group"
) -> Tensor:
    """`A_t = (x_t - mean_group x_t) / (std + 1e-4)`, see the head of this module.

    Args:
        values: `x_t`, 0 behind the end, `[N, T]`.
        totals: of each completion, what the standard deviation is that of, `[N]`.
        counted: False at completions without a reward, which join no mean and get advantage 0, bool `[N]`.
        group: G, completions a prompt; N is a multiple.
        scale: "group": std over the group, "batch": over all completions, "none": no division.

    Returns:
        Advantages `[N, T]`, not masked: behind the end they are minus the group's mean.

    Raises:
        ValueError: another scale.

    Example:
        >>> values, all_counted = torch.tensor([[3.0, 1.0], [1.0, 0.0]]), torch.tensor([True, True])
        >>> group_advantages(values, values[:, 0], all_counted, group=2, scale="none")
        tensor([[ 1.0000,  0.5000],
                [-1.0000, -0.5000]])
    """
    if scale not in ("group", "batch", "none"):
        raise ValueError(f"scale must be 'group', 'batch' or 'none', got {scale!r}")
    real = counted.view(-1, group, 1).to(values.dtype)  # (P, G, 1)
    grouped = values.view(-1, group, values.shape[1])  # (P, G, T)
    mean = (grouped * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp(min=1)
    advantages = ((grouped - mean) * real).view_as(values)
    if scale == "none":
        return advantages
    rows = totals.view(-1, group) if scale == "group" else totals.view(1, -1)
    deviation = _deviation(rows, counted.view(rows.shape))  # (P, 1) or (1, 1)
    return advantages / (deviation.expand(rows.shape).reshape(-1, 1) + OFFSET)


def _deviation(totals: Tensor, counted: Tensor) -> Tensor:
    """Standard deviation with Bessel's correction over the counted entries of each row, `[P, G] -> [P, 1]`; 0 for one."""
    real = counted.to(totals.dtype)
    count = real.sum(1, keepdim=True)
    mean = (totals * real).sum(1, keepdim=True) / count.clamp(min=1)
    squares = ((totals - mean).square() * real).sum(1, keepdim=True)
    return (squares / (count - 1).clamp(min=1)).sqrt()
