"""The least that a stage of the user's own needs: an actor that goes down one objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from softbellman.core.head import Rows
from softbellman.core.objects import UserCodeError
from softbellman.data import Batch
from softbellman.objectives import Objective
from softbellman.training.rollout import vocabulary_rows
from softbellman.training.stages.base import Sums, build_optimizer, descend

if TYPE_CHECKING:
    from softbellman.training.assembly import Assembly


class ActorObjective(ABC):
    """A stage that trains the actor of the stages before down an objective; `evaluation.select_by` selects.

    A class that derives from it names the stage and says what `objective` is. It builds its own `StageSpec`:
    `StageSpec("mine", Mine)`.

    Args:
        parts: of the run: its payoff, data and networks.
        settings: of the stage, `StageSettings` or what derives from it.
    """

    name: ClassVar[str]
    selection = "dev_bleu"
    annealed: tuple[str, ...] = ("actor",)
    start_is_candidate = True

    def __init__(self, parts: Assembly, settings: Any) -> None:
        self.parts, self.settings, self.schedule = parts, settings, settings.schedule
        self.actor = parts.actor
        self.modules = {"actor": self.actor}
        self.optimizers = {"actor": build_optimizer(self.actor, settings.optimizer)}
        self.evaluate = parts.judge_actor

    @abstractmethod
    def objective(self, batch: Batch, step: int) -> Objective:
        """The loss of an update, the mean over its sources, and sums to log. Draws follow from `step`."""

    def logits(self, batch: Batch) -> tuple[Rows, Any]:
        """The actor's logits before each token of the references, and these tokens. `[M, V]`, `[M]`."""
        rows = batch.rows
        said = vocabulary_rows(
            self.actor, batch.source, batch.prefix, rows, logits=self.parts.settings.logits
        )
        return said, batch.labels.flatten()[rows]

    def update(self, batch: Batch, step: int) -> Sums:
        """One step of the actor.

        Raises:
            UserCodeError: `objective` raised; commands show its trace.
        """
        self.actor.train()
        try:
            loss, diagnostics = self.objective(batch, step)
        except Exception as error:
            words = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserCodeError(f"stage {self.name}, update {step}: its objective raised {words}") from error
        clip = self.settings.optimizer.clip
        norm = descend(loss, self.actor, self.optimizers["actor"], clip, share=batch.share)
        return {**diagnostics, "actor_gradient": norm}
