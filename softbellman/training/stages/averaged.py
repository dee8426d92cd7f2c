"""Averaged weights of the actor, around any stage that trains it."""

from __future__ import annotations

from torch import nn

from softbellman.data import Batch
from softbellman.training.stages.base import Stage, Sums, ends_update, move_towards


class AveragedStage:
    """A stage whose validation, selection and result are those of an average of the actor's weights.

    After each update `average <- decay average + (1 - decay) actor`. The average begins as the actor's weights.

    Args:
        stage: trains `trained`.
        average: the actor of the run.
        trained: a copy of it.
        decay: above 0 and below 1.
    """

    def __init__(self, stage: Stage, *, average: nn.Module, trained: nn.Module, decay: float) -> None:
        self.name, self.schedule, self.selection = stage.name, stage.schedule, stage.selection
        self.optimizers, self.annealed = stage.optimizers, stage.annealed
        self.start_is_candidate, self.evaluate = stage.start_is_candidate, stage.evaluate
        self.modules = {**stage.modules, "actor": average, "trained_actor": trained}
        average.load_state_dict(trained.state_dict())  # new weights, where the stage gave it such
        self._stage, self._average, self._trained, self._decay = stage, average, trained, decay

    def update(self, batch: Batch, step: int) -> Sums:
        sums = self._stage.update(batch, step)
        if ends_update():
            move_towards(self._trained, self._average, 1 - self._decay)
        return sums
