"""One digest over the native sources, taken when the module is built and again when it is imported beside them."""

from __future__ import annotations

import hashlib
from pathlib import Path

SUFFIXES = frozenset({".h", ".cuh", ".cpp", ".cu"})


def source_digest(folder: Path) -> str:
    """16 hexadecimal digits over names and contents of the native sources under `folder`."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES):
        content = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]
