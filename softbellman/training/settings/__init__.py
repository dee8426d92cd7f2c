"""Every setting of a run, as frozen dataclasses; the text under a field is its help.

The defaults are the published recipe (sizes, optimisers, temperatures) of the paper's authors for machine translation. The
run without any argument uses the built-in corpus and the smaller sizes of `configs/builtin_erac.yaml`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

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
    EditSettings,
    OracleStageSettings,
)
from softbellman.training.settings.common import (
    CheckpointSettings,
    LogitsForm,
    Natural,
    OptimizerSettings,
    Positive,
    ScheduleSettings,
    Seed,
)
from softbellman.training.settings.task import (
    DataSettings,
    EvaluationSettings,
    ModelSettings,
)

__all__ = [
    "PRESETS",
    "ActorStageSettings",
    "AugmentedStageSettings",
    "CheckpointSettings",
    "CompletionStageSettings",
    "CreditSettings",
    "CriticStageSettings",
    "DataSettings",
    "EditSettings",
    "EvaluationSettings",
    "JointStageSettings",
    "LogitsForm",
    "ModelSettings",
    "OptimizerSettings",
    "OracleStageSettings",
    "PayoffSettings",
    "ScheduleSettings",
    "Settings",
    "WarmUpSettings",
    "follow_data",
]


@dataclass(frozen=True)
class Settings:
    """A run: data, model, algorithm and its stages."""

    algorithm: Literal["mle", "raml", "vaml", "ocd", "ac", "erac"] = "erac"
    """What is trained. `mle`: maximum likelihood. `raml`, `vaml`: reward- and value-augmented maximum likelihood. `ocd`:
    optimal completion distillation. `ac`: actor-critic, tau = 0. `erac`: entropy-regularised actor-critic."""
    preset: Literal["paper", "published"] = "paper"
    """Whose recipe. `paper`: the mathematics. `published`: the authors' code where it departs from it. Single keys given beside
    win."""
    seed: Seed = 1
    """Seed of initialisation, batches, dropout and sampling."""
    threads: Natural = 0
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
    cuda_graphs: bool = False
    """On a GPU a step of sampling is captured as a CUDA graph and replayed for every token: one launch instead of dozens.
    Draws are the same within rounding (docs/decoding.md). Experimental: it never ran on a GPU (docs/gpu-status.md)."""
    device: str = "auto"
    """Where to run: `cpu`, `cuda`, `cuda:1`, ... `auto` takes a GPU when torch sees one and the kernels were built for it."""
    output: str = ""
    """Run folder; empty: runs/ALGORITHM-DATE-TIME."""
    cache: str = ""
    """Folder in which runs share finished stages, by a hash of what went into them. Empty: no sharing."""
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
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
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)

    def __post_init__(self) -> None:
        self.payoff.check_keys(PRESETS.get(self.preset, {}))


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
