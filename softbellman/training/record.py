"""record.json of a run folder: what a run was made of, every start and end of it, and what was changed on the way.

The settings in it are what the run was started with and what was changed since; config.yaml is a copy for people. A run that is
continued is compared with it before anything is written.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

import torch

import softbellman
from softbellman.core import native
from softbellman.core.objects import UserObject
from softbellman.training.files import DamagedFile, read_json, write_json

FORMAT = 1
NAME = "record.json"
_WAITING = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


class RunRecord:
    """The record of one run.

    Attributes:
        settings: the settings in force, by dotted key.
        data: digests of the splits and vocabularies, by name.
        sessions: each start of the run: when, where, with what, how it ended.
        changes: settings that were changed when the run was continued, with the stage and update they took effect at.
        objects: what the user brought by name or handed over: its name, file, digest and version.
    """

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self.path, self.content = path, content
        self.settings: dict[str, Any] = content["settings"]
        self.data: dict[str, str] = content["data"]
        self.sessions: list[dict[str, Any]] = content["sessions"]
        self.changes: list[dict[str, Any]] = content["changes"]
        self.objects: list[dict[str, str]] = content.get("objects", [])  # earlier versions knew none

    @classmethod
    def create(
        cls,
        folder: Path,
        settings: Mapping[str, Any],
        data: Mapping[str, str],
        objects: Sequence[UserObject] = (),
    ) -> RunRecord:
        """The record of a new run; `begin` writes it."""
        content = {
            "format": FORMAT,
            "settings": dict(settings),
            "data": dict(data),
            "sessions": [],
            "changes": [],
            "objects": [one.facts() for one in objects],
        }
        return cls(folder / NAME, content)

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """The record of a run folder.

        Raises:
            DamagedFile: there is none, or it is not one.
        """
        path = folder / NAME
        if not path.is_file():
            raise DamagedFile(
                f"{folder} holds no {NAME}: the run is of an earlier version, or the file was lost"
            )
        content = read_json(path)
        shape = {"format": int, "settings": dict, "data": dict, "sessions": list, "changes": list}
        if not isinstance(content, dict) or any(
            not isinstance(content.get(name), kind) for name, kind in shape.items()
        ):
            raise DamagedFile(f"{path} is damaged: it is not the record of a run")
        if content["format"] != FORMAT:
            raise DamagedFile(f"{path} has format {content['format']}; this version reads format {FORMAT}")
        objects = content.get("objects", [])
        if not isinstance(objects, list) or not all(map(_is_object, objects)):
            raise DamagedFile(f"{path} is damaged: it is not the record of a run")
        return cls(path, content)

    def begin(self, device: torch.device, *, processes: int = 1) -> None:
        """Note that the run is started or continued, and with what."""
        self.sessions.append(
            {
                "started": now(),
                "ended": None,
                "status": "running",
                "command": shlex.join(sys.argv),
                "softbellman": softbellman.__version__,
                "source": package_digest(),
                "commit": commit(),
                "native": native.build_info()["source_digest"],
                "torch": torch.__version__,
                "python": platform.python_version(),
                "host": socket.gethostname(),
                "process": os.getpid(),
                "processor": processor(),
                "device": device_name(device),
                "processes": processes,
                "threads": torch.get_num_threads(),
                "environment": {name: os.environ[name] for name in _WAITING if name in os.environ},
            }
        )
        self.write()

    def end(self, status: str, reason: str = "") -> None:
        """Note how the session ended: finished, stopped, failed."""
        self.sessions[-1].update(ended=now(), status=status)
        if reason:
            self.sessions[-1]["reason"] = reason
        self.write()

    def change(self, key: str, value: Any, *, stage: str, step: int) -> None:
        """Note a changed setting; `write` follows."""
        change = {
            "at": now(),
            "key": key,
            "from": self.settings.get(key),
            "to": value,
            "stage": stage,
            "step": step,
        }
        self.changes.append(change)
        self.settings[key] = value

    def write(self) -> None:
        """Write the file, atomically."""
        write_json(self.path, self.content)


def recorded_objects(folder: Path) -> list[dict[str, str]]:
    """What the user brought to a run, by its record; nothing where there is none that can be read."""
    try:
        return RunRecord.read(folder).objects
    except DamagedFile:
        return []


def _is_object(facts: Any) -> bool:
    known = ("name", "path", "digest", "version")
    return isinstance(facts, dict) and all(isinstance(facts.get(key), str) for key in known)


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@cache
def package_digest() -> str:
    """16 hexadecimal digits over the package's Python sources."""
    root = Path(softbellman.__file__).parent
    found = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(f"{path.relative_to(root).as_posix()}\n".encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


@cache
def commit() -> str | None:
    """The commit of the source tree that the package runs from, "-changed" behind it where files differ; None elsewhere."""
    root = Path(softbellman.__file__).parents[1]
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        found = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=20, check=True
        )
        return found.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-changed" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def processor() -> str:
    """The name of the processor, and how many cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        models = [line for line in information.read_text().splitlines() if line.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    return f"{name}, {cores} cores"


def device_name(device: torch.device) -> str:
    """The device, with a GPU's name."""
    return f"{device}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)
