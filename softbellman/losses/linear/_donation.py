"""When a backward pass may write over tensors that its forward pass saved.

It may where nobody reads them again: the caller of the forward pass has dropped them, the graph is freed behind the backward
pass, no second derivative is asked for, nothing is being traced (tensors may stand for others there), and no hook for saved
tensors has seen them. A hook may keep what it packs and what it unpacks, even one that returns the tensor itself, so with
hooks nothing is written over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import ref

import torch
from torch import Tensor

try:  # not public: with a torch without one of them nothing is written over
    from torch._C import _len_torch_dispatch_stack
    from torch._C._autograd import _get_current_graph_task_keep_graph, _top_saved_tensors_default_hooks
    from torch._C._functorch import is_functorch_wrapped_tensor, is_legacy_batchedtensor, maybe_current_level
except ImportError:
    _CAN_TELL = False
else:
    _CAN_TELL = True


def offer(result: Tensor, saved: Sequence[Tensor]) -> None:
    """Let the backward pass of `result` write over what it `saved`; the caller gives these tensors to nobody."""
    if torch.compiler.is_compiling() or not _CAN_TELL or result.grad_fn is None:
        return
    if _len_torch_dispatch_stack() == 0 and _top_saved_tensors_default_hooks(True) is None:
        node: Any = result.grad_fn
        node.offered = [ref(tensor) for tensor in saved]


def may_write(ctx: Any, unpacked: Sequence[Tensor], factor: Tensor) -> bool:
    """Whether the running backward pass may write `factor` into `unpacked`, what the graph gave for the saved tensors."""
    return (
        not torch.compiler.is_compiling()
        and hasattr(ctx, "offered")
        and not torch.is_grad_enabled()
        and not _get_current_graph_task_keep_graph()
        and _len_torch_dispatch_stack() == 0
        and maybe_current_level() is None  # no transform of torch.func
        and all(_is_plain(tensor) for tensor in (factor, *unpacked))
        # A hook put on a single saved tensor gets, and gives, another object.
        and all(own() is tensor for own, tensor in zip(ctx.offered, unpacked, strict=True))
    )


def _is_plain(tensor: Tensor) -> bool:
    """Not of another class, and no batch of `torch.func.vmap` or of `is_grads_batched`, which has no level to see."""
    return type(tensor) is Tensor and not (
        is_functorch_wrapped_tensor(tensor) or is_legacy_batchedtensor(tensor)
    )
