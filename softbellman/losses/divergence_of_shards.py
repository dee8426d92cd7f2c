"""Divergences of two distributions whose vocabulary is spread over processes.

With shares `s_k` of the processes and the distributions within them, a Kullback-Leibler divergence is
`KL(s_o || s_p) + sum_k s_o,k KL(o_k || p_k)`: terms of at least 0, each with its own digits. Mixtures have other weights
within each process, so the terms of a Jensen-Shannon divergence are summed with the normalisers of the whole rows.

Notation: S processes, C rows of a chunk, V columns of this process.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from softbellman.core.shards import (
    Exchange,
    Normalizers,
    cleared,
    counted,
    divergence_of_shares,
    merge_normalizers,
)

KINDS = ("forward_kl", "reverse_kl", "jsd")  # by the native core's number
FORWARD_KL, REVERSE_KL, JSD = range(len(KINDS))
_BLOCK = 1 << 16  # numbers of a chunk that are widened at one time


def divergence_of_shards(
    forward: Callable[..., tuple[Tensor, ...]],
    logits: Tensor,
    other: Tensor,
    kind: int,
    beta: float,
    temperature: float,
    other_temperature: float,
    mask: Tensor | None,
    exchange: Exchange,
) -> tuple[Tensor, ...]:
    """What `forward`, the divergence's kernel, gives, of rows whose columns `[C, V]` are spread over processes."""
    of_own_tokens = FORWARD_KL if kind == JSD else kind  # a mixture needs the normalisers alone
    own = forward(logits, other, of_own_tokens, beta, temperature, other_temperature, mask)
    own_divergences, *every = exchange(*own[:5])
    policy = merge_normalizers(every[0], every[1], logits, temperature=temperature, mask=mask)
    target = merge_normalizers(every[2], every[3], other, temperature=other_temperature, mask=mask)
    first, second = (policy, target) if kind == REVERSE_KL else (target, policy)
    mixture = torch.zeros_like(policy.exact)
    if kind != JSD:
        found = divergence_of_shares(first, second) + counted(first.shares, own_divergences)
    else:
        rows = [(other, target, other_temperature), (logits, policy, temperature)]
        weight = beta
        if beta > 0.5:  # the second of a mixture has the larger weight
            rows.reverse()
            weight = 1.0 - beta
        from_first, mixture = exchange(*_mixture_sums(*rows[0], *rows[1], weight)).sum(1)
        found = weight * from_first + (1.0 - weight) * mixture
    absent = (policy.exact == -torch.inf) | (target.exact == -torch.inf)
    return (
        cleared(found.masked_fill(absent, 0.0), logits, mask),
        cleared(policy.rounded, logits, mask),
        policy.correction,
        cleared(target.rounded, logits, mask),
        target.correction,
        cleared(mixture.masked_fill(absent, 0.0), logits, mask),
    )


def _mixture_sums(
    x: Tensor,
    of_x: Normalizers,
    x_temperature: float,
    y: Tensor,
    of_y: Normalizers,
    y_temperature: float,
    weight: float,
) -> tuple[Tensor, Tensor]:
    """What the columns add to `KL(first || m)` and `KL(second || m)`, `[C]` each; `weight` is that of the first in m."""
    of_first, of_second = (torch.zeros_like(of_x.exact) for _ in range(2))
    size = max(1, _BLOCK // max(1, len(x)))
    for start in range(0, x.shape[-1], size):
        block = slice(start, start + size)
        log_first, log_second = (
            (rows[:, block].double() - whole.exact.unsqueeze(1)) / temperature
            for rows, whole, temperature in ((x, of_x, x_temperature), (y, of_y, y_temperature))
        )
        first, second = log_first.exp(), log_second.exp()
        ratio = (log_first - log_second).clamp(
            -700.0, 700.0
        )  # beyond it one of the two is 0 beside the other
        mixture = weight * first + (1.0 - weight) * second
        of_first += _terms(first, mixture, -torch.log1p((1.0 - weight) * torch.expm1(-ratio)))
        of_second += _terms(second, mixture, -torch.log1p(weight * torch.expm1(ratio)))
    return of_first, of_second


def _terms(of: Tensor, mixture: Tensor, ratio: Tensor) -> Tensor:
    """`sum of log(of / mixture) - of + mixture` over columns, `ratio` being the logarithm; terms of at least 0."""
    terms = of * (torch.expm1(-ratio) + ratio)
    return torch.where(of > 0.0, terms, mixture).sum(-1)
