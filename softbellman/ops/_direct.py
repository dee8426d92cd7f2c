"""Calls that need nothing of PyTorch's dispatcher go straight to the kernel.

On small inputs the way through the dispatcher, from Python to C++ and back, takes as long as the rest of a call. A call
is direct where the dispatcher would only pass its arguments on, so that nobody can tell the difference: nothing is
compiled or traced, no mode, transform of `torch.func` or profiler is active, and the arguments have exactly the types
of the schema, the tensors being dense ones of the CPU or a CUDA device without subclass, wrapper or a sign yet to be
applied. This is read off the sets of keys by which the dispatcher itself chooses. Every other call takes the registered
operator, which alone sees a kernel that somebody else registers in place of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.nn import Parameter

_C: Any = torch._C


def _key_set(*names: str) -> int:
    keys = _C.DispatchKeySet(getattr(_C.DispatchKey, names[0]))
    for name in names[1:]:
        keys |= _C.DispatchKeySet(getattr(_C.DispatchKey, name))
    return int(keys.raw_repr())


try:  # not public: with a torch without one of them every call takes the registered operator
    _keys_of_tensor, _keys_of_thread = _C._dispatch_keys, _C._dispatch_tls_local_include_set
    _is_key_excluded = _C._dispatch_tls_is_dispatch_key_excluded
    _has_function_mode, _has_profiler = _C._is_torch_function_mode_enabled, _C._autograd._profiler_enabled
    # Excluded by a thread that records nothing whatever requires a gradient.
    _AUTOGRAD = _C.DispatchKey.AutogradOther
    # Tensors made outside of `torch.inference_mode` and inside.
    _PLAIN_TENSORS = frozenset(
        _key_set(device, f"Autocast{device}", *others)
        for device in ("CPU", "CUDA")
        for others in (("ADInplaceOrView", f"Autograd{device}"), ())
    )
    # What a thread adds to the keys of the tensors outside of `torch.inference_mode` and inside.
    _PLAIN_THREADS = frozenset((_key_set("BackendSelect", "ADInplaceOrView"), _key_set("BackendSelect")))
except AttributeError:
    _CAN_TELL = False
else:
    _CAN_TELL = True

_TYPES: dict[str, frozenset[type]] = {
    "Tensor": frozenset((Tensor, Parameter)),
    "bool": frozenset((bool,)),
    "int": frozenset((int,)),
    "float": frozenset((float, int)),
    "List[int]": frozenset((list, tuple)),
    "List[float]": frozenset((list, tuple)),
}


def call_directly(
    operator: Any,
    kernel: Callable[..., Any],
    backward: Callable[..., Any] | None,
    setup_context: Callable[..., Any] | None,
) -> Callable[..., Any]:
    """`operator` as a function of positional arguments that calls `kernel` without the dispatcher where it can.

    Where a graph is recorded, `backward` and `setup_context` make it as `torch.library.register_autograd` does.
    """
    if not _CAN_TELL:
        return operator  # type: ignore[no-any-return]
    recorded = operator
    if backward is not None and setup_context is not None:
        recorded = _function(operator, kernel, backward, setup_context).apply
    places_of_tensors = _PlacesOfTensors(operator)

    def call(*arguments: Any) -> Any:
        if (
            is_compiling()
            or _keys_of_thread().raw_repr() not in _PLAIN_THREADS
            or _has_function_mode()
            or _has_profiler()
        ):
            return operator(*arguments)
        places = places_of_tensors[tuple(map(type, arguments))]
        if places is None:
            return operator(*arguments)
        requires_grad = False
        for place in places:
            tensor = arguments[place]
            if _keys_of_tensor(tensor).raw_repr() not in _PLAIN_TENSORS:
                return operator(*arguments)
            requires_grad = requires_grad or tensor.requires_grad
        if requires_grad and torch.is_grad_enabled():
            return operator(*arguments) if _is_key_excluded(_AUTOGRAD) else recorded(*arguments)
        return kernel(*arguments)

    return call


class _PlacesOfTensors(dict[tuple[type, ...], "tuple[int, ...] | None"]):
    """Where the tensors are among arguments of these types; None where the types are not those of the schema."""

    def __init__(self, operator: Any) -> None:
        self._taken = [_types_taken(str(argument.type)) for argument in operator._schema.arguments]

    def __missing__(self, types: tuple[type, ...]) -> tuple[int, ...] | None:
        if len(types) != len(self._taken) or not all(map(frozenset.__contains__, self._taken, types)):
            return None
        self[types] = places = tuple(place for place, one in enumerate(types) if issubclass(one, Tensor))
        return places


def _types_taken(schema_type: str) -> frozenset[type]:
    """The types that the dispatcher passes on as they are, none for a type that no schema here has."""
    if schema_type.startswith("Optional["):
        return _types_taken(schema_type[len("Optional[") : -1]) | {type(None)}
    return _TYPES.get(schema_type, frozenset())


def _function(
    operator: Any,
    kernel: Callable[..., Any],
    backward: Callable[..., Any],
    setup_context: Callable[..., Any],
) -> Any:
    """The `torch.autograd.Function` that PyTorch makes for a registered gradient, under the same name."""

    def forward(ctx: Any, *inputs: Any) -> Any:
        output = kernel(*inputs)
        setup_context(ctx, inputs, output)
        return output

    name = f"GeneratedBackwardFor_{operator._namespace}_{operator._opname}_{operator._overloadname}"
    members = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type(name, (torch.autograd.Function,), members)
