"""Compiles the CUDA sources with nvcc as they are, and links them with the PTX interpreter beside this file.

Of every source nvcc leaves an object for the host and the kernels' PTX. Both are cached by the hash of what they were
made from, in the folder that tests/simt uses.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch
from simt_build import CACHE, ROOT, SHIM, load_extension, run

HERE = ROOT / "tests" / "ptx"
MODULE = "softbellman_ptx"
# PTX for the newest device that the wheels name; the driver of every later one compiles from it.
ARCHITECTURE = "compute_90"
# SB_MAX_BLOCKS: three blocks at most, so that every kernel has to go round its loop over rows.
NVCC = ["-std=c++17", "-DSB_MAX_BLOCKS=3u", f"-gencode=arch={ARCHITECTURE},code={ARCHITECTURE}"]
HOST = "-Xcompiler=-fPIC,-fvisibility=hidden"
WARNINGS = ["-Wall", "-Wextra", "-Werror"]


class Compiled(NamedTuple):
    """What is linked, and the PTX to load; None where the source has no kernel."""

    host: Path
    kernels: Path | None = None


def missing_compiler() -> str | None:
    """Why nothing can be built here."""
    if nvcc() is None:
        return "no nvcc to compile the kernels' PTX with"
    return None if shutil.which("g++") else "no g++ to build the PTX interpreter with"


def nvcc() -> str | None:
    return shutil.which(os.environ.get("CUDACXX", "nvcc"))


@lru_cache
def nvcc_version() -> bytes:
    return subprocess.run([str(nvcc()), "--version"], capture_output=True, check=True).stdout


def headers_digest(*folders: Path) -> bytes:
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted([*folder.rglob("*.h"), *folder.rglob("*.cuh")]):
            digest.update(path.read_bytes())
    return digest.digest()


def compile_one(source: Path, command: list[str], headers: list[Path]) -> Compiled:
    """Run the command in a folder of its own, unless a folder of the same inputs is there."""
    inputs = [nvcc_version(), headers_digest(*headers), source.read_bytes(), " ".join(command).encode()]
    key = hashlib.sha256(b"".join(inputs)).hexdigest()[:24]
    folder = CACHE / "ptx" / f"{source.stem}.{key}"
    if not folder.is_dir():
        partial = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
        partial.mkdir(parents=True, exist_ok=True)
        keep = ["--keep", "--keep-dir", str(partial)] if source.suffix == ".cu" else []
        run([*command, *keep, "-c", str(source), "-o", str(partial / "host.o")])
        for path in partial.iterdir():
            if path.name != "host.o" and path.suffix != ".ptx":
                path.unlink()
        try:
            partial.rename(folder)
        except OSError:  # another process was as quick
            shutil.rmtree(partial)
    return Compiled(folder / "host.o", next(folder.glob("*.ptx"), None))


def kernel_command(*more: str) -> list[str]:
    return [str(nvcc()), *NVCC, HOST, *more, f"-I{ROOT / 'csrc'}", f"-I{HERE}"]


def interpreter_command() -> list[str]:
    """By nvcc, which knows where the runtime's headers are, with the instructions this processor has."""
    wide = torch.backends.cpu.get_cpu_capability() != "DEFAULT"
    simd = ["-mavx2", "-mfma"] if wide else []
    flags = ["-fPIC", "-O2", "-ffp-contract=off", "-fvisibility=hidden", *WARNINGS, *simd]
    return [str(nvcc()), "-std=c++17", f"-Xcompiler={','.join(flags)}", f"-I{ROOT / 'csrc'}"]


def binding_command() -> list[str]:
    import pybind11

    includes = [f"-isystem{pybind11.get_include()}", f"-isystem{sysconfig.get_paths()['include']}"]
    defined = ["-DSOFTBELLMAN_WITH_CUDA", f"-DPTX_MODULE={MODULE}"]
    flags = ["-std=c++17", "-O0", "-fPIC", "-fvisibility=hidden", *WARNINGS]
    return ["g++", *flags, *defined, *includes, f"-I{ROOT / 'csrc'}"]


def compile_all(jobs: list[tuple[Path, list[str], list[Path]]]) -> list[Compiled]:
    """Two compilers at a time, the longest first."""
    jobs = sorted(jobs, key=lambda job: -job[0].stat().st_size if job[0].suffix == ".cu" else 0)
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda job: compile_one(*job), jobs))


def link(objects: list[Path]) -> Path:
    key = hashlib.sha256(" ".join(map(str, objects)).encode()).hexdigest()[:24]
    target = CACHE / "ptx" / key / f"{MODULE}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        run(["g++", "-shared", "-Wl,-Bsymbolic", *map(str, objects), "-o", str(partial)])
        partial.replace(target)
    return target


def build_module(variants: dict[int, Path]) -> ModuleType:
    """The launchers as a Python module with the functions of `softbellman._C.cuda`, their kernels loaded.

    Args:
        variants: for each number of a variant of `sum_rows.cu`, the folder that stands before csrc/ on its search path.
    """
    csrc = ROOT / "csrc"
    jobs = [(source, kernel_command(), [csrc]) for source in [*csrc.rglob("*.cu"), SHIM / "faults.cu"]]
    for number, folder in variants.items():
        command = kernel_command(f"-DSB_VARIANT={number}", f"-I{folder}")
        jobs.append((HERE / "sum_rows.cu", command, [csrc, HERE, folder]))
    bindings = [*(csrc / "bind").glob("*cuda.cpp"), HERE / "module.cpp"]
    jobs += [(source, binding_command(), [csrc, HERE]) for source in bindings]
    interpreter = [source for source in HERE.glob("*.cpp") if source.name != "module.cpp"]
    jobs += [(source, interpreter_command(), [HERE]) for source in interpreter]
    compiled = compile_all(jobs)
    module = load_extension(MODULE, link([each.host for each in compiled]))
    for each in compiled:
        if each.kernels is not None:
            module.load(str(each.kernels))
    return module
