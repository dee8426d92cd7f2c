"""A stand-in for CUDA graphs on the CPU: what a function does is recorded once and done again on the same memory.

Like a graph it repeats operators with the arguments of the recording: numbers that came from Python stay, results
lie where they lay. What a capture refuses, a look at the data or a result whose shape depends on it, is refused here too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS_DATA = {
    "aten::_local_scalar_dense",
    "aten::equal",
    "aten::is_nonzero",
    "aten::masked_select",
    "aten::nonzero",
    "aten::repeat_interleave",
    "aten::_unique2",
    "aten::unique_dim",
}


def reads_data(function: Any, arguments: Any, options: Any) -> bool:
    """Whether an operator waits for its inputs' numbers on a device."""
    name = function._schema.name
    if name in ("aten::index", "aten::index_put", "aten::index_put_"):
        indices = [leaf for leaf in tree_leaves(arguments[1]) if isinstance(leaf, Tensor)]
        return any(index.dtype in (torch.bool, torch.uint8) for index in indices)
    if name == "aten::repeat_interleave" and options.get("output_size") is not None:
        return False
    return name in READS_DATA


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        options = options or {}
        if reads_data(function, arguments, options):
            raise RuntimeError(f"{function} cannot be captured: it waits for the device")
        result = function(*arguments, **options)
        self.calls.append((function, arguments, options, result))
        return result


def _is_view(function: Any) -> bool:
    aliases = [returned.alias_info for returned in function._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


class RecordedGraph:
    """The operators of one run of a function, without Python between them."""

    def __init__(self, step: Callable[[], None], device: torch.device) -> None:
        step()  # as a warm-up
        recorder = _Recorder()
        with recorder:
            step()
        # Views are left out: of memory that stays where it is.
        self._calls = [call for call in recorder.calls if not _is_view(call[0])]

    @property
    def operators(self) -> int:
        """How many operators a replay repeats."""
        return len(self._calls)

    def replay(self) -> None:
        for function, arguments, options, recorded in self._calls:
            aliases = [returned.alias_info for returned in function._schema.returns]
            result = function(*arguments, **options)
            if any(alias is not None for alias in aliases):
                continue  # done in place
            for old, new in zip(tree_leaves(recorded), tree_leaves(result), strict=True):
                if isinstance(old, Tensor):
                    old.copy_(new)
