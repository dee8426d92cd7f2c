"""What Python sees of the compiled module; the kernels' arguments are described in csrc/cpu/kernels.h."""

from types import ModuleType
from typing import Any

cpu: ModuleType
cuda: ModuleType  # only where built with CUDA

def build_info() -> dict[str, Any]: ...
