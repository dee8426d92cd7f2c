"""Registration with PyTorch: schema, kernel, fake kernel and gradient, without the `custom_op` decorator.

`torch.library.Library` with define and impl costs a quarter of the decorator on every call, and the operators
compile with `fullgraph=True` all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

NAMESPACE = "softbellman"
_LIBRARY: Any = torch.library.Library(NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]


def register(
    name: str,
    schema: str,
    *,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """Define `softbellman::name` with one kernel for CPU and CUDA tensors and return it.

    `backward` and `setup_context` are those of `torch.library.register_autograd`. An operator without them
    gives constants.
    """
    _LIBRARY.define(name + schema, tags=torch.Tag.pt2_compliant_tag)
    for device in ("CPU", "CUDA"):
        _LIBRARY.impl(name, kernel, device)
    qualified = f"{NAMESPACE}::{name}"
    torch.library.register_fake(qualified, fake, lib=_LIBRARY)
    if backward is not None:
        torch.library.register_autograd(qualified, backward, setup_context=setup_context, lib=_LIBRARY)
    operator = getattr(getattr(torch.ops, NAMESPACE), name).default
    return operator  # type: ignore[no-any-return]


def register_backward(
    name: str, schema: str, *, kernel: Callable[..., Any], fake: Callable[..., Any]
) -> Callable[..., Any]:
    """Define the gradient of an operator; it is an operator itself, whose own gradient is refused by name."""

    def refuse(ctx: Any, *gradients: Any) -> Any:
        raise RuntimeError(f"{NAMESPACE}::{name} is a gradient and cannot be differentiated a second time")

    return register(name, schema, kernel=kernel, fake=fake, backward=refuse)
