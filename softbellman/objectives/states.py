"""Positions that share a state: one row of logits or action values serves several of them.

Sequences edited from one reference begin alike, and what a network says about a prefix is the same for all that have it. So a
row is computed once for a state, and each of its positions takes what it needs: the row's soft value or log-normaliser, which
they share, and the entry of its own token.

Notation: D states, M >= D positions, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding

from softbellman.core.head import Head, Rows


def entries(rows: Rows, states: Tensor, tokens: Tensor) -> tuple[Rows, Tensor]:
    """The rows, unchanged, and their entries at (state, token); the entries' gradient costs no matrix of its own.

    Of stored rows it is added to the gradient that arrives for the returned rows, in place: these must go into one
    operator, whose gradient is its own, as in `softbellman.losses`. An entry of a `Head` is a product of two vectors.

    Args:
        rows: `[D, V]`, a tensor or a `Head`.
        states: int64 `[M]`.
        tokens: int64 `[M]`.

    Returns:
        Rows `[D, V]`, and entries `[M]`, float32 at least.
    """
    if isinstance(rows, Head):
        return rows, _head_entries(rows, states, tokens)
    found: tuple[Tensor, Tensor] = _Entries.apply(rows, states, tokens)  # type: ignore[no-untyped-call]
    return found


def _head_entries(head: Head, states: Tensor, tokens: Tensor) -> Tensor:
    wide = torch.promote_types(head.dtype, torch.float32)
    products = head.hidden.index_select(0, states).to(wide) * embedding(tokens, head.weight).to(wide)
    found = head.scale * products.sum(1)
    bias = None if head.bias is None else head.bias.index_select(0, tokens).to(wide)
    if bias is not None:
        found = found + bias
    if head.softcap is not None:
        found = head.softcap * (found / head.softcap).tanh()
        found = found if bias is None else found.masked_fill(bias == -torch.inf, -torch.inf)
    return found if head.vocabulary is None else found.masked_fill(tokens >= head.vocabulary, -torch.inf)


def sum_by_state(numbers: Tensor, states: Tensor, count: int) -> Tensor:
    """Sums over the positions of each of `count` states. `[M], [M] -> [D]`."""
    return numbers.new_zeros(count).index_add_(0, states, numbers)


class StateTargets(NamedTuple):
    """Targets of M positions as one mixture of an oracle and a token for each of D states, and what then is missing.

    Attributes:
        weights: of the states, sums of their positions', `[D]`.
        oracle_share: part of a state's target that is the oracle's, a number or `[D]`.
        tokens: the smallest label of each state, int64, `[D]`; None where the oracle has everything.
        states: of the O positions that have a label of their own, `[O]`; none where the oracle has everything.
        labels: these labels, `[O]`.
        moved: their weights: what goes from the state's token to the label, `[O]`.
    """

    weights: Tensor
    oracle_share: float | Tensor
    tokens: Tensor | None
    states: Tensor
    labels: Tensor
    moved: Tensor

    def both(self) -> tuple[Tensor, Tensor]:
        """States and tokens of the entries that `correction` takes: the states' tokens, then the labels, `[2 O]`."""
        if self.tokens is None:
            return self.states, self.labels
        return self.states.repeat(2), torch.cat([self.tokens[self.states], self.labels])

    def correction(self, taken: Tensor) -> Tensor:
        """What the loss of the mixtures lacks, from the entries at `both`."""
        theirs, own = taken.chunk(2) if len(taken) else (taken, taken)
        return (self.moved * (theirs - own)).sum()


def state_targets(
    weights: Tensor, labels: Tensor | None, oracle_share: float | Tensor, states: Tensor, count: int
) -> StateTargets:
    """The targets of D = `count` states.

    Args:
        weights: of the positions, `[M]`.
        labels: their tokens, int64, `[M]`; needed where `oracle_share` is not 1.
        oracle_share: part of a position's target that is the oracle's, a number or `[M]`.
        states: `[M]`.

    Raises:
        ValueError: no labels where they have a share.
    """
    total = sum_by_state(weights, states, count)
    if isinstance(oracle_share, (int, float)) and oracle_share == 1:
        nothing = states[:0]
        return StateTargets(total, 1.0, None, nothing, nothing, weights[:0])
    if labels is None:
        raise ValueError("labels must be given unless oracle_share is 1, got None")
    plain = weights * (1.0 - oracle_share)  # weight of a position's label
    share = 1.0 - sum_by_state(plain, states, count) / total.clamp(min=torch.finfo(total.dtype).tiny)
    most = torch.iinfo(labels.dtype).max
    lowest = labels.new_full((count,), most).scatter_reduce_(0, states, labels, "amin")
    return StateTargets(total, share, lowest, states, labels, plain)


class _Entries(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, states: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(states, tokens)
        taken = rows[states, tokens]
        return rows.detach(), taken.to(torch.promote_types(taken.dtype, torch.float32))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_rows: Tensor, grad_taken: Tensor) -> tuple[Tensor, None, None]:
        # accumulate=True adds in a fixed order on every device; index_add_ does not on a GPU.
        grad_rows.index_put_(ctx.saved_tensors, grad_taken.to(grad_rows.dtype), accumulate=True)
        return grad_rows, None, None
