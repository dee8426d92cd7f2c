"""Memory that stays with the process: what glibc's allocator does with the large tensors of a training step.

A step on the CPU makes and frees matrices of tens of megabytes, [rows, vocabulary] above all. glibc takes each block above
32 MB afresh from the system and gives it back when it is freed, so every step pays for the same page faults again: the system
clears each page before the process may write it. Kept, the pages are written at the memory's own speed.
"""

from __future__ import annotations

import ctypes
import sys

# Parameter numbers of mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_GROWTH = 64 << 20
_LARGEST = (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Let the C library keep freed memory for the next allocation instead of returning it; False where it has no such switch.

    For the rest of the process, and for every library in it: blocks come from the heap, which grows by 64 MB at a time and is
    trimmed only above 2 GB of free memory at its end. The price is fragmentation: the process may stay larger than it was
    with pages returned. An allocator put in glibc's place (LD_PRELOAD) is not affected. No number changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _LARGEST), (_TOP_PAD, _GROWTH))
    return all(library.mallopt(parameter, value) == 1 for parameter, value in settings)
