"""The least that a stage of the user's own needs: an actor that goes down one objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

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
        """The loss of an update, the mean over its sources, and sums to log. Draws follow from `step`.

        Sums may be plain numbers.
        """

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
            ValueError: it returned something else than an `Objective`.
        """
        self.actor.train()
        place = f"stage {self.name}, update {step}: its objective"
        try:
            found = self.objective(batch, step)
        except Exception as error:
            words = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserCodeError(f"{place} raised {words}") from error
        loss, diagnostics = _checked(found, place)
        clip = self.settings.optimizer.clip
        norm = descend(loss, self.actor, self.optimizers["actor"], clip, share=batch.share)
        return {**diagnostics, "actor_gradient": norm}


_OWN_SUMS = ("actor_gradient", "updates")
"""Logged of every stage."""


def _checked(found: Any, place: str) -> Objective:
    """What an objective returned, its sums as tensors; raises ValueError where that cannot be trained on."""
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], Mapping)):
        raise ValueError(f"{place} must return Objective(loss, sums), got {_kind(found)}")
    loss, sums = found
    if not (isinstance(loss, Tensor) and loss.numel() == 1):
        raise ValueError(f"{place} must return a loss that is one number, a tensor, got {_kind(loss)}")
    if not loss.requires_grad:
        raise ValueError(
            f"{place} must return a loss that follows from the actor, got one without a gradient"
        )
    return Objective(loss, {name: _sum(name, value, place) for name, value in sums.items()})


def _sum(name: Any, value: Any, place: str) -> Tensor:
    if not isinstance(name, str) or name in _OWN_SUMS:
        raise ValueError(
            f"{place} must name its sums by words other than {', '.join(_OWN_SUMS)}, got {name!r}"
        )
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.detach().reshape(())
    if isinstance(value, Real):
        return torch.tensor(float(value), dtype=torch.float64)
    raise ValueError(f"{place} must return the sum {name} as one number, got {_kind(value)}")


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    if isinstance(value, tuple):
        return f"a tuple of {', '.join(type(part).__name__ for part in value) or 'nothing'}"
    return f"a {type(value).__name__}"
