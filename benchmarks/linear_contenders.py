"""The contenders of `benchmarks.linear`: the operators of `contenders.py` on heads, and what each of them must compute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.contenders import OPERATORS, Inputs, Operator
from softbellman import Head

Function = Callable[[Inputs], tuple[Tensor, ...]]

MATRICES = ("logits", "q", "target_q")
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float64: 1e-10}
CHECKED_ROWS = 128
# A policy's value is the target of a critic there, which takes no gradient.
CASES: dict[str, Operator] = {
    name: replace(
        OPERATORS[name], gradients=() if name.startswith("policy_value") else OPERATORS[name].gradients
    )
    for name in (
        "token_cross_entropy",
        "token_statistics",
        "token_objective",
        "soft_value",
        "soft_value_prior",
        "critic_loss",
        "actor_loss",
        "soft_target_cross_entropy",
        "policy_value",
        "policy_value_prior",
        "divergence_forward_kl",
        "divergence_reverse_kl",
        "divergence_jsd",
        "sparse_divergence",
    )
}


def make_heads(rows: int, hidden: int, vocabulary: int, dtype: torch.dtype, device: str) -> Inputs:
    """Logits of standard deviation about 2, action values of 1, each matrix from hidden states of its own."""
    generator = torch.Generator().manual_seed(rows * 1_000_003 + vocabulary)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(shape, generator=generator)).to(device, dtype)

    def head(scale: float) -> Head:
        weight = normal(vocabulary, hidden, scale=scale / hidden**0.5)
        return Head(normal(rows, hidden), weight, normal(vocabulary))

    numbers = torch.randn(rows, generator=generator).to(device, _statistic(dtype))
    return Inputs(
        logits=head(2.0),
        q=head(1.0),
        target_q=head(1.0),
        actions=torch.randint(vocabulary, (rows,), generator=generator).to(device),
        numbers=numbers,
        upstream=torch.ones_like(numbers),
        steps=1,
    )


def _statistic(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _tensors(head: Head) -> tuple[Tensor, ...]:
    return tuple(part for part in (head.hidden, head.weight, head.bias) if part is not None)


def fresh(data: Inputs, *, rows: int | None = None, dtype: torch.dtype | None = None) -> Inputs:
    """The same tensors without a history; the leading rows alone, in another type where asked for."""

    def head(of: Head) -> Head:
        hidden, *others = (tensor.detach().requires_grad_(False) for tensor in _tensors(of))
        return Head(*(part.to(dtype or part.dtype) for part in (hidden[:rows], *others)))

    vectors = {name: getattr(data, name)[:rows] for name in ("actions", "numbers", "upstream")}
    if dtype is not None:
        vectors |= {name: vectors[name].to(_statistic(dtype)) for name in ("numbers", "upstream")}
    return data._replace(**{name: head(getattr(data, name)) for name in MATRICES}, **vectors)


def whole(case: Operator, data: Inputs) -> Inputs:
    """The matrices that the operator reads, made by linear layers."""
    return data._replace(**{name: F.linear(*_tensors(getattr(data, name))) for name in case.reads})


def run_case(case: Operator, function: Function, data: Inputs) -> tuple[Tensor, ...]:
    """Gradients of the summed results for the heads that get one, or the results where none does."""
    if not case.gradients:
        with torch.no_grad():
            return function(data)
    leaves = [tensor for name in case.gradients for tensor in _tensors(getattr(data, name))]
    for leaf in leaves:
        leaf.requires_grad_()
    total = torch.stack([result.sum() for result in function(data)]).sum()
    return torch.autograd.grad(total, leaves)


def contenders(case: Operator, *, compiled: bool, device: str = "cpu") -> dict[str, Function]:
    """By name, each a function of the heads; liger-kernel's loss where it is installed and the device is a GPU."""

    def plain(data: Inputs) -> tuple[Tensor, ...]:
        return case.plain(whole(case, data))

    functions: dict[str, Function] = {}
    if case.reduces:
        functions["sum"] = partial(case.ours, reduction="sum", inplace_backward=True)
    functions |= {"rows": case.ours, "whole": lambda data: case.ours(whole(case, data)), "eager": plain}
    if compiled:
        torch._dynamo.reset()
        functions["compiled"] = torch.compile(plain, dynamic=False)
    if case.name == "token_cross_entropy" and device.startswith("cuda") and find_spec("liger_kernel"):
        functions["liger"] = _liger()
    return functions


def _liger() -> Function:
    loss = import_module("liger_kernel.transformers").LigerFusedLinearCrossEntropyLoss(reduction="sum")
    return lambda data: (loss(data.logits.weight, data.logits.hidden, data.actions, data.logits.bias),)


def errors(case: Operator, functions: dict[str, Function], data: Inputs) -> dict[str, float]:
    """The largest error of each contender; RuntimeError above the tolerance."""
    exact_data = fresh(data, rows=CHECKED_ROWS, dtype=torch.float64)
    exact = run_case(case, lambda heads: case.plain(whole(case, heads)), exact_data)
    found = {}
    for name, function in functions.items():
        actual = run_case(case, function, fresh(data, rows=CHECKED_ROWS))
        found[name] = max(
            float((one.double() - other).abs().max() / other.abs().max())
            for one, other in zip(actual, exact, strict=True)
        )
        if not found[name] <= TOLERANCE[data.logits.dtype]:
            raise RuntimeError(f"{case.name} {name}: error {found[name]:.3g}")
    return found
