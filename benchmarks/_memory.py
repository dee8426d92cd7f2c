"""Memory that one call allocates: its peak, results included, and its largest block."""

from __future__ import annotations

from collections.abc import Callable

import torch


def peak_bytes(call: Callable[[], object], device: str) -> int:
    """The most bytes the call held at one time beyond what was there before.

    On CUDA this is what the caching allocator reports. On the CPU it is the running sum of torch's own
    allocations and releases as its profiler records them, in the order of time. It leaves out what a native
    kernel keeps for itself: in ours at most a few rows a thread.
    """
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = call()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - before
        del result
        return peak
    held = peak = 0
    for change in _changes(call):
        held += change
        peak = max(peak, held)
    return peak


def largest_bytes(call: Callable[[], object]) -> int:
    """The largest block that the call allocated on the CPU, inside operators too."""
    return max(_changes(call), default=0)


def _changes(call: Callable[[], object]) -> list[int]:
    """Bytes of torch's allocations, and less than 0 of its releases, on the CPU, in the order of time."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        result = call()
    del result
    events = profiler.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return [change for _, change in changes]
