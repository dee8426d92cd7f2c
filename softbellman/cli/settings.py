"""From command-line words and file names to the settings of a run."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from softbellman.cli.common import UserError, shortened
from softbellman.config import ConfigError, describe, load, nearest
from softbellman.training.own_algorithm import algorithm_of
from softbellman.training.settings import PRESETS, Settings

Override = tuple[str, str]


def split_overrides(
    parser: argparse.ArgumentParser, arguments: Sequence[str], settings_class: type
) -> tuple[list[str], list[Override]]:
    """Parts the words into the parser's own and the overrides `--a.b VALUE`, `--a.b=VALUE`.

    A key of truth values may stand without a value, for true. Any other `--name` that is neither an option of
    the parser nor a key is an error that names the nearest of both.
    """
    known = {key.name: key for key in describe(settings_class)}
    own = set(parser._option_string_actions)  # argparse has no public list of its options
    takes_value = {name for name, action in parser._option_string_actions.items() if action.nargs != 0}
    rest: list[str] = []
    overrides: list[Override] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("--") or name in own or word == "--":
            rest.append(word)
            if name in takes_value and not equals and words:
                rest.append(words.pop(0))
            continue
        key = name.removeprefix("--")
        if key not in known and "." not in key:
            candidates = [*known, *(option.removeprefix("--") for option in own)]
            raise UserError(f"unknown option {name!r}; nearest: '--{nearest(key, candidates)}'")
        if not equals:
            missing = not words or words[0].startswith("--")
            if missing and (key not in known or known[key].type != "true or false"):
                check_key(settings_class, key)
                raise UserError(f"{name} expects a value: {known[key].type if key in known else 'YAML'}")
            value = "true" if missing else words.pop(0)
        overrides.append((key, value))
    return rest, overrides


def check_key(settings_class: type, key: str) -> None:
    """Raises the error of an unknown key, if it is one."""
    names = _names(settings_class)
    if key not in names and not any(name.startswith(f"{key}.") for name in names):
        raise ConfigError(f"--{key}: unknown key {key!r}; nearest: {nearest(key, names)!r}")


def load_settings(
    files: Iterable[Path], overrides: Sequence[Override], *, left_out: dict[str, str] | None = None
) -> Settings:
    """The settings of a run: defaults, preset, files, overrides, then what the algorithm is defined by.

    An override that contradicts the algorithm, such as a temperature for plain actor-critic, is an error; a
    value in a file gives way, so that one file serves several algorithms. `left_out` is as of `config.load`.
    """
    given = load(Settings, *files, overrides=overrides, presets={"preset": PRESETS}, left_out=left_out)
    algorithm = algorithm_of(given)
    settled = algorithm.definition(given)
    for key, text in overrides:
        if not algorithm.uses(key):
            own = key.partition(".")[0] in algorithm.stages
            stages = "" if own else f"; its stages are {', '.join(algorithm.stages)}"
            raise ConfigError(f"--{key}: the algorithm {given.algorithm!r} does not use it{stages}")
        if key in _names(Settings) and _value(settled, key) != _value(given, key):
            raise ConfigError(
                f"--{key}: the algorithm {given.algorithm!r} is defined by {key} = {_value(settled, key)}; "
                f"given {shortened(text)}"
            )
    return settled


def load_resumed(run: Path, overrides: Sequence[Override]) -> Settings:
    """The settings that a run is continued with: its own, and overrides that may differ; others are refused by name."""
    from softbellman.training.record import RunRecord
    from softbellman.training.resumption import changed_settings
    from softbellman.training.runfolder import RunFolder

    folder = RunFolder.open(run)
    settings = load_settings([folder.config_path], overrides)
    changed_settings(RunRecord.read(folder.path), settings)
    return settings


def _names(settings_class: type) -> list[str]:
    return [key.name for key in describe(settings_class)]


def _value(settings: Any, key: str) -> Any:
    for part in key.split("."):
        settings = settings[int(part)] if part.isdigit() else getattr(settings, part)
    return settings


def find_config(name: str) -> Path:
    """The settings file of that name: a path, else a file shipped with the package by its bare name."""
    path = Path(name)
    if path.exists():
        return path
    shipped = {file.stem: file for folder in config_folders() for file in sorted(folder.glob("*.yaml"))}
    if path.stem in shipped and path.suffix in ("", ".yaml") and len(path.parts) <= 2:
        return shipped[path.stem]
    guess = nearest(path.stem, shipped)
    hint = f"; shipped with the package: {', '.join(sorted(shipped))}; nearest: {guess!r}" if shipped else ""
    raise UserError(f"{name}: there is no such settings file{hint}")


def config_folders() -> list[Path]:
    """Where shipped settings stand: in the installed package, or at the root of the repository."""
    package = Path(__file__).parents[1]
    return [folder for folder in (package.parent / "configs", package / "configs") if folder.is_dir()]
