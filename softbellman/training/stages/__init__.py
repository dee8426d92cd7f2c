"""The stages an algorithm is made of: what one update does, how a stage is judged.

A stage owns its modules and optimisers and knows no files and no loop; `training/loop.py` schedules it. Every random draw is
a function of (seed, stage, update), so that a resumed run repeats an uninterrupted one. What else the trainer knows of a stage
is in its `StageSpec`, at the end of its file.
"""

from softbellman.training.likelihood import reference_likelihood
from softbellman.training.stages.actor_critic import (
    CRITIC,
    JOINT,
    CriticStage,
    JointStage,
)
from softbellman.training.stages.augmented import AUGMENTED, ORACLE, AugmentedStage, OracleStage
from softbellman.training.stages.base import (
    Judge,
    Stage,
    Sums,
    build_optimizer,
    descend,
    draw_key,
    ends_update,
    selection_score,
    update_in_parts,
)
from softbellman.training.stages.completion import COMPLETION, CompletionStage
from softbellman.training.stages.consistency import CONSISTENCY, ConsistencyStage
from softbellman.training.stages.drawing import Drawing
from softbellman.training.stages.edit_source import EditSource
from softbellman.training.stages.evaluating import PolicyEvaluation, frozen_copy, policy_evaluation
from softbellman.training.stages.future import FUTURE, FutureStage
from softbellman.training.stages.interpolated import INTERPOLATED, InterpolatedStage
from softbellman.training.stages.likelihood import ACTOR, WARMUP, ActorStage, WarmUpStage
from softbellman.training.stages.own import ActorObjective
from softbellman.training.stages.professor import PROFESSOR, ProfessorStage
from softbellman.training.stages.scheduled import SCHEDULED, ScheduledStage
from softbellman.training.stages.search import SEARCH, SearchStage
from softbellman.training.stages.sequence_level import SEQUENCE, SequenceStage
from softbellman.training.stages.spec import Metric, StageSpec, Trait

SPECS: dict[str, StageSpec] = {
    spec.name: spec
    for spec in (
        ACTOR,
        WARMUP,
        CRITIC,
        JOINT,
        ORACLE,
        AUGMENTED,
        COMPLETION,
        SCHEDULED,
        SEQUENCE,
        CONSISTENCY,
        SEARCH,
        FUTURE,
        PROFESSOR,
        INTERPOLATED,
    )
}
"""The stages of the package by name."""

__all__ = [
    "SPECS",
    "ActorObjective",
    "ActorStage",
    "AugmentedStage",
    "CompletionStage",
    "ConsistencyStage",
    "CriticStage",
    "Drawing",
    "EditSource",
    "FutureStage",
    "InterpolatedStage",
    "JointStage",
    "Judge",
    "Metric",
    "OracleStage",
    "PolicyEvaluation",
    "ProfessorStage",
    "ScheduledStage",
    "SearchStage",
    "SequenceStage",
    "Stage",
    "StageSpec",
    "Sums",
    "Trait",
    "WarmUpStage",
    "build_optimizer",
    "descend",
    "draw_key",
    "ends_update",
    "frozen_copy",
    "policy_evaluation",
    "reference_likelihood",
    "selection_score",
    "update_in_parts",
]
