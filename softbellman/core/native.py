"""The compiled module `softbellman._C`, checked on import: present, loadable, built from the sources beside it."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import torch  # noqa: F401  torch first: its OpenMP library is the one the module then shares

from softbellman.core.digest import source_digest

try:
    from softbellman import _C
except ImportError as error:
    if "cannot import name '_C'" not in str(error):
        raise ImportError(f"softbellman's native module exists but cannot be loaded: {error}") from error
    raise ImportError(
        f"softbellman's native module is not built for Python {sys.version_info.major}.{sys.version_info.minor}; "
        "run `pip install .` in the repository, or `pip install -e .` to work on it."
    ) from None

cpu: ModuleType = _C.cpu


def cuda() -> ModuleType:
    """The CUDA kernels; RuntimeError where the module was built without them."""
    module: ModuleType | None = getattr(_C, "cuda", None)
    if module is None:
        raise RuntimeError(
            "softbellman was built without CUDA kernels, but a CUDA tensor was given; reinstall where nvcc is found "
            "(SOFTBELLMAN_CUDA=ON pip install .) or move the tensors to the CPU."
        )
    return module


def build_info() -> dict[str, Any]:
    """What was built: compiler, instruction sets and the one in use, threading, CUDA, version, source digest, file."""
    return {**_C.build_info(), "path": _C.__file__}


def _warn_if_stale() -> None:
    """Compare the module with csrc/ where the package runs from a source tree."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "csrc").is_dir() or not (root / "CMakeLists.txt").is_file():
        return
    if source_digest(root / "csrc") != _C.build_info()["source_digest"]:
        warnings.warn(
            f"{_C.__file__} was built from other native sources than {root / 'csrc'}; run `pip install .` "
            "(or `pip install -e .`) again.",
            RuntimeWarning,
            stacklevel=3,
        )


_warn_if_stale()
