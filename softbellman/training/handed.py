"""What is handed over in Python in the place of a name: to a run, and again to what continues or loads it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from torch import nn

from softbellman import config
from softbellman.core.objects import UserObject, given_object, hand_over, instance_of, load_object
from softbellman.training.algorithms import Algorithm
from softbellman.training.own_algorithm import hand_over_algorithm
from softbellman.training.own_model import ModelRequest
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import Settings

ModelFunction: TypeAlias = Callable[[ModelRequest], nn.Module]
"""What `model.kind` names."""


def given_instance(value: Any, *, key: str) -> UserObject:
    """As `given_object`, but a class stands for an instance of it, made without arguments.

    Args:
        value: a payoff or a data set.
        key: the setting, for error sentences.

    Raises:
        UserCodeError: the constructor raised.
    """
    found = given_object(value)
    if not inspect.isclass(value):
        return found
    if found.is_named:
        return load_object(found.name, key=key)
    made = instance_of(value, f"{key} {found.name}")
    return replace(found, value=made, version=str(getattr(made, "version", "")))


def with_handed(
    settings: Settings,
    *,
    algorithm: Algorithm | None = None,
    model: ModelFunction | None = None,
    payoff: UserObject | None = None,
    data: Any = None,
) -> Settings:
    """The settings with the names of what is handed over, which this process knows from here on.

    A payoff is not kept: whoever scores by it is given it.
    """
    if payoff is not None:
        settings = replace(settings, payoff=replace(settings.payoff, metric=payoff.name))
    if model is not None:
        kind = hand_over(model, key="model.kind")
        settings = replace(settings, model=replace(settings.model, kind=kind))
    if data is not None:
        kind = hand_over(data, key="data.kind", known=given_instance(data, key="data.kind"))
        settings = replace(settings, data=replace(settings.data, kind=kind))
    return settings if algorithm is None else replace(settings, algorithm=hand_over_algorithm(algorithm))


def take_handed(
    path: str | Path,
    *,
    algorithm: Algorithm | None = None,
    model: ModelFunction | None = None,
    payoff: Any = None,
    data: Any = None,
) -> UserObject | None:
    """Have this process know what was handed over to the run of a folder; returns the payoff.

    Raises:
        RunFolderError: no run folder.
        ValueError: the run has another algorithm, model, payoff or data set, by name.
    """
    scorer = None if payoff is None else given_instance(payoff, key="payoff.metric")
    if algorithm is None and model is None and scorer is None and data is None:
        return None
    settings = config.load(Settings, RunFolder.open(Path(path)).config_path)
    given = with_handed(settings, algorithm=algorithm, model=model, payoff=scorer, data=data)
    for argument, ours, theirs in (
        ("algorithm", given.algorithm, settings.algorithm),
        ("model", given.model.kind, settings.model.kind),
        ("payoff", given.payoff.metric, settings.payoff.metric),
        ("data", given.data.kind, settings.data.kind),
    ):
        if ours != theirs:
            raise ValueError(
                f"{argument} was handed over as {ours}, but {path} is a run with {theirs}: leave it out, or hand that "
                "one over"
            )
    return scorer
