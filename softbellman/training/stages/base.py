"""What every stage has in common: the interface the loop drives, optimisers, one clipped step, keys of random draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from softbellman.data import Batch
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


def build_optimizer(module: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimiser a stage's settings ask for, fused."""
    parameters = list(module.parameters())
    if settings.name == "sgd":
        return torch.optim.SGD(parameters, lr=settings.learning_rate, fused=True)
    return torch.optim.Adam(parameters, lr=settings.learning_rate, betas=(settings.beta1, 0.999), fused=True)


def descend(loss: Tensor, module: nn.Module, optimizer: torch.optim.Optimizer, clip: float) -> Tensor:
    """One clipped step down the loss, none where the loss or a gradient is not finite.

    On a GPU, where asking would wait for the device, the gradients count as 0 there.

    Returns:
        The gradient norm before clipping; NaN or infinite where the step was skipped.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(module.parameters(), clip, foreach=True)
    norm = torch.where(loss.detach().isfinite(), norm, torch.nan)
    if norm.is_cuda:
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter.grad = torch.where(norm.isfinite(), parameter.grad, 0.0)
    elif not norm.isfinite():
        return norm
    optimizer.step()
    return norm


def draw_key(seed: int, stage: str) -> int:
    """Key of a stage's draws, from 0 to 2**63 - 1."""
    digest = 0xCBF29CE484222325  # FNV-1a
    for byte in f"{stage}/{seed}".encode():
        digest = ((digest ^ byte) * 0x100000001B3) % 2**64
    return digest % 2**63
