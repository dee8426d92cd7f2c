"""The contenders of `benchmarks.linear`: heads, the operators on them, and what each of them must compute."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import softbellman as sb
from benchmarks.contenders import OPERATORS, SMOOTHNESS, TAU, Inputs

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float64: 1e-10}
CHECKED_ROWS = 128


class Heads(NamedTuple):
    """Hidden states, weights and biases of an actor and a critic, and what a row has beside them."""

    actor: tuple[Tensor, Tensor, Tensor]  # [N, H], [V, H], [V]
    critic: tuple[Tensor, Tensor, Tensor]
    ids: Tensor  # [N]
    numbers: Tensor  # [N]

    def leading(self, rows: int) -> Heads:
        """The first rows alone."""
        (hidden, *actor), (q_hidden, *critic) = self.actor, self.critic
        return Heads(
            (hidden[:rows], *actor), (q_hidden[:rows], *critic), self.ids[:rows], self.numbers[:rows]
        )

    def to(self, dtype: torch.dtype) -> Heads:
        """The same numbers in another type."""
        actor, critic = (tuple(tensor.to(dtype) for tensor in head) for head in (self.actor, self.critic))
        return Heads(actor, critic, self.ids, self.numbers.to(dtype))


class Case(NamedTuple):
    """`ours` maps heads and a reduction to results; `trained` heads get gradients, none where nothing is trained."""

    name: str
    ours: Callable[[Heads, str], tuple[Tensor, ...]]
    trained: str
    heads: int
    reduces: bool = True


def _pair(data: Heads) -> tuple[Tensor, ...]:
    (hidden, weight, bias), (q_hidden, q_weight, q_bias) = data.actor, data.critic
    return hidden, weight, q_hidden, q_weight, bias, q_bias


def _token(data: Heads, reduction: str) -> tuple[Tensor, ...]:
    hidden, weight, bias = data.actor
    return (sb.linear_token_cross_entropy(hidden, weight, data.ids, bias, reduction=reduction),)


def _critic(data: Heads, reduction: str) -> tuple[Tensor, ...]:
    hidden, weight, bias = data.critic
    options = {"smoothness": SMOOTHNESS, "reduction": reduction}
    return (sb.linear_critic_loss(hidden, weight, data.ids, data.numbers, bias, **options).loss,)


CASES = {
    case.name: case
    for case in (
        Case("token_cross_entropy", _token, "actor", 1),
        Case(
            "soft_value",
            lambda data, _: (sb.linear_soft_value(*data.critic, tau=TAU),),
            "critic",
            1,
            reduces=False,
        ),
        Case("critic_loss", _critic, "critic", 1),
        Case(
            "actor_loss",
            lambda data, how: (sb.linear_actor_loss(*_pair(data), tau=TAU, reduction=how).loss,),
            "actor",
            2,
        ),
        Case(
            "soft_target_cross_entropy",
            lambda data, how: (sb.linear_soft_target_cross_entropy(*_pair(data), tau=TAU, reduction=how),),
            "actor",
            2,
        ),
        Case(
            "policy_value",
            lambda data, _: tuple(sb.linear_policy_value(*_pair(data), tau=TAU)),
            "",
            2,
            reduces=False,
        ),
    )
}


def whole_rows(case: Case, data: Heads) -> Inputs:
    """The logits and action values the operator reads, made by linear layers."""
    none = data.numbers
    logits = F.linear(*data.actor) if case.heads == 2 or case.trained == "actor" else none
    q = F.linear(*data.critic) if case.heads == 2 or case.trained == "critic" else none
    return Inputs(
        logits=logits,
        q=q.detach() if case.trained == "actor" else q,
        target_q=none,
        actions=data.ids,
        numbers=data.numbers,
        upstream=data.numbers,
        steps=1,
    )


def plain(case: Case, data: Heads) -> tuple[Tensor, ...]:
    """Linear layers, then the plain expression."""
    return OPERATORS[case.name].plain(whole_rows(case, data))


def make_heads(rows: int, hidden: int, vocabulary: int, dtype: torch.dtype, device: str) -> Heads:
    """Logits of standard deviation about 2, action values of 1."""
    generator = torch.Generator().manual_seed(rows * 1_000_003 + vocabulary)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(shape, generator=generator)).to(device, dtype)

    def head(scale: float) -> tuple[Tensor, Tensor, Tensor]:
        return (
            normal(rows, hidden),
            normal(vocabulary, hidden, scale=scale / hidden**0.5),
            normal(vocabulary),
        )

    numbers = torch.randn(rows, generator=generator).to(
        device, torch.float64 if dtype == torch.float64 else torch.float32
    )
    ids = torch.randint(vocabulary, (rows,), generator=generator).to(device)
    return Heads(head(2.0), head(1.0), ids, numbers)


def run_case(case: Case, function: Callable[[Heads], tuple[Tensor, ...]], data: Heads) -> tuple[Tensor, ...]:
    """Gradients of the summed results for the trained head, or the results where nothing is trained."""
    if not case.trained:
        with torch.no_grad():
            return function(data)
    leaves = getattr(data, case.trained)
    for leaf in leaves:
        leaf.requires_grad_()
    return torch.autograd.grad(function(data)[0].sum(), leaves)


def contenders(
    case: Case, *, compiled: bool, device: str = "cpu"
) -> dict[str, Callable[[Heads], tuple[Tensor, ...]]]:
    """By name, each a function of the heads; liger-kernel's loss where it is installed and the device is a GPU."""
    functions: dict[str, Callable[[Heads], tuple[Tensor, ...]]] = {}
    if case.reduces:
        functions["sum"] = lambda data: case.ours(data, "sum")
    functions["rows"] = lambda data: case.ours(data, "none")
    functions["whole"] = lambda data: OPERATORS[case.name].ours(whole_rows(case, data))
    functions["eager"] = lambda data: plain(case, data)
    if compiled:
        torch._dynamo.reset()
        functions["compiled"] = torch.compile(lambda data: plain(case, data), dynamic=False)
    if case.name == "token_cross_entropy" and device.startswith("cuda") and find_spec("liger_kernel"):
        functions["liger"] = _liger()
    return functions


def _liger() -> Callable[[Heads], tuple[Tensor, ...]]:
    loss = import_module("liger_kernel.transformers").LigerFusedLinearCrossEntropyLoss(reduction="sum")

    def call(data: Heads) -> tuple[Tensor, ...]:
        hidden, weight, bias = data.actor
        return (loss(weight, hidden, data.ids, bias),)

    return call


def fresh(data: Heads) -> Heads:
    """The same tensors without a history."""
    actor, critic = (
        tuple(tensor.detach().requires_grad_(False) for tensor in head) for head in (data.actor, data.critic)
    )
    return Heads(actor, critic, data.ids, data.numbers)


def errors(
    case: Case, functions: dict[str, Callable[[Heads], tuple[Tensor, ...]]], data: Heads
) -> dict[str, float]:
    """The largest error of each contender; RuntimeError above the tolerance."""
    checked = data.leading(CHECKED_ROWS)
    exact = run_case(case, partial(plain, case), fresh(checked).to(torch.float64))
    found = {}
    for name, function in functions.items():
        actual = run_case(case, function, fresh(checked))
        found[name] = max(
            float((one.double() - other).abs().max() / other.abs().max())
            for one, other in zip(actual, exact, strict=True)
        )
        if not found[name] <= TOLERANCE[data.actor[0].dtype]:
            raise RuntimeError(f"{case.name} {name}: error {found[name]:.3g}")
    return found
