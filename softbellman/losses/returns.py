"""Targets of the critic along drawn sequences: Eq. (19), and the entropy-regularised lambda-return.

A few numbers for each token. The sums over the steps to come are taken by doubling, in log2(T) operations on `[N, T]`.
"""

from __future__ import annotations

from torch import Tensor, where, zeros_like
from torch.nn.functional import pad

from softbellman.core.checks import check_fraction
from softbellman.core.masks import boolean_mask


def td_targets(
    rewards: Tensor, values: Tensor, mask: Tensor, *, trace: float = 0.0, bonuses: Tensor | None = None
) -> Tensor:
    """Critic targets: `Qhat_t = r_t + V(y_1..t)`, Eq. (19), or with a trace the return over all steps to come.

    The entropy-regularised lambda-return, lambda being the trace, is

        G_t = r_t + (1 - lambda) V(y_1..t) + lambda [bonus(y_1..t) + G_t+1]

    At 1 it is the Monte-Carlo return: no value is read. For tokens drawn from the policy all of them have the mean
    `Q(y_<t, y_t)` where the values are exact. Differentiable in rewards, values and bonuses.

    Args:
        rewards: incremental payoffs `r_t`, `[N, T]`.
        values: value of the state BEFORE token t, `V(y_<t)`, its entropy included, `[N, T]`.
        mask: True at real tokens, a prefix of each row, `[N, T]`.
        trace: lambda, from 0 to 1.
        bonuses: what `V(y_<t)` contains beside the expected action value, in the unit of the rewards, `[N, T]`:
            `tau H(pi(.|y_<t))`, or `-tau KL(pi, pi_0)` with a prior. None: nothing, as at tau = 0. Not read at trace 0.

    Returns:
        Targets in the type of values, `[N, T]`. Nothing is bootstrapped after the last real token, Eq. (6): neither after the
        end token nor where a limit of the length cut the sequence, which ends it with reward 0. Padding is not read and
        gives 0.

    Raises:
        TypeError, ValueError: a trace that is no number from 0 to 1, arguments of different shapes.

    Example:
        >>> rewards, values, mask = torch.ones(1, 3), torch.full((1, 3), 5.0), torch.tensor([[True, True, False]])
        >>> td_targets(rewards, values, mask), td_targets(rewards, values, mask, trace=1.0)
        (tensor([[6., 1., 0.]]), tensor([[2., 1., 0.]]))
    """
    check_fraction("trace", trace)
    mask = boolean_mask("mask", mask)
    for name, tensor in (("rewards", rewards), ("values", values), ("bonuses", bonuses)):
        if tensor is not None and tensor.shape != mask.shape:
            raise ValueError(
                f"{name} must have shape {tuple(mask.shape)}, that of mask, got {tuple(tensor.shape)}"
            )
    carried = values
    if trace:
        carried = (1 - trace) * values
        if bonuses is not None:
            carried = carried + trace * bonuses
    following = zeros_like(values)
    following[:, :-1] = where(mask[:, 1:], carried[:, 1:], 0.0)
    targets = where(mask, rewards.to(values.dtype) + following, 0.0)
    return _discounted_sums(targets, trace)


def _discounted_sums(terms: Tensor, discount: float) -> Tensor:
    """`sum_k discount^k terms[:, t + k]` for every t; terms are 0 behind the end of a sequence. Shape: `[N, T]`."""
    step = 1
    while discount and step < terms.shape[1]:
        terms = terms + discount * pad(terms[:, step:], (0, step))
        step, discount = 2 * step, discount**2
    return terms
