"""Checkpoints: weights as safetensors, the rest of the state in one small file that is loaded without pickled code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary name, flush to the disk, rename: a killed run never leaves half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)


def save_modules(path: Path, modules: dict[str, nn.Module]) -> None:
    """Weights of named modules as one safetensors file, tensors named MODULE.PARAMETER."""
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            tensors[f"{name}.{key}"] = value.detach().cpu().clone().contiguous()
    write_atomically(path, save(tensors))


def load_modules(path: Path, modules: dict[str, nn.Module]) -> None:
    """Load weights of `save_modules` into modules of the same shapes; missing or extra names are errors."""
    tensors = load_file(path)
    for name, module in modules.items():
        state = {
            key.removeprefix(f"{name}."): value
            for key, value in tensors.items()
            if key.startswith(f"{name}.")
        }
        if not state:
            raise ValueError(f"{path} holds no weights of a module named {name!r}")
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            first = str(error).partition("\n")[2].partition("\n")[0].strip() or str(error)
            raise ValueError(f"{path} does not fit the {name} of these settings and data: {first}") from None


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Optimisers, counters and selection records: tensors, numbers, strings, lists and dicts only."""
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def load_state(path: Path) -> dict[str, Any]:
    """Read `save_state`'s file; objects other than tensors and plain values are refused."""
    state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    return state
