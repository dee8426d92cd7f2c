"""Learning rates of a stage: the warm-up, and the curves that follow the count of updates instead of the validations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from softbellman.training.settings import ScheduleSettings
from softbellman.training.stages import Stage


def rate_factor(schedule: ScheduleSettings, update: int, *, decays: int = 0) -> float:
    """What the learning rate of an update is multiplied by, w being the updates of the warm-up and u the number of this one.

        warm-up        u / w up to u = w, times what follows
        plateau        decay^decays
        inverse_sqrt   sqrt(max(w, 1) / max(u, w))
        cosine         floor + (1 - floor) (1 + cos(pi (u - w) / (max_updates - w))) / 2
        constant       1

    Args:
        schedule: of the stage.
        update: u, from 1 on.
        decays: validations so far after which a plateau was decayed.
    """
    warmup = schedule.warmup_updates
    if update < warmup:
        growing = update / warmup
        return growing * schedule.decay**decays if schedule.kind == "plateau" else growing
    if schedule.kind == "plateau":
        return schedule.decay**decays
    if schedule.kind == "inverse_sqrt":
        return math.sqrt(max(warmup, 1) / update)
    if schedule.kind == "cosine":
        done = min((update - warmup) / (schedule.max_updates - warmup), 1.0)
        return schedule.floor + (1.0 - schedule.floor) * (1.0 + math.cos(math.pi * done)) / 2.0
    return 1.0


class LearningRates:
    """The learning rates of a stage's annealed optimisers.

    A plateau without warm-up multiplies them after validations. All else sets them before each update from the rates that the
    stage was built with, so that they follow from the count of updates and decays, whenever a run was stopped.
    """

    def __init__(self, stage: Stage) -> None:
        self._schedule, self._stage = stage.schedule, stage
        self._first = [float(group["lr"]) for group in self._groups()]

    @property
    def follow_updates(self) -> bool:
        """Whether the rates are set before each update."""
        return self._schedule.kind != "plateau" or self._schedule.warmup_updates > 0

    def set(self, update: int, *, decays: int) -> None:
        """Before update number `update`, from 1 on."""
        if not self.follow_updates:
            return
        factor = rate_factor(self._schedule, update, decays=decays)
        for group, first in zip(self._groups(), self._first, strict=True):
            group["lr"] = first * factor

    def decay(self) -> None:
        """After a validation that brought nothing."""
        if self.follow_updates:
            return  # `set` counts the decays
        for group in self._groups():
            group["lr"] *= self._schedule.decay

    def _groups(self) -> Iterator[dict[str, Any]]:
        """The optimisers' groups of parameters as they are now; a loaded state brings new ones."""
        for name in self._stage.annealed:
            yield from self._stage.optimizers[name].param_groups
