"""csrc/core/split_rows.cuh with one mistake each, for `sum_rows.cu`: what the interpreter's checks must notice."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from ptx_build import CACHE, ROOT

HEADER = ROOT / "csrc" / "core" / "split_rows.cuh"


class Mistake(NamedTuple):
    """One text of the header, and what stands there instead."""

    name: str
    right: str
    wrong: str


FENCE_BEFORE = "    __threadfence();  // what the block wrote is visible to all before its ticket is\n"
FENCE_AFTER = "    const bool last = drawn[0] == gridDim.y - 1;\n    __threadfence();\n"
TICKET = "if (threadIdx.x == 0) drawn[0] = atomicInc(tickets, gridDim.y - 1);\n"
MISTAKES = (
    Mistake("a read-only load of partial states", "__ldcg(partial + k)", "__ldg(partial + k)"),
    Mistake("a cached load of partial states", "__ldcg(partial + k)", "partial[k]"),
    Mistake("no fence before the ticket", FENCE_BEFORE, ""),
    Mistake("no fence after the ticket", FENCE_AFTER, FENCE_AFTER.replace("    __threadfence();\n", "")),
    Mistake("no barrier before the ticket", f"    __syncthreads();\n    {TICKET}", f"    {TICKET}"),
    Mistake("no barrier after the ticket", f"    {TICKET}    __syncthreads();\n", f"    {TICKET}"),
    Mistake("a ticket that is not reset", "atomicInc(tickets, gridDim.y - 1)", "atomicAdd(tickets, 1u)"),
    Mistake("a ticket drawn too early", "atomicInc(tickets, gridDim.y - 1)", "gridDim.y - 1"),
    Mistake("no barrier before the merge", "    else\n        __syncthreads();\n", ""),
    Mistake("no barrier before the next row", "    if (!split) __syncthreads();", "   "),
)


def variants() -> dict[int, Path]:
    """For every number of a variant the folder to search first: 0 is the header as it stands, then one for each mistake."""
    folders = {0: ROOT / "csrc"}
    text = HEADER.read_text(encoding="utf-8")
    for number, mistake in enumerate(MISTAKES, 1):
        assert text.count(mistake.right) == 1, (
            f"{mistake.name}: the header no longer has {mistake.right!r} once"
        )
        changed = text.replace(mistake.right, mistake.wrong)
        digest = hashlib.sha256(changed.encode()).hexdigest()[:16]
        folder = CACHE / "ptx" / "variants" / digest
        path = folder / "core" / HEADER.name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(changed, encoding="utf-8")
        folders[number] = folder
    return folders
