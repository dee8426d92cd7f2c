"""An experiment as data: the conditions that are compared, the data they are compared on, and what is expected of them.

title: Future entropy
baseline: AC
orderings: [AC < ERAC without future entropy < ERAC]
runs: 3
parts:
  - name: builtin
    prefix: builtin_
conditions:
  - {name: AC, config: erac, set: [algorithm=ac]}
  - {name: ERAC, config: erac}
  - {name: ERAC without future entropy, config: erac, set: [credit.future_entropy=false]}
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from softbellman import config
from softbellman.config import ConfigError
from softbellman.training.settings.common import Count, Natural

NAME = "experiment.yaml"
"""The file of an experiment's folder that describes it."""

_ABOVE = 4  # folders above a run in which its experiment is looked for


@dataclass(frozen=True)
class Condition:
    """A system: settings with a name."""

    name: str
    """Name in tables and reports."""
    config: str
    """Settings file, behind the prefix of the part: a shipped one by its name, or a path beside the experiment's file."""
    set: tuple[str, ...] = ()
    """Settings over those of the file, as KEY=VALUE."""
    vary: tuple[str, ...] = ()
    """Settings with several values, as KEY=VALUE,VALUE: a condition for each, or for each combination. Its name gets the
    values. A comma within brackets or quotes is part of a value; two values may not mean the same."""
    choose: tuple[str, ...] = ()
    """Settings whose values are tried first, as KEY=VALUE,VALUE. The runs have the value, or the combination, of the best mean
    validation score over the experiment's `tuning_seeds`."""
    runs: Natural = 0
    """How many runs; 0: as many as the part says."""
    baseline: str = ""
    """Condition that this one is compared with; empty: the experiment's."""

    def taken_apart(self) -> Iterator[Condition]:
        """A condition for each combination of the values in `vary`; itself where there are none."""
        if not self.vary:
            yield self
            return
        for chosen in itertools.product(*map(_values, self.vary)):
            words = ", ".join(f"{key.rpartition('.')[2].replace('_', ' ')} {value}" for key, value in chosen)
            own = (f"{key}={value}" for key, value in chosen)
            yield replace(self, name=f"{self.name}, {words}", set=(*self.set, *own), vary=())


@dataclass(frozen=True)
class Part:
    """A data set, or another variant of everything, in which all conditions are run."""

    name: str
    """Name of its folder and its section in the report."""
    prefix: str = ""
    """What stands before the names of the conditions' settings files, such as `multi30k_`."""
    data: str = ""
    """Name of the data set, whose folder the user gives; empty: none is needed. Without the folder the part is left out."""
    size: Literal["", "small", "full"] = ""
    """With which `--size` it is run; empty: with both."""
    config: str = ""
    """Settings file over those of the conditions, such as one of smaller sizes; empty: none."""
    set: tuple[str, ...] = ()
    """Settings over those of the files, below those of the conditions, as KEY=VALUE; for the algorithms that use them."""
    runs: Natural = 0
    """Runs of each condition; 0: as many as the experiment says."""
    conditions: tuple[str, ...] = ()
    """Names of the conditions that are run; empty: all."""


@dataclass(frozen=True)
class Experiment:
    """Conditions, the parts they are run in, and what is expected of them."""

    title: str
    """Heading of the report."""
    conditions: tuple[Condition, ...]
    parts: tuple[Part, ...]
    baseline: str = "MLE"
    """Condition that the others are compared with; a run's start is `MLE`."""
    orderings: tuple[str, ...] = ()
    """What is expected, as `MLE < RAML < VAML`; each step gets a verdict. Empty: the paper's orderings."""
    runs: Count = 3
    """Runs of each condition, of seeds 1, 2, ..."""
    actors: Natural = 0
    """Different maximum-likelihood actors among the runs of a condition, and as many critics or oracles. Runs 1 to 3 of 3
    actors have their own; runs 4 to 6, and 7 to 9, take each actor with the next critic. 0: every run has its own."""
    tuning_seeds: tuple[int, ...] = (11, 12)
    """Seeds of the trials of `choose`; none may be that of a run."""

    def __post_init__(self) -> None:
        names = [condition.name for condition in self.conditions]
        for kind, given in (("condition", names), ("part", [part.name for part in self.parts])):
            twice = [name for name in given if given.count(name) > 1]
            if twice or not given:
                raise ValueError(f"{kind} {twice[0]!r} is there twice" if twice else f"there is no {kind}")
        if min(self.tuning_seeds, default=1) < 1:
            raise ValueError(f"tuning_seeds begin at 1, given {min(self.tuning_seeds)}")
        if len(set(self.tuning_seeds)) < len(self.tuning_seeds):
            raise ValueError("a seed is twice in tuning_seeds")
        for condition in self.conditions:
            if condition.choose and (condition.vary or not self.tuning_seeds):
                other = "vary" if condition.vary else "no tuning_seeds"
                raise ValueError(f"condition {condition.name!r} has choose and {other}")
        for part in self.parts:
            for name in part.conditions:
                if name not in names:
                    raise ValueError(f"part {part.name!r} names condition {name!r}, which is not there")

    def conditions_of(self, part: Part) -> Iterator[Condition]:
        """The conditions that are run in a part, those with several values taken apart."""
        for condition in self.conditions:
            if not part.conditions or condition.name in part.conditions:
                yield from condition.taken_apart()

    def names(self) -> list[str]:
        """The full names of all conditions, in order."""
        return [single.name for condition in self.conditions for single in condition.taken_apart()]

    def runs_of(self, part: Part, condition: Condition, *, asked: int = 0) -> int:
        """How many runs a condition has in a part; `asked` (0: nothing) wins where the condition does not say itself."""
        return min(condition.runs, asked or condition.runs) or asked or part.runs or self.runs

    def baseline_of(self, name: str) -> str:
        """What a condition is compared with, by its full name."""
        for condition in self.conditions:
            if any(single.name == name for single in condition.taken_apart()):
                return condition.baseline or self.baseline
        return self.baseline


def load_experiment(path: str | Path) -> Experiment:
    """Read an experiment; ConfigError names file, line and key where it cannot be read."""
    experiment: Experiment = config.load(Experiment, path)
    sets = [given.set + given.vary + given.choose for given in experiment.conditions]
    for text in (text for given in (*sets, *(part.set for part in experiment.parts)) for text in given):
        split_setting(text)
    return experiment


def split_setting(text: str) -> tuple[str, str]:
    """`KEY=VALUE` in two; ConfigError where there is no equals sign."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"a setting is written KEY=VALUE, given {text!r}")
    return key.strip(), value.strip()


def split_values(text: str) -> list[str]:
    """Several values of a setting: text between commas, of which those within brackets or quotes are part of a value.

    Raises:
        ConfigError: a bracket or a quote is not closed, or a bracket is not opened.

    Example:
        >>> split_values("[bleu=0.7,chrf=0.3], [bleu=1]")
        ['[bleu=0.7,chrf=0.3]', '[bleu=1]']
    """
    values, depth, quote, before = [""], 0, "", ""
    for mark in text:
        if quote:
            quote = "" if mark == quote else quote
        elif mark in "'\"" and not before.isalnum():  # an apostrophe is no quote
            quote = mark
        elif mark in "[{":
            depth += 1
        elif mark in "]}":
            depth -= 1
        if mark == "," and not depth and not quote:
            values.append("")
        else:
            values[-1] += mark
        if depth < 0:
            break
        before = mark
    if depth or quote:
        raise ConfigError(f"a bracket or a quote has no other half in {text!r}")
    return [value.strip() for value in values]


def file_name(name: str) -> str:
    """The name of a part or a condition as that of a folder: small letters, digits, points and hyphens.

    No folder begins with a point, which would hide it.

    Example:
        >>> file_name("ERAC, tau 0.01"), file_name("./mine.py:algorithm")
        ('erac-tau-0.01', 'mine.py-algorithm')
    """
    words = "".join(c if c.isalnum() or c == "." else " " for c in name.lower()).split()
    return "-".join(words).lstrip(".-") or "unnamed"


def experiment_of(run: Path) -> tuple[Experiment | None, str]:
    """The experiment that a run folder belongs to, and the name of its part; (None, "") of any other run."""
    folder = folder_of(run)
    if folder is None:
        return None, ""
    experiment = load_experiment(folder / NAME)
    names = {file_name(part.name): part.name for part in experiment.parts}
    part = run.absolute().relative_to(folder).parts[0]
    return experiment, names.get(part, part)


def folder_of(run: Path) -> Path | None:
    """The folder of the experiment that a run folder belongs to, None of any other run."""
    for above in run.absolute().parents[1:_ABOVE]:
        if (above / NAME).is_file():
            return above
    return None


def _values(text: str) -> list[tuple[str, str]]:
    """`KEY=VALUE,VALUE` as the key with each value."""
    key, values = split_setting(text)
    return [(key, value) for value in split_values(values)]
