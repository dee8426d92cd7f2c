"""Operators on heads in shards: what each of two processes computes, and the same of one process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

import softbellman as sb
from losses.harness import distinct, recorded_calls
from softbellman import Head

SHARD_ROWS = (20, 13)  # of the weight, in each process
VOCABULARY = sum(SHARD_ROWS)
TAU = 0.7
PARTS = ("hidden", "weight", "bias")
Heads = tuple[Head, Head]
Found = dict[str, Tensor]


@dataclass(frozen=True)
class ShardCase:
    """One operator on two heads, `of` those that get a gradient; the options of the heads, and of the first's bias."""

    call: Callable[[Head, Head, Found], tuple[Tensor, ...] | Tensor]
    of: tuple[int, ...] = (0,)
    options: dict[str, Any] = field(default_factory=dict)
    forbidden: tuple[int, int] | None = None  # tokens [first, last) whose bias is -inf
    close: bool = False  # the second distribution is nearly the first
    dtype: torch.dtype = torch.float64


def _tokens(**how: Any) -> ShardCase:
    options = {name: how.pop(name) for name in ("options", "forbidden", "dtype") if name in how}
    return ShardCase(
        lambda head, _, given: sb.token_statistics(head, given["ids"], mask=given["mask"], **how), **options
    )


def _cross_entropy(**how: Any) -> ShardCase:
    options = {name: how.pop(name) for name in ("options", "forbidden", "dtype") if name in how}
    return ShardCase(
        lambda head, _, given: sb.token_cross_entropy(head, given["ids"], given["mask"], **how), **options
    )


def _divergence(kind: str, **how: Any) -> ShardCase:
    fields = {name: how.pop(name) for name in ("of", "options", "close", "forbidden", "dtype") if name in how}
    temperatures = {"temperature": 0.9, "other_temperature": 1.3} if not fields.get("close") else {}
    how = {**temperatures, **how}
    return ShardCase(
        lambda head, other, given: sb.divergence(head, other, kind=kind, mask=given["mask"], **how), **fields
    )


def _objective(head: Head, _: Head, given: Found, reduction: str = "mean") -> tuple[Tensor, ...]:
    return sb.token_objective(
        head,
        given["ids"],
        log_prob_weights=given["numbers"],
        entropy_weights=-0.3,
        normalizer_weights=0.1,
        squared_normalizer_weights=0.05,
        mask=given["mask"],
        reduction=reduction,
        row_weights=given["numbers"].square(),
    )


def _mixture(head: Head, other: Head, given: Found) -> Tensor:
    weight = given["numbers"].sigmoid()
    options = {"targets": given["ids"], "oracle_weight": weight, "mask": given["mask"], "reduction": "sum"}
    return sb.soft_target_cross_entropy(head, other, tau=TAU, **options)


def _path(head: Head, other: Head, given: Found) -> Tensor:
    rest = (given["numbers"], given["ids"], given["numbers"], given["mask"])
    return sb.path_consistency(head, other.detach(), *rest, tau=TAU, steps=2)


PADDED = {"vocabulary": 30}
CAPPED = {"softcap": 4.0, "scale": 0.8}
CASES = {
    "statistics": _tokens(),
    "statistics of a capped and padded head": _tokens(options={**CAPPED, **PADDED}),
    "statistics without targets": ShardCase(
        lambda head, _, given: sb.token_statistics(head, None, mask=given["mask"], outputs=("entropy",))
    ),
    "statistics, nothing allowed in one process": _tokens(forbidden=(0, SHARD_ROWS[0])),
    "statistics, nothing allowed": _tokens(forbidden=(0, VOCABULARY)),
    "statistics, float32": _tokens(dtype=torch.float32),
    "objective": ShardCase(_objective),
    "objective, row by row": ShardCase(partial(_objective, reduction="none")),
    "cross entropy": _cross_entropy(),
    "cross entropy, summed": _cross_entropy(reduction="sum", inplace_backward=True),
    "cross entropy, smoothed": _cross_entropy(label_smoothing=0.2, reduction="mean", options=PADDED),
    "cross entropy, -inf in one process": _cross_entropy(forbidden=(SHARD_ROWS[0], VOCABULARY)),
    "cross entropy, bfloat16": _cross_entropy(reduction="mean", dtype=torch.bfloat16),
    "mixture": ShardCase(_mixture, forbidden=(3, 5)),
    "soft value": ShardCase(lambda head, _, given: sb.soft_value(head, tau=TAU, mask=given["mask"])),
    "soft value with a prior": ShardCase(
        lambda head, other, given: sb.soft_value(head, tau=TAU, prior=other, mask=given["mask"]),
        options=PADDED,
    ),
    "residual": ShardCase(
        lambda head, _, given: sb.soft_bellman_residual(
            head, given["ids"], given["numbers"], given["mask"], tau=TAU
        )
    ),
    "path consistency": ShardCase(_path),
    "forward KL": _divergence("forward_kl", of=(0, 1)),
    "forward KL, summed": _divergence("forward_kl", of=(0, 1), reduction="sum"),
    "forward KL of what is ruled out": _divergence("forward_kl", forbidden=(0, SHARD_ROWS[0])),
    "reverse KL": _divergence("reverse_kl", of=(0, 1), options=PADDED),
    "reverse KL, nearly 0": _divergence("reverse_kl", close=True),
    "reverse KL, nothing allowed in one process": _divergence("reverse_kl", forbidden=(0, SHARD_ROWS[0])),
    "JSD": _divergence("jsd", of=(0, 1), beta=0.3),
    "JSD, summed": _divergence("jsd", of=(0, 1), beta=0.8, reduction="mean", options={**CAPPED, **PADDED}),
    "JSD, nearly 0": _divergence("jsd", close=True),
    "JSD, nothing allowed in one process": _divergence("jsd", forbidden=(0, SHARD_ROWS[0])),
}


def given_numbers(case: ShardCase) -> tuple[list[Found], Found]:
    """The two heads' tensors and the numbers of the rows, the same in every process."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    heads = []
    for width in (6, 8):
        weight = normal(VOCABULARY, width) * 2 / width**0.5
        heads.append({"hidden": normal(2, 7, width), "weight": weight, "bias": normal(VOCABULARY)})
    if case.close:
        heads[1] = {name: value + 1e-6 * normal(*value.shape) for name, value in heads[0].items()}
    if case.forbidden is not None:
        heads[0]["bias"][slice(*case.forbidden)] = -torch.inf
    ids = torch.randint(0, 30, (2, 7), generator=generator)
    mask = torch.arange(7) < torch.tensor([7, 5])[:, None]
    ids[~mask] = -1
    numbers = normal(2, 7).to(torch.float64 if case.dtype == torch.float64 else torch.float32)
    heads = [{name: value.to(case.dtype) for name, value in head.items()} for head in heads]
    return heads, {"ids": ids, "mask": mask, "numbers": numbers}


def compute(case: ShardCase, group: Any = None) -> Found:
    """Results and gradients; in a group the weights' and biases' are those of its process."""
    heads, given = given_numbers(case)
    how: dict[str, Any] = {"chunk_rows": 4, **case.options}
    if group is not None:
        first = sum(SHARD_ROWS[: dist.get_rank(group)])
        own = slice(first, first + SHARD_ROWS[dist.get_rank(group)])
        heads = [{**head, "weight": head["weight"][own], "bias": head["bias"][own]} for head in heads]
        how |= {"process_group": group, "shard_rows": SHARD_ROWS}
    leaves = {
        f"{name} of {place}": heads[place][name].requires_grad_() for place in case.of for name in PARTS
    }
    made = tuple(Head(*(head[name] for name in PARTS), **how) for head in heads)
    results = case.call(*made, given)
    results = (results,) if isinstance(results, Tensor) else tuple(results)
    outputs = [result for result in results if result.requires_grad]
    sent = [1.0 + 0.1 * torch.arange(one.numel(), dtype=one.dtype).view_as(one) for one in outputs]
    gradients = torch.autograd.grad(outputs, list(leaves.values()), sent)
    found = {f"result {place}": result.detach() for place, result in enumerate(results)}
    return {**found, **dict(zip(leaves, gradients, strict=True))}


def refusals(group: Any) -> dict[str, str]:
    """The sentence of every call that a head in shards refuses."""
    own = SHARD_ROWS[dist.get_rank(group)]
    hidden, weight = torch.zeros(3, 4), torch.zeros(own, 4)
    head = Head(hidden, weight, process_group=group, shard_rows=SHARD_ROWS)
    ids, numbers, whole = torch.zeros(3, dtype=torch.int64), torch.zeros(3), torch.zeros(3, VOCABULARY)
    calls: dict[str, Callable[[], object]] = {
        "actor_loss": lambda: sb.actor_loss(head, head, tau=TAU),
        "critic_loss": lambda: sb.critic_loss(head, ids, numbers),
        "sample_tokens": lambda: sb.sample_tokens(head, seed=1),
        "several teachers": lambda: sb.divergence(head, [head, head]),
        "stored teacher": lambda: sb.divergence(head, whole),
        "stored prior": lambda: sb.soft_value(head, tau=TAU, prior=whole[0]),
        "id": lambda: sb.token_cross_entropy(head, ids + VOCABULARY),
        "logits": head.logits,
        "coarse": lambda: sb.soft_value(
            Head(hidden + 1e4, weight + 1e4, process_group=group, shard_rows=SHARD_ROWS), tau=1e-3
        ),
        "rows": lambda: Head(hidden, weight, process_group=group, shard_rows=(own + 1, own + 1)),
        "count": lambda: Head(hidden, weight, process_group=group, shard_rows=(own,)),
        "vocabulary": lambda: Head(
            hidden, weight, process_group=group, shard_rows=(own, own), vocabulary=own
        ),
    }
    found = {}
    for name, call in calls.items():
        try:
            call()
            found[name] = "accepted"
        except (TypeError, ValueError) as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


def partial_gradients(group: Any) -> Found:
    """The gradient of hidden states that nobody added up."""
    heads, given = given_numbers(CASES["cross entropy"])
    first = sum(SHARD_ROWS[: dist.get_rank(group)])
    own = slice(first, first + SHARD_ROWS[dist.get_rank(group)])
    hidden = heads[0]["hidden"].requires_grad_()
    parts = (heads[0]["weight"][own], heads[0]["bias"][own])
    how: dict[str, Any] = {"process_group": group, "shard_rows": SHARD_ROWS, "sum_hidden_gradient": False}
    loss = sb.token_cross_entropy(Head(hidden, *parts, **how), given["ids"], given["mask"], reduction="sum")
    return {"hidden": torch.autograd.grad(loss, hidden)[0]}


def checked_operators(group: Any) -> list[str]:
    """The registered operators on shards that `torch.library.opcheck` has looked at, in a group of one process."""
    calls = []
    for case in CASES.values():
        heads, given = given_numbers(case)
        how: dict[str, Any] = {"chunk_rows": 4, "process_group": group, **case.options}
        leaves = [value.requires_grad_() for place in case.of for value in heads[place].values()]
        made = tuple(Head(*(head[name] for name in PARTS), **how) for head in heads)

        def run(
            case: ShardCase = case,
            made: Any = made,
            given: Found = given,
            leaves: list[Tensor] = leaves,
        ) -> None:
            results = case.call(*made, given)
            results = (results,) if isinstance(results, Tensor) else results
            total = sum((one.sum() for one in results if one.requires_grad), torch.zeros(()))
            torch.autograd.grad(total, leaves)

        calls += recorded_calls(run)
    names = set()
    for name, arguments in distinct(calls):
        if "shard" in name:
            utilities = ("test_schema", "test_autograd_registration", "test_faketensor")
            operator = getattr(torch.ops.softbellman, name).default
            torch.library.opcheck(operator, arguments, test_utils=utilities)
            names.add(name.removesuffix("_detached"))
    return sorted(names)


def work(rank: int, place: str) -> None:
    """One of two processes: everything that the tests look at, saved."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{place}/store", 2)
    dist.init_process_group("gloo", rank=rank, world_size=2, store=store, timeout=timedelta(seconds=60))
    group = dist.group.WORLD
    found: dict[str, Any] = {name: compute(case, group) for name, case in CASES.items()}
    found |= {"refusals": refusals(group), "partial": partial_gradients(group)}
    alone = dist.new_group([0])  # every process has to take part
    if rank == 0:
        found["checked"] = checked_operators(alone)
    torch.save(found, Path(place) / f"{rank}.pt")
    dist.destroy_process_group()
