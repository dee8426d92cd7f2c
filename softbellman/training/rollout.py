"""Sequences drawn from the actor, with their incremental payoffs.

Notation: B sources, K samples per source, N = B*K sequences, T steps, M real tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from softbellman.core.chunks import choose_chunk_rows
from softbellman.core.head import Head, Rows
from softbellman.data import Batch
from softbellman.decoding import Sampler
from softbellman.decoding.stepwise import StepState
from softbellman.payoffs.payoff import Payoff
from softbellman.training.processes import current
from softbellman.training.settings import LogitsForm

_LIKE_ROWS = 5120
"""Chunks are at least as large as those of so many rows: 256 on the CPU, where V allows it. An update has a few hundred
to a few thousand rows, and matmuls of a twentieth of them would be slow."""


class Rollout(NamedTuple):
    """Drawn sequences.

    Attributes:
        prefix: BOS and the drawn tokens but the last, the decoder's input, `[N, T]`.
        actions: drawn tokens `y_t`, `[N, T]`.
        mask: True at real tokens, `[N, T]`.
        rewards: `r_t = R(y_1..t) - R(y_1..t-1)`, `[N, T]`.
        rows: flat indices of the real tokens in `[N, T]`, `[M]`; in order, or in that of drawing.
        logits: what the tokens were drawn from, nothing forbidden yet, where kept, `[M, V]`.
    """

    prefix: Tensor
    actions: Tensor
    mask: Tensor
    rewards: Tensor
    rows: Tensor
    logits: Tensor | None = None


@contextmanager
def mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    """Put a module into training or evaluation mode (dropout on or off) and back."""
    before = module.training
    module.train(training)
    try:
        yield
    finally:
        module.train(before)


def roll_out(
    sampler: Sampler,
    batch: Batch,
    *,
    payoff: Payoff,
    samples: int,
    extra_length: int,
    longest: int,
    seed: int,
    offset: int,
    forbidden: Tensor,
    keep_logits: bool = False,
    drawn_order: bool = False,
    start: StepState | None = None,
    common_width: bool = False,
    forced: Tensor | None = None,
) -> Rollout:
    """Draw `samples` sequences for each source and score every prefix.

    Args:
        sampler: draws from the actor in its present mode, without a graph.
        batch: B sources with their references.
        payoff: the payoff R.
        samples: K.
        extra_length: a sample ends at the reference's length plus this.
        longest: and at this many tokens at most.
        seed: key of the draw.
        offset: counter of the draw; the same seed and offset draw the same tokens.
        forbidden: tokens that are never drawn, bool, `[V]`.
        keep_logits: keep the actor's logits, so that nobody computes them again.
        drawn_order: name the rows in the order of drawing, as kept logits do.
        start: the actor's state before the start token where it has encoded the sources already.
        common_width: padding counts, so that all processes must have T of the longest sequence among them.
        forced: `[B, L]`, tokens that are taken instead of drawn ones, negative where they are drawn.
    """
    limits = (batch.mask.sum(1) + extra_length).clamp(max=longest)
    drawn = sampler(
        batch.source,
        max_length=limits,
        samples=samples,
        seed=seed,
        offset=offset,
        forbidden=forbidden,
        keep_logits=keep_logits,
        start=start,
        first_row=batch.first * samples,
        special=batch.special,
        **({} if forced is None else {"forced": forced}),
    )
    tokens = drawn.tokens
    if common_width:
        missing = current().largest(tokens.shape[1]) - tokens.shape[1]
        tokens = pad(tokens, (0, missing), value=batch.special.pad) if missing else tokens
    sources, steps = len(batch.source), tokens.shape[1]
    rewards = payoff.rewards(
        tokens.view(sources, samples, steps),  # (N, T) -> (B, K, T)
        batch.references,
        hypothesis_lengths=drawn.lengths.view(sources, samples),
        reference_lengths=batch.reference_lengths,
    ).view(-1, steps)
    mask = torch.arange(steps, device=rewards.device) < drawn.lengths[:, None]
    first = torch.full_like(tokens[:, :1], batch.special.bos)
    prefix = torch.cat([first, tokens[:, :-1]], dim=1)
    actions = tokens.masked_fill(~mask, batch.special.pad)
    rows = drawn_rows(mask) if keep_logits or drawn_order else real_rows(mask)
    return Rollout(prefix, actions, mask, rewards, rows, drawn.logits)


def real_rows(mask: Tensor) -> Tensor:
    """Flat indices of the True entries of a mask. `[N, T]` -> `[M]`."""
    return mask.flatten().nonzero().squeeze(1)


def drawn_rows(mask: Tensor) -> Tensor:
    """`real_rows` in the order of drawing: step by step, within a step by sequence. `[N, T]` -> `[M]`."""
    step, sequence = mask.t().nonzero(as_tuple=True)
    return sequence * mask.shape[1] + step


def row_logits(
    model: nn.Module, source: Tensor, prefix: Tensor, rows: Tensor, *, memory: Encoded | None = None
) -> Tensor:
    """Logits at the real tokens alone, so that padding is never projected to the vocabulary. `[M, V]`.

    A model with `features` and `project` is asked for the rows' features first; any other module mapping
    (source, prefix) to logits `[N, T, V]` is called whole. `memory` is the source as the
    model has encoded it, if it has.
    """
    if isinstance(model, Factored):
        return model.project(row_features(model, source, prefix, rows, memory=memory))
    whole: Tensor = model(source, prefix)
    return whole.flatten(0, 1)[rows]


def vocabulary_rows(
    model: nn.Module,
    source: Tensor,
    prefix: Tensor,
    rows: Tensor,
    *,
    logits: LogitsForm,
    memory: Encoded | None = None,
) -> Rows:
    """What a model says at the real tokens: its logits, or its features with the output layer that makes logits of them.

    Args:
        rows: flat indices of the real tokens `[M]`.
        logits: "chunked" asks for a `Head`, which a model without a linear last layer does not give.

    Returns:
        `[M, V]`, a tensor or a `Head`.
    """
    if logits == "chunked" and isinstance(model, LinearHead):
        return head_of(model, row_features(model, source, prefix, rows, memory=memory))
    return row_logits(model, source, prefix, rows, memory=memory)


def head_of(model: LinearHead, features: Tensor) -> Head:
    """A model's features `[M, H]` and its output layer; made without a graph they need no gradient."""
    weight, bias = model.projection()
    size = choose_chunk_rows(max(len(features), _LIKE_ROWS), weight, heads=2)
    head = Head(features, weight, bias, chunk_rows=size)
    return head if torch.is_grad_enabled() else head.detach()


@torch.no_grad()
def values_of(rows: Rows, actions: Tensor) -> Tensor:
    """The values of some tokens `[M]`, of action values `[M, V]` or of a head without a cap, which is not multiplied out."""
    if not isinstance(rows, Head):
        return rows.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    head = rows.cast()
    values = head.scale * (head.hidden * head.weight[actions]).sum(-1)
    return values if head.bias is None else values + head.bias[actions]


def forbid(rows: Rows, tokens: Tensor) -> Rows:
    """Rows with `-inf` at tokens `[F]`; a tensor is overwritten there."""
    if isinstance(rows, Head):
        bias = rows.weight.new_zeros(len(rows.weight)) if rows.bias is None else rows.bias
        return replace(rows, bias=bias.index_fill(0, tokens, -torch.inf))
    return rows.index_fill_(1, tokens, -torch.inf)


def row_features(
    model: Factored, source: Tensor, prefix: Tensor, rows: Tensor, *, memory: Encoded | None = None
) -> Tensor:
    """What `model.project` reads at the real tokens; asks `features_at` where the model has it. `[M, H]`."""
    if isinstance(model, Selective):
        return model.features_at(source, prefix, rows, memory=memory)
    features = model.features(source, prefix).flatten(0, 1)  # (N, T, H) -> (N*T, H)
    return features[rows]


class Encoded(Protocol):
    """Sources as a model has encoded them."""

    def detach(self) -> Any:
        """The same numbers without their graph."""


@runtime_checkable
class Encoding(Protocol):
    """A model that encodes its sources once, for drawing and for learning.

    Attributes:
        encodes_alike: whether it does so in training as in evaluation.
    """

    encodes_alike: bool

    def encode(self, source: Tensor) -> Encoded: ...

    def begin(self, source: Tensor | None, *, memory: Any = None) -> StepState: ...


@runtime_checkable
class Factored(Protocol):
    """A model whose logits are a projection of features."""

    def features(self, source: Tensor, prefix: Tensor) -> Tensor: ...

    def project(self, features: Tensor) -> Tensor: ...


@runtime_checkable
class Selective(Protocol):
    """A model that computes features at some positions alone, from a source or from its encoding."""

    def features_at(
        self, source: Tensor, prefix: Tensor, rows: Tensor, *, memory: Encoded | None = None
    ) -> Tensor: ...


@runtime_checkable
class LinearHead(Factored, Protocol):
    """A model whose projection is linear: `project(h) = h @ weight.T + bias`."""

    def projection(self) -> tuple[Tensor, Tensor]:
        """Weight `[V, H]` and bias `[V]`."""
        ...
