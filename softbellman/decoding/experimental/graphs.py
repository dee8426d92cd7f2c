"""Ancestral sampling with its step captured as a CUDA graph: one launch a token instead of dozens.

A graph repeats kernels on the same memory with the same arguments; `fixed_step` is a step that can live with that.

Notation: B sources, K samples per source, N = B*K rows, T steps, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import chain
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from softbellman.decoding.experimental.fixed_step import FixedStep, Form
from softbellman.decoding.experimental.state import device_of, shape_key
from softbellman.decoding.limits import forbidden_tokens
from softbellman.decoding.sampling import Drawer, Request, Samples, draw_by_steps, sample
from softbellman.decoding.stepwise import (
    StepState,
    StepwiseModel,
    StepwiseModule,
    Tempered,
    as_stepwise,
    inner_module,
)
from softbellman.models.projection import bfloat16_in_use

_WARM_UPS = 2  # runs before a capture, in which libraries make their handles and workspaces
_STEP_MULTIPLE = 16  # graphs have room for a multiple of so many steps


class StepGraph(Protocol):
    """A captured step."""

    def replay(self) -> None:
        """Do it again, on the same memory."""


Capture: TypeAlias = Callable[[Callable[[], None], torch.device], StepGraph]


class GraphSampler(Drawer):
    """`sample` for one model with its step as a CUDA graph, captured once for each shape of source and replayed.

    Experimental until it ran on a GPU: a stand-in for graphs tests it on the CPU.

    The draws are those of `sample` with the same arguments, but where rounding decides between two tokens: matmuls have other
    sizes. A call reads from the device twice, and once every `check_every` steps to see whether all rows have
    ended.

    Sources and positions are filled up to multiples so that few graphs serve many batches. The model's mode, autocast and
    bfloat16 matmuls belong to a graph. Weights are read where they lie, so they may be changed in place, as optimisers do.
    Where they have moved, every graph is captured anew. Dropout draws new masks at each replay.

    On another device than a GPU this is `sample`.

    Args:
        model: has `begin` and `step`, whose state keeps its shapes (a plain module reads a growing prefix: not possible).
        sources_multiple: of how many sources a batch is made.
        positions_multiple: of how many positions; where the state has a method `pad_positions`.
        check_every: steps between two looks at the open rows; up to one less are replayed in vain.
        most_graphs: that are kept; the one used longest ago goes first.
        capture: makes a graph of a step on a device; None: a CUDA graph on a GPU.

    Raises:
        TypeError: for a model without `begin` and `step`.
        ValueError: for a multiple or a number below 1.
    """

    def __init__(
        self,
        model: nn.Module | StepwiseModel,
        *,
        sources_multiple: int = 8,
        positions_multiple: int = 8,
        check_every: int = 8,
        most_graphs: int = 64,
        capture: Capture | None = None,
    ) -> None:
        inner = model.model if isinstance(model, Tempered) else model
        if isinstance(inner, StepwiseModule) or not (hasattr(inner, "begin") and hasattr(inner, "step")):
            raise TypeError(
                "a graph needs a model with begin and step; a module that reads whole prefixes is for sample"
            )
        numbers = {
            "sources_multiple": sources_multiple,
            "positions_multiple": positions_multiple,
            "check_every": check_every,
            "most_graphs": most_graphs,
        }
        for name, number in numbers.items():
            if number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        self._model = as_stepwise(model)
        self._module = inner_module(model)
        self._sources_multiple, self._positions_multiple = sources_multiple, positions_multiple
        self._check_every, self._most_graphs = check_every, most_graphs
        self._capture = capture
        self._pool: Any = None  # of memory, for all graphs
        self._captured: dict[Hashable, _Captured] = {}
        self._addresses: tuple[int, ...] = ()

    @property
    def graphs(self) -> int:
        """Number of graphs kept."""
        return len(self._captured)

    def __call__(self, source: Tensor, **options: Any) -> Samples:
        """Draw sequences for every source: the keyword arguments, results and errors are those of `sample`."""
        return sample(self, source, **options)

    def draw(self, request: Request) -> Samples:
        """Draw what is asked for by replaying a graph; see `sample`, which takes the sampler in place of a model."""
        source, limits, steps = request.source, request.limits, request.steps
        if request.truncated:
            raise ValueError(
                "top_k and top_p are not captured in graphs; sample without a GraphSampler has them"
            )
        if request.forced is not None or (self._capture is None and source.device.type != "cuda"):
            return draw_by_steps(self._model, request)
        samples, temperature = request.samples, request.temperature
        sources = _rounded_up(len(source), self._sources_multiple)
        state = self._model.begin(source) if request.start is None else request.start
        state = self._filled(state, len(source), sources).repeat(samples)
        longest = _rounded_up(steps, _STEP_MULTIPLE)
        form = Form(sources * samples, longest, temperature, request.keep_logits, request.special)
        captured = self._graph(state, form)
        step = captured.step
        step.load(state, limits, request.seed, request.offset, request.first_row)
        step.banned.copy_(
            forbidden_tokens(
                request.forbidden,
                request.allow_unknown,
                len(step.banned),
                step.banned.device,
                special=request.special,
                read=False,
            )
        )
        kept = None if step.logits is None else step.logits.new_empty(steps, *step.logits.shape)
        for done in range(steps):
            if done and done % self._check_every == 0 and not bool(step.open.any()):
                break
            captured.graph.replay()
            if kept is not None and step.logits is not None:
                kept[done].copy_(step.logits)
        return step.results(len(limits), kept)

    def _filled(self, state: StepState, sources: int, wanted: int) -> StepState:
        """The state with as many sources as wanted, the last one repeated, and a multiple of the positions."""
        if wanted > sources:
            index = torch.arange(wanted, device=device_of(state)).clamp_(max=sources - 1)
            state = state.select_sources(index)
        if hasattr(state, "pad_positions"):
            padded: StepState = state.pad_positions(self._positions_multiple)
            return padded
        return state

    def _graph(self, state: StepState, form: Form) -> _Captured:
        """The graph for a state of N rows, captured where there is none yet."""
        addresses = _addresses(self._module)
        if addresses != self._addresses:
            self._captured.clear()
            self._addresses = addresses
        key = (form, bfloat16_in_use(), _modes(self._module, device_of(state).type), shape_key(state))
        found = self._captured.pop(key, None)
        if found is None:
            while len(self._captured) >= self._most_graphs:
                self._captured.pop(next(iter(self._captured)))
            found = self._new_graph(state, form)
        self._captured[key] = found  # the latest is the last
        return found

    def _new_graph(self, state: StepState, form: Form) -> _Captured:
        device = device_of(state)
        # Random numbers drawn in these runs must not depend on which graphs happen to be there already.
        with torch.random.fork_rng(devices=[device.index] if device.type == "cuda" else []):
            step = FixedStep(self._model, state, form, device)
            return _Captured(step, (self._capture or self._capture_cuda_graph)(step, device))

    def _capture_cuda_graph(self, step: Callable[[], None], device: torch.device) -> StepGraph:
        """Run a step on a side stream until libraries are set up, then capture it.

        All graphs take their memory from one pool: they run one after the other, and what is read between two replays lies
        elsewhere.
        """
        with torch.cuda.device(device):
            side: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_WARM_UPS):
                    step()
            torch.cuda.current_stream().wait_stream(side)
            if not self._captured:  # torch gives up a pool with its last graph
                self._pool = torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                step()
            return graph


class _Captured(NamedTuple):
    step: FixedStep
    graph: StepGraph


def _rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _modes(module: nn.Module | None, device: str) -> Hashable:
    training = () if module is None else tuple(part.training for part in module.modules())
    return training, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)


def _addresses(module: nn.Module | None) -> tuple[int, ...]:
    """Where the weights lie."""
    if module is None:
        return ()
    return tuple(tensor.data_ptr() for tensor in chain(module.parameters(), module.buffers()))
