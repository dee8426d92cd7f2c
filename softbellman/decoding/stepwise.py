"""The step-by-step interface that decoding needs, and the wrapper that gives it to any module.

Notation: B sources, K rows per source, N = B*K rows, t prefix length so far, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn


class StepState(Protocol):
    """A model's state of N rows, K of them for each source, in the order of the sources."""

    def repeat(self, count: int) -> StepState:
        """Repeat every row `count` times in place of itself."""

    def reorder(self, index: Tensor) -> StepState:
        """Take the rows `index` [N], each from the source of the row it replaces."""

    def select(self, index: Tensor) -> StepState:
        """Take any rows `index` [M]; each counts as a source of its own afterwards (K = 1)."""

    def select_sources(self, index: Tensor) -> StepState:
        """Take the sources `index` [M] with all K rows of each."""


class StepwiseModel(Protocol):
    """What `sample` and `beam_search` drive."""

    def begin(self, source: Tensor) -> StepState:
        """The state of B rows before the start token, for `source` [B, ...]."""

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read one token per row, [N], and return the logits of the next one, [N, V], with the new state."""


class PrefixState(NamedTuple):
    """The state of a model without one: everything it has read."""

    source: Tensor  # [B, ...], of any type
    prefix: Tensor  # [N, t]

    def repeat(self, count: int) -> PrefixState:
        """Repeat every row `count` times in place of itself."""
        return PrefixState(self.source, self.prefix.repeat_interleave(count, dim=0))

    def reorder(self, index: Tensor) -> PrefixState:
        """Take the rows `index` [N], each from the source of the row it replaces."""
        return PrefixState(self.source, self.prefix.index_select(0, index))

    def select(self, index: Tensor) -> PrefixState:
        """Take any rows `index` [M]; each gets its own copy of its source."""
        sources = torch.div(index, self._rows_per_source(), rounding_mode="floor")
        return PrefixState(self.source.index_select(0, sources), self.prefix.index_select(0, index))

    def select_sources(self, index: Tensor) -> PrefixState:
        """Take the sources `index` [M] with all K rows of each."""
        count = self._rows_per_source()
        rows = (
            index[:, None] * count + torch.arange(count, device=index.device)
        ).flatten()  # (M, K) -> (M*K)
        return PrefixState(self.source.index_select(0, index), self.prefix.index_select(0, rows))

    def _rows_per_source(self) -> int:
        return self.prefix.shape[0] // max(self.source.shape[0], 1)


class StepwiseModule:
    """Runs a module over the whole prefix at every step: quadratic work, no demand on the module.

    The module gets `source` [N, ...] (repeated for the K rows of a source) and `prefix` [N, t], which begins
    with the start token, and returns logits [N, t, V] of which the last position is used.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        """The module."""
        return (self.module,)

    def begin(self, source: Tensor) -> PrefixState:
        """The state of B rows before the start token, for `source` [B, ...]."""
        return PrefixState(source, source.new_empty(source.shape[0], 0, dtype=torch.int64))

    def step(self, tokens: Tensor, state: PrefixState) -> tuple[Tensor, PrefixState]:
        """Read one token per row: [N] -> logits [N, V] and the new state."""
        prefix = torch.cat([state.prefix, tokens[:, None]], dim=1)
        source = state.source.repeat_interleave(prefix.shape[0] // state.source.shape[0], dim=0)
        logits: Tensor = self.module(source, prefix)
        if logits.dim() != 3 or logits.shape[:2] != prefix.shape:
            raise ValueError(
                f"the model must map prefix {tuple(prefix.shape)} to logits [N, T, V], "
                f"got shape {tuple(logits.shape)}"
            )
        return logits[:, -1], PrefixState(state.source, prefix)


class Tempered:
    """A model whose logits are divided by a temperature: the Boltzmann policy softmax(Q / tau) of a Q-network."""

    def __init__(self, model: nn.Module | StepwiseModel, temperature: float) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.model = model
        self.temperature = temperature
        self._stepwise = as_stepwise(model)

    @property
    def parts(self) -> tuple[object, ...]:
        """The model that is tempered."""
        return (self.model,)

    def begin(self, source: Tensor) -> StepState:
        """The state of B rows before the start token, for `source` [B, ...]."""
        return self._stepwise.begin(source)

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read one token per row: [N] -> logits [N, V] over the temperature, and the new state."""
        logits, state = self._stepwise.step(tokens, state)
        return logits / self.temperature, state


class LastScore:
    """A model whose logits are scores of whole prefixes: `beam_search` ranks hypotheses by the last of them.

    No softmax is taken and nothing is added up, as in beam search optimisation (Wiseman and Rush, "Sequence-to-Sequence
    Learning as Beam-Search Optimization", 2016).

    Args:
        model: has `begin` and `step`, or maps (source, prefix) to logits.
        comparable: whether scores of hypotheses of different lengths can be compared, as log-probabilities can. Beam search
            optimisation compares hypotheses of one length alone: of its scores the first hypothesis that ends as the best
            extension of its step is the result.
    """

    def __init__(self, model: nn.Module | StepwiseModel, *, comparable: bool = False) -> None:
        self.parts, self.comparable = (model,), comparable
        self._stepwise = as_stepwise(model)

    def begin(self, source: Tensor) -> StepState:
        """The state of B rows before the start token, for `source` [B, ...]."""
        return self._stepwise.begin(source)

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read one token per row: [N] -> scores [N, V] of the prefixes that each next token makes, and the new state."""
        return self._stepwise.step(tokens, state)


def inner_module(model: object) -> nn.Module | None:
    """The module within a model, its wrappers taken off; None where there is none, or where there are several."""
    found = inner_modules(model)
    return found[0] if len(found) == 1 else None


def inner_modules(model: object) -> list[nn.Module]:
    """The modules within a model, its wrappers taken off: `parts` of a wrapper are the models that it asks."""
    if isinstance(model, nn.Module):
        return [model]
    return [module for part in getattr(model, "parts", ()) for module in inner_modules(part)]


def as_stepwise(model: nn.Module | StepwiseModel) -> StepwiseModel:
    """The model itself where it has `begin` and `step`, else a `StepwiseModule` around it."""
    if hasattr(model, "begin") and hasattr(model, "step"):
        return cast(StepwiseModel, model)
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module or have begin and step, got {type(model).__name__}")
    return StepwiseModule(model)
