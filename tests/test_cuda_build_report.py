"""The compile report: kernels, types, registers and spills are read out of what nvcc prints."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "check_cuda_build.py"
LOG = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN11softbellman4cuda46_GLOBAL__N__f74eea08_13_soft_value_cu_0e50d3b325soft_value_forward_kernelINS_8BFloat16ELb1EEEvNS1_13SoftValueRowsIT_EE' for 'sm_90'
ptxas info    : Function properties for _ZN11softbellman
    8 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers, 8 bytes cumulative stack size, 256 bytes smem
ptxas info    : Compile time = 95.202 ms
ptxas info    : Compiling entry function '_ZN11softbellman4cuda46_GLOBAL__N__f74eea08_13_soft_value_cu_0e50d3b321critic_forward_kernelIdEEvNS1_10CriticRowsIT_EE' for 'sm_80'
ptxas info    : Function properties for _ZN11softbellman
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 38 registers, used 0 barriers
"""  # noqa: E501


def test_report_is_read() -> None:
    spec = importlib.util.spec_from_file_location("check_cuda_build", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    spilling, quiet = script.parse_report("soft_value.cu", LOG)
    assert spilling == ("soft_value.cu", "soft_value_forward_kernel", "bfloat16", "yes", "90", 64, 256, 20)
    assert quiet == ("soft_value.cu", "critic_forward_kernel", "float64", "", "80", 38, 0, 0)
    table = script.markdown_table([spilling, quiet], ["80", "90"])
    assert "| `soft_value_forward_kernel` | bfloat16 | yes | 256 | - | - | 64 | 20 |" in table
