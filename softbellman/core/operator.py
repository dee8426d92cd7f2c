"""Registration with PyTorch: schema, kernel, fake kernel and gradient.

`torch.library.Library` with define and impl costs a quarter of the `custom_op` decorator on every call, and the operators
compile with `fullgraph=True` all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

NAMESPACE = "softbellman"
_LIBRARY: Any = torch.library.Library(NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]


def _tangent(tensor: Tensor) -> Tensor | None:
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
    _LIBRARY.define(name + schema, tags=torch.Tag.pt2_compliant_tag)
    for device in ("CPU", "CUDA"):
        _LIBRARY.impl(name, kernel, device)
    qualified = f"{NAMESPACE}::{name}"
    torch.library.register_fake(qualified, fake, lib=_LIBRARY)
    operator: Callable[..., Any] = getattr(getattr(torch.ops, NAMESPACE), name).default
    if backward is None or setup_context is None:
        return operator
    torch.library.register_autograd(qualified, backward, setup_context=setup_context, lib=_LIBRARY)
    return differentiable(name, operator, backward, setup_context)


def register_backward(
    name: str, schema: str, *, kernel: Callable[..., Any], fake: Callable[..., Any]
) -> Callable[..., Any]:
    """Define the gradient of an operator; it is an operator itself, whose own gradient is refused by name."""

    def refuse(ctx: Any, *gradients: Any) -> Any:
        raise RuntimeError(f"{NAMESPACE}::{name} is a gradient and cannot be differentiated a second time")

    def save_nothing(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    return register(name, schema, kernel=kernel, fake=fake, backward=refuse, setup_context=save_nothing)


def differentiable(
    name: str,
    operator: Callable[..., Any],
    backward: Callable[..., Any],
    setup_context: Callable[..., Any],
) -> Callable[..., Any]:
    """`operator` for every way in which PyTorch differentiates.

    Forward-mode derivatives are refused: a registered operator would drop the tangent without a word. The graph that
    `register_autograd` makes is not understood by the transforms of `torch.func`; it raises there, and the call is
    repeated as a `torch.autograd.Function`, which they do understand.
    """

    def forward(*arguments: Any) -> Any:
        return operator(*arguments)

    def refuse_forward_mode(*_: Any) -> Any:
        raise NotImplementedError(
            f"{NAMESPACE}::{name} has no forward-mode derivative (torch.func.jvp, jacfwd, hessian); "
            "use reverse mode (backward, torch.func.grad, vjp)"
        )

    members = {
        "forward": staticmethod(forward),
        "setup_context": staticmethod(setup_context),
        "backward": staticmethod(backward),
        "jvp": staticmethod(refuse_forward_mode),
    }
    function: Any = type(name, (torch.autograd.Function,), members)

    def call(*arguments: Any) -> Any:
        if torch.compiler.is_compiling():
            return operator(*arguments)
        for argument in arguments:
            if isinstance(argument, Tensor) and _tangent(argument) is not None:
                refuse_forward_mode()
        try:
            return operator(*arguments)
        except RuntimeError:
            return function.apply(*arguments)

    return call
