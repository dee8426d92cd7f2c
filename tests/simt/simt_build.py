"""Compiles the CUDA sources with g++ against the SIMT shim beside this file; objects are cached by the hash of their inputs."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
SHIM = ROOT / "tests" / "simt"
CACHE = Path(os.environ.get("SOFTBELLMAN_SIMT_CACHE", ROOT / "build" / "simt"))
MODULE = "softbellman_simt"

# SB_MAX_BLOCKS: three blocks at most, so that every kernel has to go round its loop over rows.
COMMON = ["-std=c++17", "-ffp-contract=off", "-fPIC", "-DSB_MAX_BLOCKS=3u", f"-I{SHIM}", f"-I{ROOT / 'csrc'}"]
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-attributes"]
SANITIZE = ["-g1", "-fsanitize=address,alignment", "-fno-sanitize-recover=all"]


def compiler() -> str | None:
    """The C++ compiler to use: $CXX or g++; None where there is none."""
    return shutil.which(os.environ.get("CXX", "g++"))


def run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{result.stdout}{result.stderr}")


def _headers_digest() -> bytes:
    digest = hashlib.sha256()
    for folder in (ROOT / "csrc", SHIM):
        for path in sorted([*folder.rglob("*.h"), *folder.rglob("*.cuh")]):
            digest.update(path.read_bytes())
    return digest.digest()


def _objects(sources: list[Path], flags_of: dict[Path, list[str]]) -> list[Path]:
    """One object a source, compiled where the cache has none; two compilers at a time."""
    headers = _headers_digest()
    CACHE.mkdir(parents=True, exist_ok=True)

    def one(source: Path) -> Path:
        command = [str(compiler()), *COMMON, *flags_of[source], "-x", "c++", "-c", str(source)]
        key = hashlib.sha256(headers + source.read_bytes() + " ".join(command).encode()).hexdigest()[:24]
        target = CACHE / f"{source.name}.{key}.o"
        if not target.exists():
            partial = target.with_suffix(f".{os.getpid()}.tmp")
            run([*command, "-o", str(partial)])
            partial.replace(target)
        return target

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, sources))


def _link(objects: list[Path], name: str, flags: list[str]) -> Path:
    key = hashlib.sha256(" ".join([*map(str, objects), *flags]).encode()).hexdigest()[:24]
    target = CACHE / key / name
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        partial = target.with_name(f"{name}.{os.getpid()}.tmp")
        run([str(compiler()), *flags, *map(str, objects), "-o", str(partial)])
        partial.replace(target)
    return target


def load_extension(name: str, path: Path) -> ModuleType:
    """The extension module in the file, whatever the file is called."""
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def build_module() -> ModuleType:
    """The launchers as a Python module with the functions of `softbellman._C.cuda`, working on host memory."""
    import pybind11

    kernels = [*sorted((ROOT / "csrc").rglob("*.cu")), SHIM / "faults.cu"]
    bindings = [*sorted((ROOT / "csrc" / "bind").glob("*cuda.cpp")), SHIM / "module.cpp"]
    hidden = ["-fvisibility=hidden"]
    includes = [f"-isystem{pybind11.get_include()}", f"-isystem{sysconfig.get_paths()['include']}"]
    python = ["-O0", "-DSOFTBELLMAN_WITH_CUDA", f"-DSIMT_MODULE={MODULE}", *includes]
    flags = {source: [*hidden, *WARNINGS, "-O1"] for source in kernels}
    flags |= {source: [*hidden, *WARNINGS, *python] for source in bindings}
    return load_extension(MODULE, _link(_objects([*bindings, *kernels], flags), f"{MODULE}.so", ["-shared"]))


def build_memory_check() -> Path:
    """A program that calls every launcher of the row kernels under the address and alignment sanitizers."""
    sources = [*sorted((ROOT / "csrc" / "losses").glob("*.cu")), ROOT / "csrc" / "core" / "split_rows.cu"]
    sources += [SHIM / "faults.cu", SHIM / "memory_check.cpp"]
    objects = _objects(sources, {source: ["-O1", *WARNINGS, *SANITIZE] for source in sources})
    return _link(objects, "memory_check", SANITIZE)
