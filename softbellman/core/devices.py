"""The device that a name asks for."""

from __future__ import annotations

import torch

from softbellman.core import native


def choose_device(name: str) -> torch.device:
    """The device of that name.

    Args:
        name: `cpu`, `cuda`, `cuda:NUMBER`; `auto` is the GPU when torch sees one and the kernels were built for it.

    Raises:
        ValueError: another name, or a GPU that torch or the kernels cannot use.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() and native.build_info()["cuda"] else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:NUMBER, got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:NUMBER, got {name!r}")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(f"device {name!r} was asked for, but torch sees no GPU")
        if not native.build_info()["cuda"]:
            raise ValueError(f"device {name!r} was asked for, but softbellman was built without CUDA kernels")
    return device
