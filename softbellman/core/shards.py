"""Heads whose vocabulary is spread over processes: who holds which tokens, and how the numbers of a row are put together.

Each process has the rows `[first, first + V_local)` of weight and bias, and all have the same hidden states. The kernels
read a process's own columns as if they were all. What they say of a row is exchanged, a few numbers a chunk, and every
process merges the same numbers in the same order: results have the same bits everywhere. With the merged normalisers the
same kernels give the gradient of the own columns.

Notation: S processes, C rows of a chunk, K numbers a row, H hidden units, V vocabulary.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softbellman.core.checks import statistic_dtype
from softbellman.core.columns import ids_in, padded
from softbellman.core.operator import register

Exchange = Callable[..., Tensor]
"""`exchange(*numbers)`: K tensors `[C]` of this process -> float64 `[K, S, C]` of all."""

_LARGEST_EXPONENT = {
    torch.float32: 8 / 6e-8,
    torch.float64: 8 / 1.2e-16,
}  # of a normaliser that the kernels take as it is


class Shards(NamedTuple):
    """The processes of a group and how many rows of the weight each of them holds, in the order of their ranks."""

    group: Any
    rows: tuple[int, ...]
    rank: int

    @property
    def vocabulary(self) -> int:
        """V, all rows together."""
        return sum(self.rows)

    @property
    def first(self) -> int:
        """The id of the first token of this process."""
        return sum(self.rows[: self.rank])

    @property
    def columns(self) -> int:
        """The columns of a chunk's logits: those of this process, then some of `-inf`, where ids of others look."""
        return padded(self.rows[self.rank])

    def own_tokens(self, vocabulary: int | None) -> int:
        """How many of the own rows are tokens, of `vocabulary` in all."""
        own = self.rows[self.rank]
        return own if vocabulary is None else max(0, min(own, vocabulary - self.first))

    def own_ids(self, ids: Tensor) -> Tensor:
        """Ids as columns of this process; an id of another process is the column behind the own rows, which is `-inf`."""
        return ids_in(ids, slice(self.first, self.first + self.rows[self.rank]))

    def exchange(self, *numbers: Tensor) -> Tensor:
        """K tensors `[C]` of this process -> float64 `[K, S, C]` of all, by one all-gather."""
        import torch.distributed as dist

        own = torch.stack([one.double() for one in numbers])
        every = [torch.empty_like(own) for _ in self.rows]
        dist.all_gather(every, own, group=self.group)
        return torch.stack(every, 1)


def shards_of(group: Any, rows: Sequence[int] | None, own: int) -> Shards:
    """The shards of a process that holds `own` rows of the weight; `rows` None: as many as all others.

    Raises:
        TypeError, ValueError: not a process group of this process, or rows that are not those of its processes.
    """
    import torch.distributed as dist

    if not dist.is_available() or not isinstance(group, dist.ProcessGroup):
        raise TypeError(f"process_group must be a torch.distributed.ProcessGroup, got {type(group).__name__}")
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    given = (own,) * size if rows is None else tuple(rows)
    if len(given) != size or any(type(one) is not int or one < 1 for one in given):
        raise ValueError(
            f"shard_rows must be a positive int for each of the {size} processes, got {list(given)}"
        )
    if given[rank] != own:
        raise ValueError(f"shard_rows must be {own} in place {rank}, the rows of weight, got {given[rank]}")
    return Shards(group, given, rank)


# Operators pass numbers, not groups: the number of some shards, and which they are.
_NUMBERS: weakref.WeakKeyDictionary[Any, dict[tuple[int, ...], int]] = weakref.WeakKeyDictionary()
_GROUPS: dict[int, tuple[weakref.ref[Any], tuple[int, ...], int]] = {}


def number_of(shards: Shards) -> int:
    """The number under which an operator finds these shards."""
    numbers = _NUMBERS.setdefault(shards.group, {})
    if shards.rows not in numbers:
        numbers[shards.rows] = len(_GROUPS) + 1
        _GROUPS[len(_GROUPS) + 1] = (weakref.ref(shards.group), shards.rows, shards.rank)
    return numbers[shards.rows]


def shards_at(number: int) -> Shards:
    """The shards of a number."""
    group, rows, rank = _GROUPS[number]
    alive = group()
    if alive is None:
        raise RuntimeError("the process group of a head was destroyed before its backward pass")
    return Shards(alive, rows, rank)


# ---- what several processes know of a row, put together ----


class Normalizers(NamedTuple):
    """The normaliser of whole rows, `[C]` each, and what each process has of them, `[S, C]`.

    `rounded` and `correction` are as the kernels save them, `exact` their float64. `shares` are the weights of the processes'
    tokens, which add up to 1; `log_shares` their logarithms. Without any token both are 0 and `-inf`.
    """

    rounded: Tensor
    correction: Tensor
    exact: Tensor
    shares: Tensor
    log_shares: Tensor


def merge_normalizers(
    rounded: Tensor,
    corrections: Tensor,
    like: Tensor,
    *,
    temperature: float = 1.0,
    mask: Tensor | None = None,
) -> Normalizers:
    """`temperature log sum_w exp(x(w) / temperature)` of whole rows, from float64 `[S, C]` of the processes.

    Args:
        rounded: as a kernel gives it for the columns of a process.
        corrections: the factor that goes with it, `exp((rounded - exact) / temperature)`.
        like: the rows `[C, V]`, for the dtype of the results.
        temperature: in the unit of the rows.
        mask: bool `[C]`, True for real rows.

    Raises:
        ValueError: on the CPU, a normaliser whose rounding the backward pass could not correct; elsewhere it is NaN.
    """
    dtype = statistic_dtype(like.dtype)
    exists = rounded != -torch.inf
    if mask is not None:
        exists = exists & mask
    largest = rounded.masked_fill(~exists, -torch.inf).amax(0)
    largest = largest.masked_fill(largest == -torch.inf, 0.0)
    weights = ((rounded - largest) / temperature).exp() / corrections
    weights = weights.masked_fill(~exists, 0.0)
    total = weights.sum(0)
    offset = temperature * total.log()  # -inf where no process has a token
    exact = largest + offset
    high = exact.to(dtype)
    correction = (((high.double() - largest) - offset) / temperature).exp()
    correction = correction.masked_fill(total == 0.0, 1.0).to(dtype)
    coarse = (high.abs() > _LARGEST_EXPONENT[dtype] * temperature) & (total > 0.0)
    if not high.is_cuda and bool(coarse.any()):
        raise ValueError(
            "logits of a head in shards must be below 1e8 temperatures in size, since their normaliser is rounded; "
            f"got {float(high[coarse][0]):.3g} at a temperature of {temperature}"
        )
    high = high.masked_fill(coarse, torch.nan)
    shares = (weights / total).masked_fill(total == 0.0, 0.0)
    return Normalizers(
        high, correction, exact, shares, (weights.log() - total.log()).masked_fill(weights == 0.0, -torch.inf)
    )


def counted(shares: Tensor, numbers: Tensor) -> Tensor:
    """`sum_s shares(s) numbers(s)` over the processes, `[S, C]` -> `[C]`; where a share is 0 its number is not looked at."""
    return torch.where(shares > 0.0, shares * numbers, 0.0).sum(0)


def divergence_of_shares(first: Normalizers, second: Normalizers) -> Tensor:
    """`KL(first || second)` of the processes' shares, `[C]`: terms of at least 0, `inf` where the second has none."""
    ratio = first.log_shares - second.log_shares
    terms = first.shares * (torch.expm1(-ratio) + ratio)
    terms = torch.where(first.shares > 0.0, terms, second.shares)
    return torch.where((first.shares > 0.0) & (second.shares == 0.0), torch.inf, terms).sum(0)


def cleared(numbers: Tensor, like: Tensor, mask: Tensor | None) -> Tensor:
    """A merged result in the statistic type of the rows, 0 where masked."""
    found = numbers.to(statistic_dtype(like.dtype))
    return found if mask is None else found.masked_fill(~mask, 0.0)


# ---- hidden states that all processes have ----


def _sum(own: Tensor, number: int) -> Tensor:
    import torch.distributed as dist

    total = own.to(statistic_dtype(own.dtype), memory_format=torch.contiguous_format, copy=True)
    dist.all_reduce(total, group=shards_at(number).group)
    return total.to(own.dtype)


_sum_over_shards = register(
    "sum_over_shards",
    "(Tensor own, int shards) -> Tensor",
    kernel=_sum,
    fake=lambda own, _: torch.empty_like(own),
)


class _Shared(torch.autograd.Function):
    """Hidden states as they are; their gradient is the sum of the processes'."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, number: int) -> Tensor:
        ctx.number = number
        return hidden.view_as(hidden)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _sum_over_shards(gradient, ctx.number), None


def shared_hidden(hidden: Tensor, shards: Shards) -> Tensor:
    """Hidden states that every process has, for operators that give each of them the gradient of its own tokens."""
    if not (torch.is_grad_enabled() and hidden.requires_grad):
        return hidden
    return _Shared.apply(hidden, number_of(shards))  # type: ignore[no-any-return,no-untyped-call]
