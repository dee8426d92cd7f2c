"""Builds the native module softbellman._C with CMake and ninja; pyproject.toml holds everything else.

Environment: SOFTBELLMAN_CUDA=AUTO|ON|OFF, SOFTBELLMAN_WERROR=ON|OFF, CXX, CUDACXX,
CMAKE_ARGS (further arguments of the configuration), SOFTBELLMAN_BUILD_FOLDER (build/cmake-<python>).
"""

from __future__ import annotations

import os
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError

ROOT = Path(__file__).resolve().parent


def find_program(name: str) -> str:
    """The executable of a build requirement, also where its folder is not on PATH."""
    for folder in (Path(sys.executable).parent, *map(Path, os.environ.get("PATH", "").split(os.pathsep))):
        if (folder / name).is_file():
            return str(folder / name)
    raise CompileError(f"softbellman needs {name} to build; install it with `pip install {name}`.")


def check_compiler() -> None:
    named = shlex.split(os.environ.get("CXX", ""))
    if not any(shutil.which(candidate) for candidate in named[:1] or ["c++", "g++", "clang++"]):
        raise CompileError(
            "softbellman needs a C++17 compiler and found none; install g++ or clang++ "
            "(Debian and Ubuntu: apt install g++) or point CXX at one."
        )


class CMakeBuild(build_ext):
    """One extension, one CMake project, one fixed build folder per Python, so that a rebuild compiles what changed."""

    def build_extension(self, ext: Extension) -> None:
        check_compiler()
        digest = runpy.run_path(str(ROOT / "softbellman" / "core" / "digest.py"))["source_digest"](
            ROOT / "csrc"
        )
        tag = sys.implementation.cache_tag or "python"
        folder = ROOT / os.environ.get("SOFTBELLMAN_BUILD_FOLDER", Path("build", f"cmake-{tag}"))
        cmake = find_program("cmake")
        configure = [
            cmake, "-S", str(ROOT), "-B", str(folder), "-G", "Ninja",
            f"-DCMAKE_MAKE_PROGRAM={find_program('ninja')}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DSOFTBELLMAN_VERSION={self.distribution.get_version()}",
            f"-DSOFTBELLMAN_SOURCE_DIGEST={digest}",
            *(f"-D{name}={os.environ.get(name, default)}" for name, default in (
                ("SOFTBELLMAN_CUDA", "AUTO"), ("SOFTBELLMAN_WERROR", "ON"))),
            *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        ]  # fmt: skip
        refusal = CompileError(
            "softbellman: CMake could not configure the build; its message above says why."
        )
        if subprocess.call(configure) != 0:
            if not (folder / "CMakeCache.txt").exists():
                raise refusal
            shutil.rmtree(folder)  # a cache of another compiler, another place or a failed attempt
            if subprocess.call(configure) != 0:
                raise refusal
        jobs = [f"-j{self.parallel}"] if self.parallel else []
        if subprocess.call([cmake, "--build", str(folder), *jobs]) != 0:
            raise CompileError(
                "softbellman: the native core did not compile; the first error above says why."
            )
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        # Written beside and renamed: a process that has the old module loaded keeps its own copy.
        staged = target.with_name(target.name + ".new")
        shutil.copyfile(next(folder.glob("_C.*")), staged)
        os.replace(staged, target)
        print((folder / "report.txt").read_text(encoding="utf-8").strip(), flush=True)


class CleanBuildPy(build_py):
    """Starts from an empty folder, as a module that was renamed or removed must not live on in a wheel; adds the configs.

    An editable install reads configs/ where it stands.
    """

    def run(self) -> None:
        if getattr(self, "editable_mode", False):
            super().run()
            return
        package = Path(self.build_lib) / "softbellman"
        shutil.rmtree(package, ignore_errors=True)
        super().run()
        shutil.copytree(ROOT / "configs", package / "configs", ignore=shutil.ignore_patterns("[!a-z]*"))


setup(
    ext_modules=[Extension("softbellman._C", sources=[])],
    cmdclass={"build_ext": CMakeBuild, "build_py": CleanBuildPy},
)
