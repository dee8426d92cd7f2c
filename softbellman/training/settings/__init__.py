"""Every setting of a run, as frozen dataclasses; the text under a field is its help.

The defaults are the published recipe (sizes, optimisers, temperatures) of the paper's authors for machine translation. The
run without any argument uses the built-in corpus and the smaller sizes of `configs/builtin_erac.yaml`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, get_args

from softbellman.config import flatten, nearest
from softbellman.config.ranges import Range
from softbellman.config.text import shortened
from softbellman.core.objects import is_object_name
from softbellman.payoffs.payoff import PayoffSettings
from softbellman.training.settings.actor_critic import (
    ActorStageSettings,
    CreditSettings,
    CriticStageSettings,
    JointStageSettings,
    WarmUpSettings,
)
from softbellman.training.settings.augmented import (
    AugmentedStageSettings,
    CompletionStageSettings,
    OracleStageSettings,
)
from softbellman.training.settings.checks import check_accumulation, check_model, check_schedules
from softbellman.training.settings.choices import unread_settings
from softbellman.training.settings.common import (
    CheckpointSettings,
    EditSettings,
    LoggingSettings,
    LogitsForm,
    Natural,
    OptimizerSettings,
    Positive,
    ScheduleSettings,
    Seed,
    StageSettings,
)
from softbellman.training.settings.consistency import ConsistencyStageSettings
from softbellman.training.settings.future import FutureStageSettings
from softbellman.training.settings.model import ModelSettings, unread_keys
from softbellman.training.settings.sequence_level import (
    InterpolatedStageSettings,
    ProfessorStageSettings,
    ScheduledStageSettings,
    SearchStageSettings,
    SequenceStageSettings,
)
from softbellman.training.settings.task import (
    MEAN_PAYOFF,
    SMALLER_IS_BETTER,
    TRUTH,
    DataSettings,
    EvaluationSettings,
)

__all__ = [
    "MEAN_PAYOFF",
    "PRESETS",
    "SMALLER_IS_BETTER",
    "TRUTH",
    "ActorStageSettings",
    "AugmentedStageSettings",
    "CheckpointSettings",
    "CompletionStageSettings",
    "ConsistencyStageSettings",
    "CreditSettings",
    "CriticStageSettings",
    "DataSettings",
    "EditSettings",
    "EvaluationSettings",
    "FutureStageSettings",
    "InterpolatedStageSettings",
    "JointStageSettings",
    "LoggingSettings",
    "LogitsForm",
    "ModelSettings",
    "OptimizerSettings",
    "OracleStageSettings",
    "PayoffSettings",
    "ProfessorStageSettings",
    "ScheduleSettings",
    "ScheduledStageSettings",
    "SearchStageSettings",
    "SequenceStageSettings",
    "Settings",
    "StageSettings",
    "WarmUpSettings",
    "follow_data",
    "unread_settings",
]


Packaged = Literal[
    "mle", "scheduled", "raml", "vaml", "ocd", "reinforce", "mixer", "scst", "rloo", "mrt", "pcl", "bso",
    "future_success", "professor_forcing", "interpolation", "ac", "erac",
]  # fmt: skip
"""The algorithms of the package."""


@dataclass(frozen=True)
class Settings:
    """A run: data, model, algorithm and its stages."""

    unread: ClassVar[Mapping[str, Callable[[str], list[str]]]] = {"model.kind": unread_keys}
    """Choices, and the keys that each leaves unread: `config.load` leaves those of a base file out."""
    algorithm: Packaged | str = "erac"
    """What is trained. `mle`: maximum likelihood. `scheduled`: scheduled sampling. `raml`, `vaml`: reward- and value-augmented
    maximum likelihood. `ocd`: optimal completion distillation. `reinforce`, `mixer`, `scst`, `rloo`: policy gradient with a
    baseline, its start annealed, with that of the greedy translation, with that of the source's other samples. `mrt`: minimum
    risk. `pcl`: path consistency learning. `bso`: beam search optimisation. `future_success`: a value of the final payoff for
    the search alone. `professor_forcing`: likelihood and a discriminator of states. `interpolation`: maximum likelihood on
    words of actor, payoff and reference. `ac`: actor-critic, tau = 0. `erac`: entropy-regularised actor-critic.
    `FILE.py:NAME` or `MODULE:NAME`: your own (docs/extending.md)."""
    preset: Literal["paper", "published"] = "paper"
    """Whose recipe. `paper`: the mathematics. `published`: the authors' code where it departs from it. Single keys given beside
    win."""
    seed: Seed = 1
    """Seed of initialisation, batches, dropout and sampling."""
    actor_seed: Natural = 0
    """Seed of the maximum-likelihood stage alone, for runs that share an actor; 0: `seed`."""
    reader_seed: Natural = 0
    """Seed of what the critic or the oracle learns before it meets the actor, for runs that share it; 0: `seed`. That is its
    initialisation, warm-up and soft Q-learning."""
    threads: Annotated[int, Range(least=0, most=1024)] = 0
    """CPU threads of a process. 0: torch's own choice; of several processes each takes its share of the cores. The same
    numbers, bit for bit, need the same thread count."""
    process_timeout: Positive = 10.0
    """Of several processes: minutes that they wait for one that does not answer; then the job ends. One that died is noticed
    after an update."""
    keep_memory: bool = True
    """On the CPU freed memory stays with the process for the next step: fewer page faults, a larger process, the same numbers.
    `false` returns it to the system. Only glibc can do this."""
    logits: LogitsForm = "whole"
    """How an update holds the logits of its M tokens over the V words of the vocabulary. `whole`: as one tensor [M, V].
    `chunked`: a chunk of tokens at a time, in the forward and backward pass, for large vocabularies. That takes less memory and
    up to 20 % more time; results are the same within rounding. For networks with a linear output layer."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the matmuls of an update run in, drawing included. `bfloat16`: torch's autocast, for GPUs; it works on the
    CPU, too. Weights, their gradients, optimisers and sums of losses stay float32; so do validation and decoding. It
    has not run on a GPU yet (docs/performance.md)."""
    cuda_graphs: bool = False
    """On a GPU a step of sampling is captured as a CUDA graph and replayed for every token: one launch instead of dozens.
    Draws are the same within rounding (docs/decoding.md). Experimental: it never ran on a GPU (docs/gpu-status.md)."""
    device: str = "auto"
    """Where to run: `cpu`, `cuda`, `cuda:1`, ... `auto` takes a GPU when torch sees one and the kernels were built for it."""
    output: str = ""
    """Run folder; empty: runs/ALGORITHM-DATE-TIME."""
    cache: str = ""
    """Folder in which runs share finished stages. They are known by a hash of what went into them. Empty: no sharing."""
    label: str = ""
    """Name of what the run ends with in tables and reports, such as `MLE continued`. Empty: the name of the algorithm."""
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    logging: LoggingSettings = field(default_factory=LoggingSettings)
    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    payoff: PayoffSettings = field(default_factory=PayoffSettings)
    credit: CreditSettings = field(default_factory=CreditSettings)
    actor: ActorStageSettings = field(default_factory=ActorStageSettings)
    warmup: WarmUpSettings = field(default_factory=WarmUpSettings)
    critic: CriticStageSettings = field(default_factory=CriticStageSettings)
    joint: JointStageSettings = field(default_factory=JointStageSettings)
    oracle: OracleStageSettings = field(default_factory=OracleStageSettings)
    augmented: AugmentedStageSettings = field(default_factory=AugmentedStageSettings)
    completion: CompletionStageSettings = field(default_factory=CompletionStageSettings)
    scheduled: ScheduledStageSettings = field(default_factory=ScheduledStageSettings)
    sequence: SequenceStageSettings = field(default_factory=SequenceStageSettings)
    consistency: ConsistencyStageSettings = field(default_factory=ConsistencyStageSettings)
    search: SearchStageSettings = field(default_factory=SearchStageSettings)
    future: FutureStageSettings = field(default_factory=FutureStageSettings)
    professor: ProfessorStageSettings = field(default_factory=ProfessorStageSettings)
    interpolated: InterpolatedStageSettings = field(default_factory=InterpolatedStageSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    stages: dict[str, Any] = field(default_factory=dict)
    """Settings of stages of your own, by the stage's name: `{mine: {schedule: {epochs: 2}}}`, or `--stages.mine.schedule.epochs
    2` (docs/extending.md)."""

    def __post_init__(self) -> None:
        if self.algorithm not in get_args(Packaged) and not is_object_name(self.algorithm):
            raise ValueError(
                f"algorithm must be {', '.join(get_args(Packaged))} or the name of your own, FILE.py:NAME, got "
                f"{shortened(self.algorithm)}; nearest: {nearest(self.algorithm, get_args(Packaged))!r}"
            )
        object.__setattr__(self, "stages", nested(self.stages, "stages"))
        for key, value in flatten(self).items():
            if isinstance(value, str) and "\0" in value:
                raise ValueError(f"{key} holds a NUL character, which no path can: {value!r}")
        self.payoff.check_keys(PRESETS.get(self.preset, {}))
        check_model(self)
        check_schedules(self)
        check_accumulation(self)
        if TRUTH in self.evaluation.measured and self.data.kind != "scenes":
            asked = "metrics has" if TRUTH in self.evaluation.metrics else "select_by is"
            raise ValueError(
                f"evaluation.{asked} {TRUTH}, which is of captions of scenes, but data.kind is {self.data.kind}; "
                f"leave {TRUTH} out or say data.kind: scenes"
            )

    def seed_of(self, stage: str) -> int:
        """The seed of a stage's batches, dropout and draws, and of the weights that it begins with."""
        key: str = getattr(getattr(self, stage, None), "seeded_by", "seed")
        return getattr(self, key) or self.seed

    def seed_of_network(self, network: Literal["actor", "reader"]) -> int:
        """The seed of a network's first weights."""
        return (self.actor_seed if network == "actor" else self.reader_seed) or self.seed


def nested(values: dict[str, Any], name: str) -> dict[str, Any]:
    """Keys and values with the dotted keys put into mappings; a later key wins.

    Args:
        values: as files and options give them.
        name: of the setting, for the error sentence.

    Raises:
        ValueError: a key is below one that holds a value.

    Example:
        >>> nested({"mine": {"rate": 1, "updates": 2}, "mine.rate": 3}, "stages")
        {'mine': {'rate': 3, 'updates': 2}}
    """
    found: dict[str, Any] = {}

    def put(place: dict[str, Any], path: list[str], value: Any, prefix: str) -> None:
        key, rest, full = path[0], path[1:], f"{prefix}.{path[0]}"
        if not rest and not isinstance(value, dict):
            place[key] = value
            return
        inside = place.setdefault(key, {})
        if not isinstance(inside, dict):
            raise ValueError(f"{full} must be a mapping of keys to values, got {inside!r}")
        for name, item in value.items() if not rest else [(".".join(rest), value)]:
            put(inside, name.split("."), item, full)

    for key, value in values.items():
        put(found, key.split("."), value, name)
    wrong = next((key for key, value in found.items() if not isinstance(value, dict)), None)
    if wrong is not None:
        raise ValueError(f"{name}.{wrong} must be a mapping of keys to values, got {found[wrong]!r}")
    return found


def follow_data(settings: Settings) -> Settings:
    """The settings with `evaluation.tokenize: auto` put into words, by the tokenizer of the data."""
    if settings.evaluation.tokenize != "auto":
        return settings
    tokenize: Literal["none", "13a"] = "none" if settings.data.tokenizer == "word" else "13a"
    return replace(settings, evaluation=replace(settings.evaluation, tokenize=tokenize))


PRESETS: dict[str, dict[str, str]] = {
    "paper": {},
    "published": {
        "payoff.smoothing": "add-one-all",
        "payoff.unknown_matches": "true",
        "credit.actor_entropy": "normalized",
        "credit.penalty": "published",
        "credit.mask_padding": "false",
        "credit.sampling_dropout": "true",
        "credit.start_is_candidate": "false",
        "credit.forbid_special": "false",
        "oracle.tau": "0.4",
        "oracle.bootstrap_after_end": "true",
        "augmented.weights": "published",
        "augmented.oracle_share": "0.2",
        "augmented.mixing": "bernoulli",
        "evaluation.drop_long": "true",
    },
}
"""Keys a preset sets before the user's own (the rows in which the published code departs from the mathematics)."""
