"""The payoffs' operators with the shim's launchers in place of the CPU's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from softbellman.core import launch, native
from softbellman.payoffs import batches

DEVICE, STREAM = 1, 0x5EED


class ShimCore:
    """The functions of `softbellman._C.cpu`; those that the shim has, too, are the shim's."""

    def __init__(self, simt: ModuleType) -> None:
        self._simt = simt

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self._simt, name, None)
        if function is None:
            return getattr(native.cpu, name)  # type: ignore[no-any-return]
        place = {} if name.endswith("_workspace") else {"device": DEVICE, "stream": STREAM}

        def call(*, threads: int, **fields: Any) -> Any:
            return function(**fields, **place)

        return call


@contextmanager
def payoffs_on(simt: ModuleType) -> Iterator[None]:
    """The operators use the shim, with workspaces full of ones: a device's may hold anything."""
    core, empty = SimpleNamespace(cpu=ShimCore(simt)), torch.empty

    def filled_empty(*size: Any, **options: Any) -> Tensor:
        tensor = empty(*size, **options)
        return tensor.fill_(255) if tensor.dtype == torch.uint8 else tensor

    patched: list[tuple[Any, str, Any]] = [(launch, "native", core), (batches, "native", core)]
    patched.append((torch, "empty", filled_empty))
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in patched]
    for owner, name, value in patched:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)
