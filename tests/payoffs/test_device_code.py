"""What nvcc makes of the payoffs whose bits are the CPU's: nothing that is rounded once where the CPU rounds twice."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NVCC = shutil.which(os.environ.get("CUDACXX", "nvcc"))


@pytest.mark.skipif(NVCC is None, reason="no nvcc")
@pytest.mark.parametrize("name", ["rouge", "edits", "edit_distance"])
def test_no_multiplication_is_fused_with_an_addition(name: str, tmp_path: Path) -> None:
    assembly = tmp_path / f"{name}.ptx"
    source = ROOT / "csrc" / "payoffs" / f"{name}.cu"
    command = [str(NVCC), "-ptx", "-arch=compute_80", "-std=c++17", "-O3", f"-I{ROOT / 'csrc'}"]
    subprocess.run([*command, str(source), "-o", str(assembly)], check=True)
    text = assembly.read_text()
    assert ".entry" in text
    assert "fma.rn.f64" not in text and "fma.rn.f32" not in text
