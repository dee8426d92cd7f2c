"""What a network says at the real tokens, held as logits or as features and output layer, and the objectives of either.

Stages ask for the outputs of their networks and for objectives of them; which of the two forms an output has is decided here,
by the setting `logits` and by whether the network's last layer is linear.

Notation: M rows (real tokens), V vocabulary, H features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from softbellman.losses import linear_policy_value, policy_value
from softbellman.losses.linear import choose_chunk_rows
from softbellman.models import Memory
from softbellman.objectives import (
    Objective,
    actor_objective,
    linear_actor_objective,
    linear_known_distillation,
    linear_maximum_likelihood,
    linear_oracle_distillation,
    linear_soft_q_objective,
    linear_weighted_likelihood,
    maximum_likelihood,
    oracle_distillation,
    soft_q_objective,
    weighted_likelihood,
)
from softbellman.training.rollout import LinearHead, row_features, row_logits
from softbellman.training.settings import LogitsForm

_LIKE_ROWS = 5120
"""Chunks are at least as large as those of so many rows: 256 on the CPU, where V allows it (docs/linear.md). An update has
a few hundred to a few thousand rows, and products of a twentieth of them would be slow."""


class Outputs(ABC):
    """Logits, or action values, at M rows. The keywords of the objectives are those of the functions of their names; with
    ``states`` M positions read D rows."""

    @property
    @abstractmethod
    def whole(self) -> Tensor:
        """The logits themselves. Shape: ``[M, V]``."""

    @abstractmethod
    def without(self, forbidden: Tensor) -> Outputs:
        """The same with ``-inf`` at the tokens ``forbidden``, int64, Shape: ``[F]``; whole logits are overwritten there."""

    @abstractmethod
    def maximum_likelihood(self, labels: Tensor, **options: Any) -> Objective: ...

    @abstractmethod
    def weighted_likelihood(self, labels: Tensor, weights: Tensor, **options: Any) -> Objective: ...

    @abstractmethod
    def soft_q_objective(self, actions: Tensor, rewards: Tensor, **options: Any) -> Objective: ...

    @abstractmethod
    def oracle_distillation(self, q: Outputs, weights: Tensor | None = None, **options: Any) -> Objective: ...

    @abstractmethod
    def known_distillation(self, values: Callable[[slice], Tensor], **options: Any) -> Objective:
        """:func:`oracle_distillation` under action values that are a function of a slice of C rows, Shape: ``[C, V]``."""

    @abstractmethod
    def actor_objective(self, q: Outputs, **options: Any) -> Objective: ...

    @abstractmethod
    def policy_value(self, q: Outputs, *, tau: float) -> Tensor:
        """Value of the policy these logits are of under the action values q. Shape: ``[M]``."""


class WholeOutputs(Outputs):
    """Logits as they are, Shape: ``[M, V]``."""

    def __init__(self, logits: Tensor) -> None:
        self._logits = logits

    @property
    def whole(self) -> Tensor:
        return self._logits

    def without(self, forbidden: Tensor) -> Outputs:
        return WholeOutputs(self._logits.index_fill_(1, forbidden, -torch.inf))

    def maximum_likelihood(self, labels: Tensor, **options: Any) -> Objective:
        return maximum_likelihood(self._logits, labels, **options)

    def weighted_likelihood(self, labels: Tensor, weights: Tensor, **options: Any) -> Objective:
        return weighted_likelihood(self._logits, labels, weights, **options)

    def soft_q_objective(self, actions: Tensor, rewards: Tensor, **options: Any) -> Objective:
        return soft_q_objective(self._logits, actions, rewards, **options)

    def oracle_distillation(self, q: Outputs, weights: Tensor | None = None, **options: Any) -> Objective:
        return oracle_distillation(self._logits, q.whole, weights, **options)

    def known_distillation(self, values: Callable[[slice], Tensor], **options: Any) -> Objective:
        return oracle_distillation(self._logits, values(slice(None)).to(self._logits.dtype), **options)

    def actor_objective(self, q: Outputs, **options: Any) -> Objective:
        return actor_objective(self._logits, q.whole, **options)

    def policy_value(self, q: Outputs, *, tau: float) -> Tensor:
        return policy_value(self._logits, q.whole, tau=tau).value


class Head(NamedTuple):
    """Features, Shape: ``[M, H]``, and the output layer, Shape: ``[V, H]`` and ``[V]``, that makes logits of them."""

    features: Tensor
    weight: Tensor
    bias: Tensor


class ChunkedOutputs(Outputs):
    """Logits that exist for a chunk of rows at a time. Where q is whole, these are formed whole too."""

    def __init__(self, head: Head) -> None:
        self._head = head

    @property
    def whole(self) -> Tensor:
        return nn.functional.linear(*self._head)

    def without(self, forbidden: Tensor) -> Outputs:
        head = self._head
        return ChunkedOutputs(head._replace(bias=head.bias.index_fill(0, forbidden, -torch.inf)))

    def maximum_likelihood(self, labels: Tensor, **options: Any) -> Objective:
        return linear_maximum_likelihood(*self._head, labels, chunk_rows=self._chunk_rows(1), **options)

    def weighted_likelihood(self, labels: Tensor, weights: Tensor, **options: Any) -> Objective:
        rows = self._chunk_rows(1)
        return linear_weighted_likelihood(*self._head, labels, weights, chunk_rows=rows, **options)

    def soft_q_objective(self, actions: Tensor, rewards: Tensor, **options: Any) -> Objective:
        rows = self._chunk_rows(1)
        return linear_soft_q_objective(*self._head, actions, rewards, chunk_rows=rows, **options)

    def oracle_distillation(self, q: Outputs, weights: Tensor | None = None, **options: Any) -> Objective:
        if isinstance(q, ChunkedOutputs):
            heads = *self._head, *q._head
            return linear_oracle_distillation(*heads, weights, chunk_rows=self._chunk_rows(2), **options)
        return WholeOutputs(self.whole).oracle_distillation(q, weights, **options)

    def known_distillation(self, values: Callable[[slice], Tensor], **options: Any) -> Objective:
        return linear_known_distillation(*self._head, values, chunk_rows=self._chunk_rows(2), **options)

    def actor_objective(self, q: Outputs, **options: Any) -> Objective:
        if isinstance(q, ChunkedOutputs):
            return linear_actor_objective(*self._head, *q._head, chunk_rows=self._chunk_rows(2), **options)
        return WholeOutputs(self.whole).actor_objective(q, **options)

    def policy_value(self, q: Outputs, *, tau: float) -> Tensor:
        if not isinstance(q, ChunkedOutputs):
            return WholeOutputs(self.whole).policy_value(q, tau=tau)
        (features, weight, bias), (q_features, q_weight, q_bias) = self._head, q._head
        return linear_policy_value(
            features, weight, q_features, q_weight, bias, q_bias, tau=tau, chunk_rows=self._chunk_rows(2)
        ).value

    def _chunk_rows(self, heads: int) -> int:
        """Rows whose logits exist at one time."""
        return choose_chunk_rows(max(len(self._head.features), _LIKE_ROWS), self._head.weight, heads=heads)


def in_chunks(model: nn.Module, logits: LogitsForm) -> bool:
    """Whether a model's logits are asked for in chunks and can be had so."""
    return logits == "chunked" and isinstance(model, LinearHead)


def row_outputs(
    model: nn.Module,
    source: Tensor,
    prefix: Tensor,
    rows: Tensor,
    *,
    logits: LogitsForm,
    memory: Memory | None = None,
) -> Outputs:
    """Outputs of a model at the real tokens: :func:`row_logits`, or what they would be made of. ``rows``: Shape: ``[M]``."""
    if logits == "chunked" and isinstance(model, LinearHead):
        return head_outputs(model, row_features(model, source, prefix, rows, memory=memory), logits=logits)
    return WholeOutputs(row_logits(model, source, prefix, rows, memory=memory))


def head_outputs(model: LinearHead, features: Tensor, *, logits: LogitsForm) -> Outputs:
    """Outputs from a model's features, Shape: ``[M, H]``. Made without a graph they need no gradient, nor does the layer."""
    if logits == "whole":
        return WholeOutputs(model.project(features))
    head = Head(features, *model.projection())
    return ChunkedOutputs(head if torch.is_grad_enabled() else Head(*(part.detach() for part in head)))
