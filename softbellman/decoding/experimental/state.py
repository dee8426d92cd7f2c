"""A model's state as a list of its tensors, and a copy of it that stays where it is."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import torch
from torch import Tensor


def flatten(state: Any) -> tuple[list[Any], Hashable]:
    """The leaves of nested tuples, named tuples, lists and dictionaries in order, and the structure around them."""
    leaves: list[Any] = []
    return leaves, _collect(state, leaves)


def _collect(state: Any, leaves: list[Any]) -> Hashable:
    if isinstance(state, dict):
        return dict, tuple(state), tuple(_collect(part, leaves) for part in state.values())
    if isinstance(state, (tuple, list)):
        return type(state), len(state), tuple(_collect(part, leaves) for part in state)
    leaves.append(state)
    return None


def unflatten(leaves: Iterator[Any], structure: Any) -> Any:
    """The state of that structure with the next leaves."""
    if structure is None:
        return next(leaves)
    kind, names, inner = structure
    parts = [unflatten(leaves, part) for part in inner]
    if kind is dict:
        return dict(zip(names, parts, strict=True))
    return kind(*parts) if hasattr(kind, "_fields") else kind(parts)


class OwnState:
    """A copy of a model's state that stays where it is.

    Attributes:
        value: the state, made of own tensors.
        tensors: these, each once, in order.
    """

    def __init__(self, state: Any) -> None:
        leaves, self._structure = flatten(state)
        own: dict[int, Tensor] = {}
        for leaf in leaves:
            if isinstance(leaf, Tensor) and id(leaf) not in own:
                own[id(leaf)] = torch.empty_like(leaf, memory_format=torch.contiguous_format)
        self._leaves = [own.get(id(leaf), leaf) for leaf in leaves]
        self.tensors = list(own.values())
        self.value = unflatten(iter(self._leaves), self._structure)

    def load(self, state: Any) -> None:
        """Copy a state of the same shapes.

        Raises:
            ValueError: its shapes, types or constants are others.
        """
        leaves, structure = flatten(state)
        if structure != self._structure or not all(map(_alike, leaves, self._leaves)):
            raise ValueError(
                "the model's state changes its shape from step to step, which a graph cannot follow; use sample"
            )
        changed = [
            (own, leaf)
            for own, leaf in zip(self._leaves, leaves, strict=True)
            if isinstance(own, Tensor) and leaf is not own
        ]
        storages = {_storage(tensor) for tensor in self.tensors}
        # What lies in another own tensor is read before that is written.
        fresh = [leaf.clone() if _storage(leaf) in storages else leaf for _, leaf in changed]
        for (own, _), leaf in zip(changed, fresh, strict=True):
            own.copy_(leaf)


def _alike(leaf: Any, own: Any) -> bool:
    if isinstance(own, Tensor):
        return isinstance(leaf, Tensor) and leaf.shape == own.shape and leaf.dtype == own.dtype
    return bool(leaf == own)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def shape_key(state: Any) -> Hashable:
    """What a graph depends on in a state: its structure, shapes and types, which tensors are one, constants."""
    leaves, structure = flatten(state)
    first: dict[int, int] = {}
    described: list[Hashable] = []
    for position, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor):
            described.append((leaf.shape, leaf.dtype, leaf.device, first.setdefault(id(leaf), position)))
        else:
            described.append(leaf)
    return structure, tuple(described)


def device_of(state: Any) -> torch.device:
    """The device of the first tensor of a state."""
    return next(leaf.device for leaf in flatten(state)[0] if isinstance(leaf, Tensor))
