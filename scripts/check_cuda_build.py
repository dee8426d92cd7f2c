"""Compile every CUDA source with warnings as errors and report what each kernel needs: registers, shared memory, spills.

    python scripts/check_cuda_build.py [--architectures 80 90] [--jobs 2] [--report FILE]

Needs nvcc (on PATH, or $CUDACXX), no GPU. Exits with 1 where a file does not compile or a float32 or bfloat16 kernel
spills registers to memory; the other types are reported alone. `--report` also writes the table, as Markdown, into FILE.
"flags" are a kernel's boolean template arguments. Shared bytes are the static ones.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
# Those of CMakeLists.txt, and the compiler's resource report.
FLAGS = ["-std=c++17", "-O3", "-Werror=all-warnings", "-Xcompiler=-Wall,-Wextra,-Werror,-fPIC", "-Xptxas=-v"]
FLAGS += [f"-I{ROOT / 'csrc'}"]
# How a mangled name spells the element type a kernel is instantiated for.
ELEMENT_TYPES = {"f": "float32", "d": "float64", "8BFloat16": "bfloat16", "7Float16": "float16"}
MAIN_TYPES = {"float32", "bfloat16", "-"}

ENTRY = re.compile(
    r"Compiling entry function '(?P<name>\S+)' for 'sm_(?P<architecture>\w+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)


class Kernel(NamedTuple):
    """One instantiation for one architecture; `element` is "-" for a kernel that is no template over the element type."""

    file: str
    name: str
    element: str
    variant: str
    architecture: str
    registers: int
    shared: int
    spilled: int


def parse_report(file: str, log: str) -> list[Kernel]:
    """The kernels in the output of `nvcc -Xptxas -v` for `file`."""
    kernels = []
    for match in ENTRY.finditer(log):
        name, element, variant = read_mangled(match["name"])
        shared = re.search(r"(\d+) bytes smem", match["rest"])
        spilled = int(match["stores"]) + int(match["loads"])
        kernels.append(
            Kernel(
                file, name, element, variant, match["architecture"], int(match["registers"]),
                int(shared[1]) if shared else 0, spilled,
            )
        )  # fmt: skip
    return kernels


def read_mangled(mangled: str) -> tuple[str, str, str]:
    """Kernel name, element type and boolean template arguments of an Itanium-mangled name."""
    name, rest = mangled, mangled.removeprefix("_Z").removeprefix("N")
    while match := re.match(r"\d+", rest):  # namespaces, then the kernel: each its length and its letters
        end = match.end() + int(match[0])
        name, rest = rest[match.end() : end], rest[end:]
    element = re.match(r"I(?:NS\d*_(\w+?)E|([fd]))", rest)
    if element is None:
        return name, "-", ""
    flags = re.match(r"(?:Lb[01]E)*", rest[element.end() :])
    values = re.findall(r"Lb([01])E", flags[0] if flags else "")
    return (
        name,
        ELEMENT_TYPES.get(element[1] or element[2], "-"),
        ",".join("no" if v == "0" else "yes" for v in values),
    )


def compile_one(nvcc: str, source: Path, architectures: list[str], folder: str) -> tuple[Path, int, str]:
    targets = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in architectures]
    command = [nvcc, *FLAGS, *targets, "-c", str(source), "-o", str(Path(folder) / f"{source.stem}.o")]
    result = subprocess.run(command, capture_output=True, text=True)
    return source, result.returncode, result.stdout + result.stderr


def markdown_table(kernels: list[Kernel], architectures: list[str]) -> str:
    """One line a kernel and type; registers and spilled bytes for each architecture."""
    columns = " | ".join(f"sm_{a} registers | sm_{a} spilled bytes" for a in architectures)
    lines = [
        f"| kernel | type | flags | shared bytes | {columns} |",
        "|---|---|---|---:|" + "---:|---:|" * len(architectures),
    ]
    found = {(k.name, k.element, k.variant, k.architecture): k for k in kernels}
    for name, element, variant in sorted({key[:3] for key in found}):
        each = [found.get((name, element, variant, a)) for a in architectures]
        cells = " | ".join(f"{k.registers} | {k.spilled}" if k else "- | -" for k in each)
        shared = max(k.shared for k in each if k)
        lines.append(f"| `{name}` | {element} | {variant or '-'} | {shared} | {cells} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--architectures", nargs="+", default=["80", "90"], metavar="SM")
    parser.add_argument("--jobs", type=int, default=2, help="compilers at a time (default 2)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="also write the table into FILE")
    options = parser.parse_args()

    nvcc = shutil.which(os.environ.get("CUDACXX", "nvcc"))
    if nvcc is None:
        print("nvcc was not found; put it on PATH or set CUDACXX.", file=sys.stderr)
        return 1
    sources = sorted((ROOT / "csrc").rglob("*.cu"))
    kernels: list[Kernel] = []
    failed = False
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        jobs = [pool.submit(compile_one, nvcc, source, options.architectures, folder) for source in sources]
        for job in jobs:
            source, status, log = job.result()
            if status:
                print(f"{source.relative_to(ROOT)} does not compile:\n{log}", file=sys.stderr)
                failed = True
            kernels += parse_report(source.name, log)
    table = markdown_table(kernels, options.architectures)
    print(table)
    if options.report and not failed:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(f"{table}\n", encoding="utf-8")
    spilled = [k for k in kernels if k.element in MAIN_TYPES and k.spilled]
    for kernel in spilled:
        print(
            f"{kernel.name} <{kernel.element} {kernel.variant}> spills {kernel.spilled} bytes on sm_{kernel.architecture}.",
            file=sys.stderr,
        )
    print(f"\n{len(sources)} files, {len(kernels)} kernels, {len(spilled)} of float32 or bfloat16 spill.")
    return 1 if failed or spilled or not kernels else 0


if __name__ == "__main__":
    sys.exit(main())
