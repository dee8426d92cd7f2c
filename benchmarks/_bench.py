"""Measuring one operator at one size: contenders, streams of memory, inputs in turn, the record of it all."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks._harness import Comparison, as_record, compare, device_seconds, summarize
from benchmarks._memory import peak_bytes
from benchmarks._passes import check_contender, make_call, require_gradients
from benchmarks.contenders import Inputs, Operator, copy_inputs, make_inputs, set_apart


class Line(NamedTuple):
    rows: int
    vocabulary: int
    dtype: torch.dtype

    @property
    def shape(self) -> str:
        return f"{self.rows}x{self.vocabulary}"

    @property
    def type_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    @property
    def matrix_bytes(self) -> int:
        return self.rows * self.vocabulary * self.dtype.itemsize


class Contenders(NamedTuple):
    """What computes one pass, by name: functions of what `prepare` makes of the inputs; their errors and peaks."""

    calls: dict[str, Callable[[Any], object]]
    prepare: dict[str, Callable[[Inputs], Any]]
    errors: dict[str, float]
    memory: dict[str, int]


class Bench:
    """The inputs of one line and what is common to all of its cases."""

    def __init__(
        self,
        line: Line,
        *,
        device: str,
        repetitions: int,
        compiled: bool = True,
        rotated: bool = True,
        processor_time: bool = False,
    ) -> None:
        """`rotated` allocates as many inputs as no cache holds, else two; `processor_time` needs one
        thread."""
        self.line, self.device, self.compiled = line, device, compiled
        self.options: dict[str, Any] = {
            "repetitions": repetitions,
            "warmup": 1,  # the checks have run everything twice by then
            "rotate_every_call": True,
            "clock": time.process_time if processor_time else time.perf_counter,
        }
        if device.startswith("cuda"):
            self.options["measure"] = device_seconds
        cache, memory = _cache_bytes(device), _free_bytes(device)
        sets = -(-2 * cache // line.matrix_bytes) if rotated else 2
        sets = max(2, min(sets, memory // (4 * 4 * line.matrix_bytes)))  # in a quarter of what is free
        data = make_inputs(line.rows, line.vocabulary, line.dtype, device)
        self.inputs = [data, *(copy_inputs(data) for _ in range(sets - 1))]
        destination = set_apart(data.q)
        self.streams: dict[str, Callable[[Inputs], object]] = {
            "read": lambda data: _words(data.q).sum(),
            "copy": lambda data: destination.copy_(data.q.detach()),
            "copy_to_new": lambda data: data.q.detach().clone(),
        }

    def bandwidths(self) -> dict[str, float]:
        """Bytes per second of a read, of a copy into memory in use and of one into a new tensor."""
        timings = compare(self.streams, self.inputs, **self.options).timings
        moved = {"read": 1, "copy": 2, "copy_to_new": 2}
        return {name: moved[name] * self.line.matrix_bytes / timings[name].median for name in self.streams}

    def contenders(self, operator: Operator, which: str) -> Contenders:
        """Ours, eager and compiled for one pass of one operator, checked, with their memory."""
        functions = {"ours": operator.ours, "eager": operator.plain}
        if self.compiled:
            functions["compiled"] = torch.compile(operator.plain, dynamic=False)
        require_gradients(self.inputs, operator, which)
        calls, prepare, errors, memory = found = Contenders({}, {}, {}, {})
        for name, function in functions.items():
            errors[name] = check_contender(operator, which, function, self.inputs[0], name == "ours")
            prepare[name], calls[name] = make_call(operator, which, function)
            argument = prepare[name](self.inputs[0])
            memory[name] = peak_bytes(partial(calls[name], argument), self.device)
            del argument
        return found

    def case(self, operator: Operator, which: str) -> dict[str, Any]:
        """Check, memory and times of one pass of one operator."""
        torch._dynamo.reset()
        calls, prepare, errors, memory = self.contenders(operator, which)
        comparison = compare({**calls, **self.streams}, self.inputs, prepare=prepare, **self.options)
        return self._record(operator, which, comparison, errors, memory)

    def _record(
        self,
        operator: Operator,
        which: str,
        comparison: Comparison,
        errors: dict[str, float],
        memory: dict[str, int],
    ) -> dict[str, Any]:
        limits = {kind: _limits(operator, which, comparison, kind) for kind in ("copy", "copy_to_new")}
        shares = {
            kind: [limit / ours for limit, ours in zip(limits[kind], comparison.rounds["ours"], strict=True)]
            for kind in limits
        }
        reads, writes = operator.traffic(which)
        return {
            "operator": operator.name,
            "pass": which,
            "rows": self.line.rows,
            "vocabulary": self.line.vocabulary,
            "dtype": self.line.type_name,
            "device": self.device,
            "matrices_read": reads,
            "matrices_written": writes,
            "times": {name: as_record(timing) for name, timing in comparison.timings.items()},
            "ratios_to_ours": {name: as_record(comparison.ratio(name, "ours")) for name in errors},
            "limit": as_record(summarize(limits["copy"])),
            "share_of_limit": as_record(summarize(shares["copy"])),
            "limit_with_allocation": as_record(summarize(limits["copy_to_new"])),
            "share_of_limit_with_allocation": as_record(summarize(shares["copy_to_new"])),
            "peak_bytes": memory,
            "relative_error": errors if operator.exact else None,
        }


def _limits(operator: Operator, which: str, comparison: Comparison, copy: str) -> list[float]:
    """Seconds the memory needs for a pass, round by round: every written matrix is a copy of a read one."""
    reads, writes = operator.traffic(which)
    pairs = zip(comparison.rounds["read"], comparison.rounds[copy], strict=True)
    return [writes * copied + (reads - writes) * read for read, copied in pairs]


def _words(matrix: Tensor) -> Tensor:
    """The matrix as numbers that are summed at the speed of memory: pairs of 16-bit ones as float32."""
    flat = matrix.detach().view(-1)
    if flat.dtype.itemsize >= 4:
        return flat
    return flat[: flat.numel() // 2 * 2].view(torch.float32)


def _cache_bytes(device: str) -> int:
    """Size of the last-level cache; 64 MiB where the system does not say."""
    if device.startswith("cuda"):
        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    sizes = [64 * 1024]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        sizes.append(int(path.read_text().strip().removesuffix("K")))
    return max(sizes) * 1024


def _free_bytes(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info()[0]
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 4 << 30
