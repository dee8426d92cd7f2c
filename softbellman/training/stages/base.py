"""What every stage has in common: the interface the loop drives, optimisers, one clipped step, keys of random draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from softbellman.data import Batch
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


def build_optimizer(module: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimiser a stage's settings ask for, fused."""
    parameters = list(module.parameters())
    if settings.name == "sgd":
        return torch.optim.SGD(parameters, lr=settings.learning_rate, fused=True)
    return torch.optim.Adam(parameters, lr=settings.learning_rate, betas=(settings.beta1, 0.999), fused=True)


def descend(
    loss: Tensor, module: nn.Module, optimizer: torch.optim.Optimizer, clip: float, *, share: float = 1.0
) -> Tensor:
    """One clipped step down the loss, none where the loss or a gradient is not finite.

    Of several processes each gives the loss of its rows; all make the step of the whole batch. On a GPU, where asking would
    wait for the device, gradients that are not finite count as 0.

    Args:
        loss: mean over this process's rows.
        module, optimizer: what is moved.
        clip: largest global gradient norm.
        share: of the batch's rows that this process has.

    Returns:
        The gradient norm before clipping; NaN or infinite where the step was skipped.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
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


def asking_waits(tensor: Tensor) -> bool:
    """Whether reading a number of a tensor waits for its device."""
    return tensor.device.type != "cpu"


def draw_key(seed: int, stage: str) -> int:
    """Key of a stage's draws, from 0 to 2**63 - 1."""
    digest = 0xCBF29CE484222325  # FNV-1a
    for byte in f"{stage}/{seed}".encode():
        digest = ((digest ^ byte) * 0x100000001B3) % 2**64
    return digest % 2**63
