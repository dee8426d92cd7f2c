"""Weights as safetensors that say what they are, the rest of the state in a file that is loaded without pickled code."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from softbellman.core.files import digest, write_atomically
from softbellman.training.files import DamagedFile

Weights = dict[str, Tensor]


def save_modules(path: Path, modules: dict[str, nn.Module], *, stage: str, step: int) -> str:
    """Weights of named modules as one safetensors file, tensors named MODULE.PARAMETER.

    The metadata hold the stage, its update and a digest of the tensors.

    Returns:
        The digest.
    """
    return save_weights(path, tensors_of(modules), stage=stage, step=step)


def save_weights(
    path: Path, tensors: Weights, *, stage: str, step: int, origin: Mapping[str, str] | None = None
) -> str:
    """Tensors named MODULE.PARAMETER as `save_modules` writes them; returns their digest.

    `origin` is further metadata of a file that leaves its run folder, such as digests of the vocabularies.
    """
    found = digest_of_tensors(tensors)
    metadata = {**(origin or {}), "stage": stage, "step": str(step), "digest": found}
    write_atomically(path, save(tensors, metadata))
    return found


def tensors_of(modules: dict[str, nn.Module]) -> Weights:
    """Copies of the weights of named modules on the CPU, named MODULE.PARAMETER."""
    return {
        f"{name}.{key}": value.detach().cpu().clone().contiguous()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }


def digest_of_tensors(tensors: Weights) -> str:
    """SHA-256 over names, types, shapes and numbers."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def read_weights(path: Path, expected: str | None = None) -> tuple[Weights, dict[str, str]]:
    """The tensors of `save_modules` and the file's metadata.

    Args:
        path: the file.
        expected: the digest that a checkpoint noted of it; None: that of the file's own metadata.

    Raises:
        DamagedFile: no safetensors file, or other numbers than were written.
    """
    if not path.is_file():
        raise DamagedFile(f"{path} is missing")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DamagedFile(f"{path} is damaged: it holds no readable weights ({reason})") from None
    wanted = expected or metadata.get("digest")
    if wanted is not None and digest_of_tensors(tensors) != wanted:
        what = (
            "other weights than were written"
            if expected is None
            else "other weights than its checkpoint says"
        )
        raise DamagedFile(f"{path} is damaged or was replaced: it holds {what}")
    return tensors, metadata


def load_modules(path: Path, modules: dict[str, nn.Module], expected: str | None = None) -> None:
    """Load weights of `save_modules` into modules of the same shapes; missing or extra names are errors."""
    tensors, _ = read_weights(path, expected)
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


def save_state(path: Path, state: dict[str, Any]) -> str:
    """Optimisers, counters and random states: tensors, numbers, strings, lists and dicts only; returns the digest."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())
    return digest(buffer.getvalue())


def load_state(path: Path, expected: str) -> dict[str, Any]:
    """Read `save_state`'s file; objects other than tensors and plain values are refused.

    Raises:
        DamagedFile: another digest than `expected`, or no such file.
    """
    if not path.is_file():
        raise DamagedFile(f"{path} is missing")
    content = path.read_bytes()
    if digest(content) != expected:
        raise DamagedFile(
            f"{path} is damaged or was replaced: it holds another state than its checkpoint says"
        )
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except Exception:  # torch's own text advises to load code
        raise DamagedFile(
            f"{path} holds no state of a stage, or more than numbers; it was not loaded"
        ) from None
    return state
