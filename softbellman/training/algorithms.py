"""An algorithm is a list of stages and what it is defined by; the trainer never asks for an algorithm's name, nor a stage's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from softbellman import config
from softbellman.config import ConfigError, within
from softbellman.training.settings import Settings, follow_data
from softbellman.training.settings.checks import check_schedule
from softbellman.training.stages import SPECS
from softbellman.training.stages.spec import StageSpec, Trait


def _as_given(settings: Settings) -> Settings:
    return settings


def _without_entropy(settings: Settings) -> Settings:
    return replace(settings, credit=replace(settings.credit, tau=0.0, prior="none"))


def _without_learning(settings: Settings) -> Settings:
    """An oracle that is not learnt has no stage of its own, and no start."""
    if settings.oracle.kind == "learnt":
        return settings
    warmup = replace(settings.warmup, schedule=replace(settings.warmup.schedule, epochs=0))
    oracle = replace(settings.oracle, schedule=replace(settings.oracle.schedule, epochs=0))
    return replace(settings, warmup=warmup, oracle=oracle)


def _consistent(settings: Settings) -> Settings:
    """Values of the actor's own logits have no network that would be warmed up."""
    if settings.consistency.value == "separate":
        return settings
    warmup = replace(settings.warmup, schedule=replace(settings.warmup.schedule, epochs=0))
    return replace(settings, warmup=warmup)


def _sequence(objective: str, baseline: str = "") -> Callable[[Settings], Settings]:
    """What an algorithm of the sequence-level stage is defined by; an empty baseline is that which was asked for."""

    def settled(settings: Settings) -> Settings:
        own = settings.sequence
        options: dict[str, Any] = {
            "objective": objective,
            "baseline": baseline or own.baseline,
            "mixer_chunk": 0,
        }
        return replace(settings, sequence=replace(own, **options))

    return settled


def _mixed(settings: Settings) -> Settings:
    """MIXER: the baseline is learnt, and the drawn ends grow."""
    chunk = settings.sequence.mixer_chunk or 2
    settings = _sequence("policy_gradient", "learnt")(settings)
    return replace(settings, sequence=replace(settings.sequence, mixer_chunk=chunk))


@dataclass(frozen=True)
class Algorithm:
    """A list of stages.

    Attributes:
        title: name in tables.
        order: the stages, each by its name in the package or as a `StageSpec` of your own; each starts from the results of
            those before it. One of 0 epochs is left out.
        reader: section of the settings of the network that reads the reference.
        definition: settings with what the algorithm is defined by put in, whatever was asked for.
        unread: settings of its stages that play no part in it, by their dotted names; a section stands for all within.
        version: of an algorithm of your own, where more than its file decides what it does.

    Raises:
        ValueError: what is no stage, a name that is none of the package's or that two stages have, or another reader.
    """

    title: str
    order: tuple[str | StageSpec, ...]
    reader: Literal["critic", "oracle"] = "critic"
    definition: Callable[[Settings], Settings] = _as_given
    unread: tuple[str, ...] = ()
    version: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.order, (str, StageSpec)):
            raise ValueError(
                f"the stages of {self.title} must be a tuple, got {self.order!r}; write a comma behind it: (STAGE,)"
            )
        if self.reader not in ("critic", "oracle"):
            raise ValueError(f"reader of {self.title} must be critic or oracle, got {self.reader!r}")
        for part in self.order:
            if not isinstance(part, (str, StageSpec)):
                raise ValueError(
                    f"the stages of {self.title} must be names of the package or StageSpec objects, got {part!r}"
                )
            if isinstance(part, str) and part not in SPECS:
                raise ValueError(
                    f"the stages of {self.title} must be of {', '.join(SPECS)} or StageSpec objects, got {part!r}; "
                    f"nearest: {config.nearest(part, SPECS)!r}"
                )
            if not isinstance(part, str) and part.name in SPECS:
                raise ValueError(
                    f"a stage of {self.title} must have a name of its own, got {part.name!r}, one of the package's"
                )
        if not self.order or len(set(self.stages)) < len(self.order):
            raise ValueError(
                f"the stages of {self.title} must be different ones, got {', '.join(self.stages) or 'none'}"
            )

    @property
    def specs(self) -> tuple[StageSpec, ...]:
        """The stages, in order."""
        return tuple(SPECS[part] if isinstance(part, str) else part for part in self.order)

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages, in order."""
        return tuple(spec.name for spec in self.specs)

    @property
    def own(self) -> tuple[StageSpec, ...]:
        """The stages that are not of the package."""
        return tuple(part for part in self.order if not isinstance(part, str))

    def spec(self, stage: str) -> StageSpec:
        """A stage by its name."""
        return next(spec for spec in self.specs if spec.name == stage)

    def stages_with(self, trait: Trait) -> list[str]:
        """The names of the stages that do something, in order."""
        return [spec.name for spec in self.specs if spec.has(trait)]

    def actor_stages(self) -> list[str]:
        """The names of the stages that train the actor, in order."""
        return [spec.name for spec in self.specs if spec.trains_actor]

    def section(self, settings: Settings, stage: str) -> Any:
        """The settings of a stage; of one of your own an instance of its dataclass.

        Raises:
            ConfigError: `stages` has a key that the dataclass does not have, or a value that does not fit.
        """
        spec = self.spec(stage)
        if spec not in self.own:
            return getattr(settings, stage)
        found: Any = config.from_mapping(spec.settings, settings.stages.get(stage, {}), f"stages.{stage}")
        config.check_ranges(found, f"stages.{stage}.")
        check_schedule(f"stages.{stage}", found)
        return found

    def trained(self, settings: Settings) -> list[str]:
        """The names of the stages with at least one epoch, in order."""
        return [name for name in self.stages if self.section(settings, name).schedule.epochs > 0]

    def settle(self, settings: Settings) -> Settings:
        """The settings that a run of the algorithm has: with its definition, and with what follows from the data.

        Those of stages of your own are written out, defaults included, so that a record has them.

        Raises:
            ConfigError: `stages` has what is no stage of the algorithm's own, or a key that such a stage does not have.
        """
        own = [spec.name for spec in self.own]
        for name in settings.stages:
            if name not in own:
                hint = f"; nearest: {config.nearest(name, own)!r}" if own else ""
                raise ConfigError(
                    f"stages has {name!r}, but the algorithm {settings.algorithm} "
                    f"{'has the stages of its own ' + ', '.join(own) if own else 'has no stage of its own'}{hint}"
                )
        settled = follow_data(self.definition(settings))
        written = {name: config.to_plain(self.section(settled, name)) for name in own}
        return replace(settled, stages=written) if own else settled

    def last_stage(self, settings: Settings) -> str:
        """The last stage with at least one epoch; the first where there is none."""
        return [self.stages[0], *self.trained(settings)][-1]

    def key_of(self, stage: str) -> str:
        """The dotted name of a stage's section in the settings."""
        return stage if self.spec(stage) not in self.own else f"stages.{stage}"

    def uses(self, key: str) -> bool:
        """Whether a setting, by its dotted name, plays a part in this algorithm."""
        section, _, rest = key.partition(".")
        if section == "stages":
            own = [spec.name for spec in self.own]
            return rest.partition(".")[0] in own if rest else bool(own)
        if "." not in key or section in _ALWAYS:
            return True
        if within(key, self.unread):
            return False
        packaged = [part for part in self.order if isinstance(part, str)]
        return section in packaged or any(spec.reads_key(key) for spec in self.specs)


_OF_RISK = ("sequence.alpha", "sequence.with_reference")
_OF_POLICY_GRADIENT = (
    "sequence.baseline", "sequence.baseline_optimizer", "sequence.mixer_chunk", "sequence.mixer_updates",
)  # fmt: skip
_ALWAYS = ("data", "model", "evaluation", "checkpoint", "logging")

ALGORITHMS = {
    "mle": Algorithm("MLE", ("actor",)),
    "scheduled": Algorithm("scheduled sampling", ("actor", "scheduled")),
    "raml": Algorithm("RAML", ("actor", "augmented"), unread=("augmented.oracle_share", "augmented.mixing")),
    "vaml": Algorithm(
        "VAML",
        ("actor", "warmup", "oracle", "augmented"),
        reader="oracle",
        definition=_without_learning,
        unread=("augmented.tau",),  # it has the oracle's
    ),
    "ocd": Algorithm("OCD", ("actor", "completion")),
    "reinforce": Algorithm(
        "REINFORCE",
        ("actor", "sequence"),
        definition=_sequence("policy_gradient"),
        unread=(*_OF_RISK, "sequence.mixer_updates"),
    ),
    "mixer": Algorithm("MIXER", ("actor", "sequence"), definition=_mixed, unread=_OF_RISK),
    "scst": Algorithm(
        "SCST",
        ("actor", "sequence"),
        definition=_sequence("policy_gradient", "greedy"),
        unread=(*_OF_RISK, "sequence.mixer_updates", "sequence.baseline_optimizer"),
    ),
    "rloo": Algorithm(
        "RLOO",
        ("actor", "sequence"),
        definition=_sequence("policy_gradient", "others"),
        unread=(*_OF_RISK, "sequence.mixer_updates", "sequence.baseline_optimizer"),
    ),
    "mrt": Algorithm(
        "MRT", ("actor", "sequence"), definition=_sequence("minimum_risk"), unread=_OF_POLICY_GRADIENT
    ),
    "pcl": Algorithm("PCL", ("actor", "warmup", "consistency"), definition=_consistent),
    "bso": Algorithm("BSO", ("actor", "search")),
    "future_success": Algorithm("Q(payoff)", ("actor", "future")),
    "professor_forcing": Algorithm("professor forcing", ("actor", "professor")),
    "interpolation": Algorithm("interpolation", ("actor", "interpolated")),
    "ac": Algorithm("AC", ("actor", "warmup", "critic", "joint"), definition=_without_entropy),
    "erac": Algorithm("ERAC", ("actor", "warmup", "critic", "joint")),
}
