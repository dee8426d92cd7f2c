"""What Python sees of the compiled module. Structs in csrc/losses and csrc/payoffs describe the arguments of kernels."""

from types import ModuleType
from typing import Any

cpu: ModuleType
cuda: ModuleType  # only where built with CUDA

def build_info() -> dict[str, Any]: ...
