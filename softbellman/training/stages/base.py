"""What every stage has in common: the interface the loop drives, optimisers, one clipped step, keys of random draws.

The batch of an update may be computed in parts (`schedule.accumulate`). Then `Stage.update` is called for each of them,
`descend` adds gradients up, and its step belongs to the last part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from softbellman.data import Batch
from softbellman.training.precision import as_recorded
from softbellman.training.processes import current
from softbellman.training.settings import OptimizerSettings, ScheduleSettings

Sums = dict[str, Tensor]
"""Diagnostics of one update: sums over tokens or sequences, beside their counts `tokens` and `sequences`."""

Judge = Callable[[], dict[str, float]]
"""Validation: metrics by name."""


class Stage(Protocol):
    """What `loop.run_stage` needs of a stage."""

    name: str
    schedule: ScheduleSettings
    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    annealed: tuple[str, ...]  # optimisers whose learning rate is decayed
    selection: str  # metric that selects; a leading minus means smaller is better
    start_is_candidate: bool

    def update(self, batch: Batch, step: int) -> Sums: ...

    def evaluate(self) -> dict[str, float]: ...


def selection_score(metrics: Mapping[str, float], selection: str) -> float:
    """What selects among validations, so that larger is better.

    Args:
        metrics: of a validation.
        selection: the name of one; a leading minus means smaller is better.

    Raises:
        ValueError: the validation did not measure it.
    """
    name = selection.lstrip("-")
    if name not in metrics:
        raise ValueError(
            f"{name} selects, but the stage's validation did not measure it; it measured {', '.join(metrics)}"
        )
    return -metrics[name] if selection.startswith("-") else metrics[name]


def numbers_of(metrics: Mapping[str, Any], selection: str, stage: str) -> dict[str, float]:
    """A validation's metrics as plain numbers.

    Args:
        metrics: numbers, or tensors of one.
        selection: as in `selection_score`.
        stage: its name, for error sentences.

    Raises:
        ValueError: one of them is no number, or the one that selects was not measured or is NaN.
    """
    found = {}
    for name, value in metrics.items():
        try:
            found[name] = float(value)
        except (TypeError, ValueError, RuntimeError):
            words = f"its validation must give numbers, got {type(value).__name__} as {name}"
            raise ValueError(f"stage {stage}: {words}") from None
    if math.isnan(selection_score(found, selection)):
        words = f"{selection.lstrip('-')} selects and must be a number, but the validation gave nan"
        raise ValueError(f"stage {stage}: {words}")
    return found


def build_optimizer(module: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimiser a stage's settings ask for, fused."""
    parameters = list(module.parameters())
    if settings.name == "sgd":
        return torch.optim.SGD(parameters, lr=settings.learning_rate, fused=True)
    options: dict[str, Any] = {
        "lr": settings.learning_rate,
        "betas": (settings.beta1, settings.beta2),
        "fused": True,
    }
    if settings.name == "adam":
        return torch.optim.Adam(parameters, **options)
    vectors = [parameter for parameter in parameters if parameter.dim() < 2]
    others = [parameter for parameter in parameters if parameter.dim() >= 2]
    groups = [
        {"params": others, "weight_decay": settings.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], **options)


@dataclass
class _Part:
    """Which part of an update's batch is being computed.

    Attributes:
        weight: its share of the batch's rows.
        first, last: whether it begins or ends the update.
        losses: of each module that descends, the weighted losses of the parts so far.
    """

    weight: float = 1.0
    first: bool = True
    last: bool = True
    losses: dict[int, Tensor] = field(default_factory=dict)


_part: ContextVar[_Part | None] = ContextVar("part of an update", default=None)


def update_in_parts(stage: Stage, batch: Batch, step: int) -> Sums:
    """One update of a stage on a batch, in as many parts as its schedule says, or as the batch has rows."""
    count = min(stage.schedule.accumulate, len(batch))
    if count <= 1:
        return stage.update(batch, step)
    losses: dict[int, Tensor] = {}
    total: Sums = {}
    for number in range(count):
        start, end = (len(batch) * place // count for place in (number, number + 1))
        part = _Part((end - start) / len(batch), number == 0, number == count - 1, losses)
        with _computing(part):
            sums = stage.update(batch.rows_between(start, end), step)
        for name, value in sums.items():
            total[name] = total[name] + value if name in total else value
    return total


@contextmanager
def _computing(part: _Part) -> Iterator[None]:
    token = _part.set(part)
    try:
        yield
    finally:
        _part.reset(token)


def ends_update() -> bool:
    """Whether what is computed is the last part of an update, or all of it: then averages and target networks follow."""
    part = _part.get()
    return part is None or part.last


def descend(
    loss: Tensor, module: nn.Module, optimizer: torch.optim.Optimizer, clip: float, *, share: float = 1.0
) -> Tensor:
    """One clipped step down the loss, none where the loss or a gradient is not finite, nor before the last part of an update.

    Of several processes each gives the loss of its rows; all make the step of the whole batch. On a GPU, where asking would
    wait for the device, gradients that are not finite count as 0.

    Args:
        loss: mean over this process's rows.
        module, optimizer: what is moved.
        clip: largest global gradient norm.
        share: of the batch's rows that this process has.

    Returns:
        The gradient norm before clipping; NaN or infinite where the step was skipped, 0 before the last part.
    """
    part = _part.get() or _Part()
    if part.first:
        optimizer.zero_grad(set_to_none=True)
    if part.weight != 1.0:
        loss = loss * part.weight
    with as_recorded(loss.device):
        loss.backward()  # type: ignore[no-untyped-call]
    if not (part.first and part.last):
        loss = part.losses[id(module)] = loss.detach() + part.losses.get(id(module), 0.0)
    if not part.last:
        return torch.zeros_like(loss)
    loss = current().reduce_gradients(module, loss, share)
    norm = nn.utils.clip_grad_norm_(module.parameters(), clip, foreach=True)
    norm = torch.where(loss.isfinite(), norm, torch.nan)
    if asking_waits(norm):
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter.grad = torch.where(norm.isfinite(), parameter.grad, 0.0)
    elif not norm.isfinite():
        return norm
    optimizer.step()
    return norm


def move_towards(module: nn.Module, average: nn.Module, share: float) -> None:
    """Move an average of a network's weights: `average <- share weights + (1 - share) average`; buffers are copied."""
    with torch.no_grad():
        for ours, theirs in zip(average.parameters(), module.parameters(), strict=True):
            ours.lerp_(theirs, share)
        for kept, found in zip(average.buffers(), module.buffers(), strict=True):
            kept.copy_(found)


def asking_waits(tensor: Tensor) -> bool:
    """Whether reading a number of a tensor waits for its device."""
    return tensor.device.type != "cpu"


def draw_key(seed: int, stage: str) -> int:
    """Key of a stage's draws, from 0 to 2**63 - 1."""
    digest = 0xCBF29CE484222325  # FNV-1a
    for byte in f"{stage}/{seed}".encode():
        digest = ((digest ^ byte) * 0x100000001B3) % 2**64
    return digest % 2**63
