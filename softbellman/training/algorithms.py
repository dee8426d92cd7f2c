"""An algorithm is a list of stages and what it is defined by; the trainer never asks for an algorithm's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from softbellman.training.settings import Settings


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
        settle: settings with what the algorithm is defined by put in, whatever was asked for.
    """

    title: str
    stages: tuple[str, ...]
    settle: Callable[[Settings], Settings] = _as_given


ALGORITHMS = {
    "mle": Algorithm("MLE", ("actor",)),
    "ac": Algorithm("AC", ("actor", "warmup", "critic", "joint"), _without_entropy),
    "erac": Algorithm("ERAC", ("actor", "warmup", "critic", "joint")),
}
