"""The operators of `benchmarks.kernels`: ours and the plain expression each of them replaces.

A plain expression is what one writes with torch's functions, in the type of the input and without a guard
against `-inf`; where there are several forms it is the fastest, and it leaves out by-products of ours that a
user might not need. The same function compiled is the third contender."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import softbellman

TAU = 0.5
SMOOTHNESS = 0.001
BETA = 0.3  # of the Jensen-Shannon divergence
ENTROPY_WEIGHT = 0.01
KNOWN = 16  # tokens of a teacher

Rows = Tensor | softbellman.Head


class Inputs(NamedTuple):
    """One set of arguments; an operator takes what it needs.

    The matrices are tensors here and heads in `benchmarks.linear`. Where an operator takes a prior or a second
    distribution, another one's matrix gives its logits.
    """

    logits: Rows  # [N, V]
    q: Rows  # [N, V]
    target_q: Rows  # [N, V]
    actions: Tensor  # [N] int64
    numbers: Tensor  # [N] in the statistic type: rewards or regression targets
    upstream: Tensor  # [N] in the statistic type: the gradient that arrives at every output
    steps: int  # T with N = B * T


@dataclass(frozen=True)
class Operator:
    """`ours` and `plain` map the inputs to tensors of [N] or [B, T] elements, the same number of them.

    `reads` are the matrices [N, V] that the forward pass reads, `gradients` the inputs that the backward
    pass writes a gradient for; it reads `reads_again`, by default all of `reads`. `ours` of a loss, which
    `reduces`, takes `reduction=` and `inplace_backward=`. `exact` is False where the
    outputs are draws, which are checked otherwise.
    """

    name: str
    ours: Callable[..., tuple[Tensor, ...]]
    plain: Callable[[Inputs], tuple[Tensor, ...]]
    reads: tuple[str, ...]
    gradients: tuple[str, ...]
    exact: bool = True
    reads_again: tuple[str, ...] | None = None
    reduces: bool = False

    @property
    def passes(self) -> tuple[str, ...]:
        return ("forward", "backward", "both") if self.gradients else ("forward",)

    def traffic(self, which: str) -> tuple[int, int]:
        """Matrices of [N, V] a pass has to read and to write when each is touched once.

        Forward and backward together read what both need twice: what arrives at the outputs is known only
        after the forward pass has ended.
        """
        again = len(self.reads if self.reads_again is None else self.reads_again)
        reads = {"forward": len(self.reads), "backward": again, "both": len(self.reads) + again}[which]
        return reads, 0 if which == "forward" else len(self.gradients)


def _plain_soft_value(data: Inputs) -> tuple[Tensor, ...]:
    return (TAU * torch.logsumexp(data.q / TAU, -1),)


def _plain_soft_value_prior(data: Inputs) -> tuple[Tensor, ...]:
    return (TAU * (torch.logsumexp(data.q / TAU + data.logits, -1) - torch.logsumexp(data.logits, -1)),)


def _sequences(data: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    return (
        data.q.view(-1, data.steps, data.q.shape[-1]),
        data.actions.view(-1, data.steps),
        data.numbers.view(-1, data.steps),
    )


def _our_residual(data: Inputs) -> tuple[Tensor, ...]:
    q, actions, rewards = _sequences(data)
    return (softbellman.soft_bellman_residual(q, actions, rewards, tau=TAU),)


def _plain_residual(data: Inputs) -> tuple[Tensor, ...]:
    q, actions, rewards = _sequences(data)
    value = TAU * torch.logsumexp(q / TAU, -1)
    following = F.pad(value[:, 1:], (0, 1))
    return (_gather(q, actions) - (rewards + following),)


def _gather(rows: Tensor, ids: Tensor) -> Tensor:
    return rows.gather(-1, ids.unsqueeze(-1)).squeeze(-1)


def _plain_policy_value(data: Inputs) -> tuple[Tensor, ...]:
    log_policy = F.log_softmax(data.logits, -1)
    policy = log_policy.exp()
    entropy = -(policy * log_policy).sum(-1)
    return (policy * data.q).sum(-1) + TAU * entropy, entropy


def _plain_policy_value_prior(data: Inputs) -> tuple[Tensor, ...]:
    log_policy = F.log_softmax(data.logits, -1)
    relative = log_policy - F.log_softmax(data.target_q, -1)
    return ((log_policy.exp() * (data.q - TAU * relative)).sum(-1),)


def _our_critic(data: Inputs, **how: Any) -> tuple[Tensor, ...]:
    return (softbellman.critic_loss(data.q, data.actions, data.numbers, smoothness=SMOOTHNESS, **how).loss,)


def _plain_critic(data: Inputs) -> tuple[Tensor, ...]:
    spread = data.q.var(-1, correction=0) * data.q.shape[-1]
    return ((_gather(data.q, data.actions) - data.numbers).square() + SMOOTHNESS * spread,)


def _our_erac(data: Inputs) -> tuple[Tensor, ...]:
    logits, target_q = (
        matrix.view(-1, data.steps, matrix.shape[-1]) for matrix in (data.logits, data.target_q)
    )
    result = softbellman.erac_critic_loss(logits, target_q, *_sequences(data), tau=TAU, smoothness=SMOOTHNESS)
    return (result.loss,)


def _plain_erac(data: Inputs) -> tuple[Tensor, ...]:
    q, actions, rewards = _sequences(data)
    log_policy = F.log_softmax(data.logits, -1)
    value = (log_policy.exp() * (data.target_q - TAU * log_policy)).sum(-1).view_as(rewards)
    targets = rewards + F.pad(value[:, 1:], (0, 1))
    spread = q.var(-1, correction=0) * q.shape[-1]
    return ((_gather(q, actions) - targets).square() + SMOOTHNESS * spread,)


def _plain_actor(data: Inputs) -> tuple[Tensor, ...]:
    log_policy = F.log_softmax(data.logits, -1)
    return (-(log_policy.exp() * (data.q - TAU * log_policy)).sum(-1),)


def _plain_distillation(data: Inputs) -> tuple[Tensor, ...]:
    return (F.cross_entropy(data.logits, F.softmax(data.q / TAU, -1), reduction="none"),)


def _plain_token_cross_entropy(data: Inputs) -> tuple[Tensor, ...]:
    return (F.cross_entropy(data.logits, data.actions, reduction="none"),)


def _our_token_statistics(data: Inputs) -> tuple[Tensor, ...]:
    return softbellman.token_statistics(data.logits, data.actions, outputs=("log_prob", "entropy"))


def _plain_token_statistics(data: Inputs) -> tuple[Tensor, ...]:
    log_policy = F.log_softmax(data.logits, -1)
    return _gather(log_policy, data.actions), -(log_policy.exp() * log_policy).sum(-1)


def _our_token_objective(data: Inputs, **how: Any) -> tuple[Tensor, ...]:
    how = {"reduction": "none", **how}
    return (
        softbellman.token_objective(
            data.logits, data.actions, log_prob_weights=data.numbers, entropy_weights=ENTROPY_WEIGHT, **how
        ).objective,
    )


def _plain_token_objective(data: Inputs) -> tuple[Tensor, ...]:
    log_prob, entropy = _plain_token_statistics(data)
    return (data.numbers * log_prob + ENTROPY_WEIGHT * entropy,)


def _our_divergence(kind: str, data: Inputs, **how: Any) -> tuple[Tensor, ...]:
    return (softbellman.divergence(data.logits, data.q, kind=kind, beta=BETA, **how),)


def _plain_forward_kl(data: Inputs) -> tuple[Tensor, ...]:
    log_policy, log_other = F.log_softmax(data.logits, -1), F.log_softmax(data.q, -1)
    return (F.kl_div(log_policy, log_other, reduction="none", log_target=True).sum(-1),)


def _plain_reverse_kl(data: Inputs) -> tuple[Tensor, ...]:
    log_policy, log_other = F.log_softmax(data.logits, -1), F.log_softmax(data.q, -1)
    return (F.kl_div(log_other, log_policy, reduction="none", log_target=True).sum(-1),)


def _plain_jsd(data: Inputs) -> tuple[Tensor, ...]:
    log_policy, log_other = F.log_softmax(data.logits, -1), F.log_softmax(data.q, -1)
    mixture = torch.lerp(log_policy.exp(), log_other.exp(), BETA).log()
    from_other = F.kl_div(mixture, log_other, reduction="none", log_target=True).sum(-1)
    from_policy = F.kl_div(mixture, log_policy, reduction="none", log_target=True).sum(-1)
    return (BETA * from_other + (1 - BETA) * from_policy,)


def _known_tokens(data: Inputs) -> tuple[Tensor, Tensor]:
    """Sixteen tokens of each row, which a teacher gives one half of its mass."""
    steps = 7 * torch.arange(KNOWN, device=data.actions.device)
    ids = (data.actions.unsqueeze(-1) + steps) % data.logits.shape[-1]
    return ids, data.numbers.new_full(ids.shape, -math.log(2 * KNOWN))


def _our_sparse_divergence(data: Inputs, **how: Any) -> tuple[Tensor, ...]:
    return (softbellman.sparse_divergence(data.logits, *_known_tokens(data), **how),)


def _plain_sparse_divergence(data: Inputs) -> tuple[Tensor, ...]:
    ids, log_probs = _known_tokens(data)
    log_policy = F.log_softmax(data.logits, -1).gather(-1, ids)
    rest = torch.log1p(-log_policy.exp().sum(-1))
    return ((log_probs.exp() * (log_probs - log_policy)).sum(-1) + 0.5 * (math.log(0.5) - rest),)


def _plain_sampling(data: Inputs) -> tuple[Tensor, ...]:
    return (torch.multinomial(F.softmax(data.logits, -1), 1).squeeze(-1),)


OPERATORS = {
    operator.name: operator
    for operator in (
        Operator(
            "soft_value",
            lambda data: (softbellman.soft_value(data.q, tau=TAU),),
            _plain_soft_value,
            reads=("q",),
            gradients=("q",),
        ),
        Operator(
            "soft_value_prior",
            lambda data: (softbellman.soft_value(data.q, tau=TAU, prior=data.logits),),
            _plain_soft_value_prior,
            reads=("q", "logits"),
            gradients=("q",),
        ),
        Operator("soft_bellman_residual", _our_residual, _plain_residual, reads=("q",), gradients=("q",)),
        Operator(
            "policy_value",
            lambda data: tuple(softbellman.policy_value(data.logits, data.q, tau=TAU)),
            _plain_policy_value,
            reads=("logits", "q"),
            gradients=("logits", "q"),
        ),
        Operator(
            "policy_value_prior",
            lambda data: (softbellman.policy_value(data.logits, data.q, tau=TAU, prior=data.target_q).value,),
            _plain_policy_value_prior,
            reads=("logits", "q", "target_q"),
            gradients=("logits", "q"),
        ),
        Operator("critic_loss", _our_critic, _plain_critic, reads=("q",), gradients=("q",), reduces=True),
        Operator(
            "erac_critic_loss",
            _our_erac,
            _plain_erac,
            reads=("logits", "target_q", "q"),
            gradients=("q",),
            reads_again=("q",),
        ),
        Operator(
            "actor_loss",
            lambda data, **how: (softbellman.actor_loss(data.logits, data.q, tau=TAU, **how).loss,),
            _plain_actor,
            reads=("logits", "q"),
            gradients=("logits",),
            reduces=True,
        ),
        Operator(
            "soft_target_cross_entropy",
            lambda data, **how: (softbellman.soft_target_cross_entropy(data.logits, data.q, tau=TAU, **how),),
            _plain_distillation,
            reads=("logits", "q"),
            gradients=("logits",),
            reduces=True,
        ),
        Operator(
            "token_cross_entropy",
            lambda data, **how: (softbellman.token_cross_entropy(data.logits, data.actions, **how),),
            _plain_token_cross_entropy,
            reads=("logits",),
            gradients=("logits",),
            reduces=True,
        ),
        *(
            Operator(
                f"divergence_{kind}",
                partial(_our_divergence, kind),
                plain,
                reads=("logits", "q"),
                gradients=("logits",),
                reduces=True,
            )
            for kind, plain in (
                ("forward_kl", _plain_forward_kl),
                ("reverse_kl", _plain_reverse_kl),
                ("jsd", _plain_jsd),
            )
        ),
        Operator(
            "token_statistics",
            _our_token_statistics,
            _plain_token_statistics,
            reads=("logits",),
            gradients=("logits",),
        ),
        Operator(
            "token_objective",
            _our_token_objective,
            _plain_token_objective,
            reads=("logits",),
            gradients=("logits",),
            reduces=True,
        ),
        Operator(
            "sparse_divergence",
            _our_sparse_divergence,
            _plain_sparse_divergence,
            reads=("logits",),
            gradients=("logits",),
            reduces=True,
        ),
        Operator(
            "sample_tokens",
            lambda data: tuple(softbellman.sample_tokens(data.logits, seed=1)),
            _plain_sampling,
            reads=("logits",),
            gradients=(),
            exact=False,
        ),
    )
}


def make_inputs(rows: int, vocabulary: int, dtype: torch.dtype, device: str) -> Inputs:
    """Logits of standard deviation 2, q and target_q of 1, all rows real, sequences of at most 16 steps."""
    generator = torch.Generator().manual_seed(rows * 1_000_003 + vocabulary)
    statistic = torch.float64 if dtype == torch.float64 else torch.float32
    numbers, upstream = torch.randn(2, rows, generator=generator, dtype=statistic)

    def drawn(deviation: float) -> Tensor:
        values = torch.randn(rows, vocabulary, generator=generator).mul_(deviation)
        return set_apart(values.to(device, dtype))

    return Inputs(
        logits=drawn(2.0),
        q=drawn(1.0),
        target_q=drawn(1.0),
        actions=torch.randint(vocabulary, (rows,), generator=generator).to(device),
        numbers=numbers.to(device),
        upstream=upstream.to(device),
        steps=next(steps for steps in range(min(16, rows), 0, -1) if rows % steps == 0),
    )


def copy_inputs(data: Inputs) -> Inputs:
    """The same numbers in other memory."""
    return data._replace(
        **{name: set_apart(getattr(data, name).detach()) for name in ("logits", "q", "target_q")}
    )


def set_apart(matrix: Tensor) -> Tensor:
    """A copy in a block 64 KiB larger: two matrices a multiple of 256 MiB apart would slow each other down on some CPUs.

    On a device a plain copy.
    """
    if matrix.device.type != "cpu":
        return matrix.clone()
    spare = (64 << 10) // matrix.element_size()
    block = torch.empty(matrix.numel() + spare, dtype=matrix.dtype)
    return block[: matrix.numel()].view(matrix.shape).detach().copy_(matrix)
