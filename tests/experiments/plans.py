"""Experiments of two conditions, and their runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from softbellman.cli.settings import find_config, load_settings
from softbellman.experiments.description import Condition, Experiment, Part
from softbellman.experiments.plan import Plan, make_plan
from softbellman.training.settings import Settings


def resolve(names: Sequence[str], overrides: Sequence[tuple[str, str]]) -> Settings:
    return load_settings([find_config(name) for name in names], overrides)


def plan_of(experiment: Experiment, root: Path, **options: object) -> Plan:
    return make_plan(experiment, root, resolve=resolve, **options)  # type: ignore[arg-type]


def two(**options: object) -> Experiment:
    """ERAC and RAML on the built-in corpus."""
    given: dict[str, object] = {
        "title": "Two",
        "conditions": (Condition(name="ERAC", config="erac"), Condition(name="RAML", config="raml")),
        "parts": (Part(name="Built-in", prefix="builtin_"),),
        "runs": 2,
        **options,
    }
    return Experiment(**given)  # type: ignore[arg-type]
