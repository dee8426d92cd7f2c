"""A settings file trained over seeds and over values of some settings, as an experiment of one part."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from softbellman.config import ConfigError
from softbellman.experiments.collect import algorithm_name
from softbellman.experiments.description import Condition, Experiment, Part, split_setting, split_values
from softbellman.experiments.plan import Override, Resolve, check_distinct
from softbellman.training.settings import Settings

PART = "runs"
"""Name of the folder of the runs within the sweep's."""

_RANGE = re.compile(r"(\d{1,9})(?:\.\.(\d{1,9}))?")
MOST_RUNS = 10_000


def parse_seeds(words: Sequence[str]) -> tuple[int, ...]:
    """Seeds as they are typed: `1..9`, `1,4,7`, or both, in words of their own or not.

    Raises:
        ValueError: something else, seed 0, a range that goes down, a seed twice.

    Example:
        >>> parse_seeds(["1..3,7", "9"])
        (1, 2, 3, 7, 9)
    """
    seeds: list[int] = []
    for part in (part for word in words for part in word.split(",")):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"seeds are numbers and ranges such as 1..9 or 1,4,7, given {part[:40]!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 1 <= first <= last:
            raise ValueError(f"seeds begin at 1 and ranges go up, given {part!r}")
        if last - first >= MOST_RUNS:
            raise ValueError(f"{part} are more than {MOST_RUNS:,} seeds")
        seeds += range(first, last + 1)
    if len(set(seeds)) < len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise ValueError(f"seed {twice} is there twice")
    return tuple(seeds)


def describe_sweep(
    config: Path, vary: Sequence[str], overrides: Sequence[Override], *, resolve: Resolve
) -> Experiment:
    """The experiment that a sweep is.

    Args:
        config: the settings file.
        vary: settings with several values, as KEY=VALUE,VALUE (see `split_values`); every combination is a condition.
        overrides: settings of all runs, over those of the file.
        resolve: how settings are read.

    Raises:
        ConfigError: settings that cannot be used, a key that is varied and given or varied twice, or two values that are the
            same.
    """
    axes = [(key, list(filter(None, split_values(values)))) for key, values in map(split_setting, vary)]
    keys = [key for key, _ in axes]
    for key, values in axes:
        if keys.count(key) > 1 or key in dict(overrides):
            raise ConfigError(f"--vary {key}: the setting is given twice")
        if key == "seed":
            raise ConfigError("--vary seed: --seeds says which seeds are trained")
        if not values:
            raise ConfigError(f"--vary {key}: there is no value; write {key}=VALUE,VALUE")
    conditions = tuple(_conditions(config, axes, overrides, resolve))
    title = f"Sweep of {config.stem}" + (f" over {', '.join(keys)}" if keys else "")
    return Experiment(title=title, conditions=conditions, parts=(Part(name=PART),))


def _conditions(
    config: Path, axes: Sequence[tuple[str, list[str]]], overrides: Sequence[Override], resolve: Resolve
) -> Iterator[Condition]:
    systems: list[tuple[str, Settings]] = []
    algorithms: dict[str, str] = {}
    for values in itertools.product(*(values for _, values in axes)):
        chosen = list(zip((key for key, _ in axes), values, strict=True))
        own = [*overrides, *chosen]
        settings = resolve([str(config)], own)
        systems.append((", ".join(f"{key}={value}" for key, value in chosen), settings))
        system = algorithm_name(settings)
        if algorithms.setdefault(system, settings.algorithm) != settings.algorithm:
            system = f"{system}, {settings.algorithm}"  # two of one title
        words = [
            f"{key.rpartition('.')[2].replace('_', ' ')} {value}"
            for key, value in chosen
            if key != "algorithm"
        ]
        yield Condition(
            name=", ".join([settings.label or system, *words]),
            config=str(config),
            set=tuple(f"{key}={value}" for key, value in own),
        )
    check_distinct(systems, "--vary")
