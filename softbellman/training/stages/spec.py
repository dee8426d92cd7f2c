"""What the trainer knows of a stage: one description of each, beside the stage itself."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from torch import nn

from softbellman.config import nearest, within
from softbellman.data import SpecialTokens
from softbellman.decoding import StepwiseModel
from softbellman.training.settings import Settings, StageSettings
from softbellman.training.stages.base import Stage

if TYPE_CHECKING:
    from softbellman.training.algorithms import Algorithm
    from softbellman.training.assembly import Assembly

Network = Literal["actor", "reader"]
"""The networks of a run: the actor, and what reads the reference, critic or oracle."""

Trait = Literal["actor", "values", "fixed policy", "moving policy", "oracle", "weights"]
"""What a stage does, as the rules that say normal or broken ask for it. `actor`: it trains the actor further. `values`: a
critic learns the values of a policy, which is `fixed policy` or `moving policy`. `oracle`: soft Q-learning. `weights`: several
sequences of a source share one weight."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_NAMES = {"trains": get_args(Network), "uses": get_args(Network), "traits": get_args(Trait)}


class Metric(NamedTuple):
    """How the sums of an update become the number that is logged.

    Attributes:
        per: the sum that it is divided by, `tokens`, `sequences`, `sources`, or `updates`, which are counted for the stage.
        unit: of the quotient, in words.
    """

    per: str
    unit: str


class Decoder(NamedTuple):
    """What beam search decodes with.

    Attributes:
        model: the actor, or what is made of it.
        modules: networks beside the actor that it needs, by their names among the stage's, without their weights yet.
    """

    model: nn.Module | StepwiseModel
    modules: dict[str, nn.Module]


@dataclass(frozen=True)
class StageSpec:
    """A stage as the trainer, the cache and the reports know it.

    Attributes:
        name: of its files and records, and of its section in the settings; of a stage of your own in `stages`.
        build: makes the stage of the parts of a run and the stage's own settings, on the networks as they are then.
        label, colour: in learning curves.
        settings: dataclass of its settings, with a `schedule`; of a stage of your own. One of the package has a section of
            `Settings`.
        reads: other sections of the settings that decide its result, or single keys of them, such as `credit.tau`.
        also_reads: those that do so by some settings alone.
        ignores: keys of these sections that do not, by their dotted name.
        alike: of sections that it reads, one form of all with the same result; `cache` takes runs of equal forms for equal.
        trains: the networks that it changes.
        uses: the networks that its result depends on; those that it trains are put among them.
        with_reader: whether these settings have it train the reader that `trains` names.
        shared: its result is kept in `cache`, under a key of all that decides it.
        likelihood: it is maximum likelihood from scratch, the system MLE of tables, from which others start.
        traits: what else it does, for the rules that say normal or broken.
        temperature: key and value of the temperature that the payoff meets in it; None: none.
        metrics: of a stage of your own, how its sums are logged, by name. Sums that the package knows need no entry, nor do
            those that end in `_gradient`, which are means over updates. Others are not logged.
        decoder: what beam search decodes with, of its actor and the reserved ids.
        check: raises ValueError where the parts of a run do not suit it.

    Raises:
        ValueError: a name that is none of those above, settings without a schedule, or what is no `Metric`.
    """

    name: str
    build: Callable[[Assembly, Any], Stage]
    label: str = ""
    colour: str = "#7a5195"
    settings: type = StageSettings
    reads: tuple[str, ...] = ()
    also_reads: Callable[[Settings], tuple[str, ...]] = lambda settings: ()
    ignores: tuple[str, ...] = ()
    alike: Callable[[Settings], Mapping[str, Any]] = lambda settings: {}
    trains: tuple[Network, ...] = ("actor",)
    uses: tuple[Network, ...] = ("actor",)
    with_reader: Callable[[Settings], bool] = lambda settings: True
    shared: bool = False
    likelihood: bool = False
    traits: tuple[Trait, ...] = ()
    temperature: Callable[[Settings, Algorithm], tuple[str, float]] | None = None
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    check: Callable[[Assembly, Any], None] = lambda parts, settings: None
    decoder: Callable[[nn.Module, SpecialTokens], Decoder] = lambda actor, special: Decoder(actor, {})

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"the name of a stage must be of lower-case letters, digits and underscores, got {self.name!r}"
            )
        for argument, known in _NAMES.items():
            self._check_names(argument, known, f"of {', '.join(known)}")
        keys = [f"{section}.{key}" for section, found in _sections().items() for key in found]
        self._check_names("reads", [*_sections(), *keys], "sections of the settings, or SECTION.KEY")
        self._check_names("ignores", keys, "keys of the settings, SECTION.KEY")
        own = self.settings
        if not (isinstance(own, type) and is_dataclass(own) and "schedule" in own.__dataclass_fields__):
            raise ValueError(
                f"settings of the stage {self.name} must be a dataclass with a schedule, such as one derived from "
                f"StageSettings, got {own!r}"
            )
        for name, metric in self.metrics.items():
            if not isinstance(metric, Metric):
                raise ValueError(
                    f"metrics of the stage {self.name} must be Metric(per, unit) objects, got {metric!r} for {name}"
                )
        object.__setattr__(self, "uses", tuple(dict.fromkeys((*self.uses, *self.trains))))

    def _check_names(self, argument: str, known: Sequence[str], expected: str) -> None:
        """Raises ValueError where an argument is no tuple of known names."""
        given = getattr(self, argument)
        if isinstance(given, str):
            raise ValueError(
                f"{argument} of the stage {self.name} must be a tuple, got {given!r}; write ({given!r},)"
            )
        for name in given:
            if name not in known:
                hint = "" if argument in _NAMES else f"; nearest: {nearest(str(name), known)!r}"
                raise ValueError(
                    f"{argument} of the stage {self.name} must be {expected}, got {name!r}{hint}"
                )

    @property
    def trains_actor(self) -> bool:
        """Whether its selected actor is a system of the run, compared on the test set."""
        return "actor" in self.trains

    def reads_key(self, key: str) -> bool:
        """Whether a setting of another section, by its dotted name, decides its result."""
        return within(key, self.reads) and not within(key, self.ignores)

    def has(self, trait: Trait) -> bool:
        """Whether it does this."""
        further = self.trains_actor and not self.likelihood
        return trait in self.traits or (trait == "actor" and further)


@functools.cache
def _sections() -> dict[str, dict[str, Any]]:
    """The sections of the settings with their keys."""
    return {name: keys for name, keys in asdict(Settings()).items() if isinstance(keys, dict)}
