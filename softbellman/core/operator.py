"""Registration with PyTorch: schema, kernel, fake kernel and gradient.

`torch.library.Library` with define and impl costs a quarter of the `custom_op` decorator on every call, and the operators
compile with `fullgraph=True` all the same.

A differentiable operator is registered twice. `name` carries its gradient and is what compiled graphs hold. `name_detached`
is the same kernel without one; eager calls use it, since what `register_autograd` puts around a call costs 7 us, 23 us where
a graph is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

NAMESPACE = "softbellman"
_LIBRARY: Any = torch.library.Library(NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]


# The tensor that a transform of torch.func wrapped; None in torch 2.6, where calls without a graph take the longer way.
_unwrapped: Any = getattr(torch.func, "debug_unwrap", None)


def untransformed(tensors: Iterable[Tensor]) -> bool:
    """Whether no transform of torch.func wraps any of these; False in torch 2.6, which cannot say."""
    return _unwrapped is not None and all(_unwrapped(one, recurse=False) is one for one in tensors)


def tangent_of(tensor: Tensor) -> Tensor | None:
    """The tangent of a forward-mode derivative; None where there is none."""
    tangent: Tensor | None = forward_ad.unpack_dual(tensor).tangent  # type: ignore[no-untyped-call]
    return tangent


def register(
    name: str,
    schema: str,
    *,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """Define `softbellman::name` with one kernel for CPU and CUDA tensors and return it ready to call.

    `backward` and `setup_context` are those of `torch.library.register_autograd`. An operator without them
    gives constants.
    """
    operator = _define(name, schema, kernel, fake)
    if backward is None or setup_context is None:
        return operator
    torch.library.register_autograd(
        f"{NAMESPACE}::{name}", backward, setup_context=setup_context, lib=_LIBRARY
    )
    detached = _define(f"{name}_detached", schema, kernel, fake)
    return differentiable(name, operator, detached, backward, setup_context)


def _define(
    name: str, schema: str, kernel: Callable[..., Any], fake: Callable[..., Any]
) -> Callable[..., Any]:
    _LIBRARY.define(name + schema, tags=torch.Tag.pt2_compliant_tag)
    for device in ("CPU", "CUDA"):
        _LIBRARY.impl(name, kernel, device)
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_LIBRARY)
    return _registered(name)


def _registered(name: str) -> Callable[..., Any]:
    operator: Callable[..., Any] = getattr(getattr(torch.ops, NAMESPACE), name).default
    return operator


def register_backward(
    name: str, schema: str, *, kernel: Callable[..., Any], fake: Callable[..., Any]
) -> Callable[..., Any]:
    """Define the gradient of an operator; it is an operator itself, whose own gradient is refused by name."""

    def refuse(ctx: Any, *gradients: Any) -> Any:
        raise RuntimeError(f"{NAMESPACE}::{name} is a gradient and cannot be differentiated a second time")

    def save_nothing(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    operator = register(name, schema, kernel=kernel, fake=fake, backward=refuse, setup_context=save_nothing)
    detached = _registered(f"{name}_detached")

    def call(*arguments: Any) -> Any:
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return operator(*arguments)
        return detached(*arguments)  # a backward pass records a graph only where asked

    return call


def without_autocast(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel whose matmuls keep the dtypes of their factors where a forward or a backward pass runs under autocast."""

    def call(*arguments: Any) -> Any:
        device = next(one for one in arguments if isinstance(one, Tensor)).device.type
        if not torch.is_autocast_enabled(device):
            return kernel(*arguments)
        with torch.autocast(device, enabled=False):
            return kernel(*arguments)

    return call


def differentiable(
    name: str,
    operator: Callable[..., Any],
    detached: Callable[..., Any],
    backward: Callable[..., Any],
    setup_context: Callable[..., Any],
) -> Callable[..., Any]:
    """The operator for every way in which PyTorch differentiates.

    Compiled code calls `operator`. Eager code calls `detached`, inside a `torch.autograd.Function` where a graph is
    recorded. The transforms of `torch.func` want a Function whose context is set up apart, which costs 20 us more.
    Forward-mode derivatives are refused: a registered operator would drop the tangent without a word.
    """

    def forward(ctx: Any, *arguments: Any) -> Any:
        output = detached(*arguments)
        setup_context(ctx, arguments, output)
        return output

    def transformed_forward(*arguments: Any) -> Any:
        return operator(*arguments)

    def refuse_forward_mode(*_: Any) -> Any:
        raise NotImplementedError(
            f"{NAMESPACE}::{name} has no forward-mode derivative (torch.func.jvp, jacfwd, hessian); "
            "use reverse mode (backward, torch.func.grad, vjp)"
        )

    recorded = _function(name, forward=forward, backward=backward, jvp=refuse_forward_mode)
    transformed = _function(
        name,
        forward=transformed_forward,
        setup_context=setup_context,
        backward=backward,
        jvp=refuse_forward_mode,
    )

    def call(*arguments: Any) -> Any:
        if torch.compiler.is_compiling():
            return operator(*arguments)
        tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
        if untransformed(tensors) and not (
            torch.is_grad_enabled() and any(one.requires_grad for one in tensors)
        ):
            if any(tangent_of(one) is not None for one in tensors):
                refuse_forward_mode()
            return detached(*arguments)
        try:
            return recorded.apply(*arguments)
        except RuntimeError as error:
            if "setup_context" not in str(error):
                raise
            return transformed.apply(*arguments)  # inside torch.func.grad, vjp, ...

    return call


def _function(name: str, **members: Callable[..., Any]) -> Any:
    """A `torch.autograd.Function` of these static methods."""
    static = {member: staticmethod(function) for member, function in members.items()}
    return type(name, (torch.autograd.Function,), static)
