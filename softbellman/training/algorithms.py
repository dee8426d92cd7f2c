"""An algorithm is a list of stages and what it is defined by; the trainer never asks for an algorithm's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from softbellman.training.settings import Settings, follow_data


def _as_given(settings: Settings) -> Settings:
    return settings


def _without_entropy(settings: Settings) -> Settings:
    return replace(settings, credit=replace(settings.credit, tau=0.0))


@dataclass(frozen=True)
class Algorithm:
    """A list of stages.

    Attributes:
        title: name in tables.
        stages: names of stages, in order; each starts from the results of those before it. One of 0 epochs is left out.
        reader: section of the settings of the network that reads the reference.
        definition: settings with what the algorithm is defined by put in, whatever was asked for.
    """

    title: str
    stages: tuple[str, ...]
    reader: Literal["critic", "oracle"] = "critic"
    definition: Callable[[Settings], Settings] = _as_given

    def settle(self, settings: Settings) -> Settings:
        """The settings that a run of the algorithm has: with its definition, and with what follows from the data."""
        return follow_data(self.definition(settings))

    def last_stage(self, settings: Settings) -> str:
        """The last stage with at least one epoch; the first where there is none."""
        trained = [name for name in self.stages if getattr(settings, name).schedule.epochs > 0]
        return trained[-1] if trained else self.stages[0]

    def uses(self, key: str) -> bool:
        """Whether a setting, by its dotted name, plays a part in this algorithm."""
        section = key.partition(".")[0]
        if "." not in key or section in _ALWAYS:
            return True
        return section in self.stages or any(section in _SHARED.get(stage, ()) for stage in self.stages)


_ALWAYS = ("data", "model", "evaluation", "checkpoint")
_SHARED = {
    "critic": ("payoff", "credit"),
    "joint": ("payoff", "credit"),
    "oracle": ("payoff",),
    "augmented": ("payoff",),
    "completion": ("payoff", "credit"),
}
"""Sections that are no stage's own, by the stages that read them."""

ALGORITHMS = {
    "mle": Algorithm("MLE", ("actor",)),
    "raml": Algorithm("RAML", ("actor", "augmented")),
    "vaml": Algorithm("VAML", ("actor", "warmup", "oracle", "augmented"), reader="oracle"),
    "ocd": Algorithm("OCD", ("actor", "completion")),
    "ac": Algorithm("AC", ("actor", "warmup", "critic", "joint"), definition=_without_entropy),
    "erac": Algorithm("ERAC", ("actor", "warmup", "critic", "joint")),
}

ACTOR_STAGES = ("actor", "joint", "augmented", "completion")
"""The stages that train the actor."""
