"""`softbellman info`: what was built, and what devices are seen."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from softbellman.cli.common import Parser

DESCRIPTION = "Prints what the native core was built with, the versions, and the devices that are seen."


def build_parser() -> Parser:
    """The options of the command."""
    parser = Parser(prog="softbellman info", description=DESCRIPTION)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    return parser


def command(arguments: Sequence[str]) -> int:
    """Parses the arguments and prints the facts."""
    options = build_parser().parse_args(arguments)
    facts = collect()
    if options.json:
        print(json.dumps(facts, indent=2, default=str))
        return 0
    width = max(len(name) for group in facts.values() for name in group)
    for group, entries in facts.items():
        print(f"{group}:")
        for name, value in entries.items():
            print(f"  {name.replace('_', ' '):<{width}}  {_show(value)}")
    return 0


def collect() -> dict[str, dict[str, Any]]:
    """All facts by group."""
    import torch

    import softbellman

    build = dict(softbellman.build_info())
    devices: dict[str, Any] = {
        "cpu": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads in use"
    }
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for index in range(count):
        seen = torch.cuda.get_device_properties(index)
        devices[f"cuda:{index}"] = (
            f"{seen.name}, sm_{seen.major}{seen.minor}, {seen.total_memory / 2**30:.0f} GiB"
        )
    usable, reason = cuda_verdict(
        build, torch_cuda=torch.version.cuda, visible=count,
        capability=torch.cuda.get_device_capability(0) if count else None,
    )  # fmt: skip
    devices["cuda_kernels"] = f"{'usable' if usable else 'not usable'}: {reason}"
    versions = {"softbellman": softbellman.__version__, "torch": torch.__version__}
    versions |= {"python": platform.python_version(), "system": platform.platform()}
    return {"versions": versions, "native core": build, "devices": devices}


def cuda_verdict(
    build: Mapping[str, Any], *, torch_cuda: str | None, visible: int, capability: tuple[int, int] | None
) -> tuple[bool, str]:
    """Whether the CUDA kernels can run here, and why or why not.

    Args:
        build: what `softbellman.build_info()` says.
        torch_cuda: CUDA version torch was built for, None for a CPU build.
        visible: GPUs torch sees.
        capability: compute capability of the first GPU.
    """
    if not build.get("cuda"):
        return False, "the native core was built without nvcc; reinstall with SOFTBELLMAN_CUDA=ON"
    if torch_cuda is None:
        return False, "the kernels are built, but this torch is a CPU build"
    if not visible:
        return False, "the kernels are built, but torch sees no GPU"
    if capability is not None and capability < (8, 0):
        return False, f"the GPU is sm_{capability[0]}{capability[1]}; the kernels need sm_80 or newer"
    return True, f"torch sees {visible} GPU{'s' if visible > 1 else ''}"


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "none" if value in (None, "") else str(value)
