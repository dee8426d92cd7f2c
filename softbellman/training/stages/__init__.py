"""The stages an algorithm is made of: what one update does, how a stage is judged.

A stage owns its modules and optimisers and knows no files and no loop; `training/loop.py` schedules it. Every random draw is
a function of (seed, stage, update), so that a resumed run repeats an uninterrupted one.
"""

from softbellman.training.stages.actor_critic import (
    CriticStage,
    JointStage,
    PolicyEvaluation,
    target_of,
)
from softbellman.training.stages.augmented import AugmentedStage, EditSource, OracleStage
from softbellman.training.stages.base import Judge, Stage, Sums, draw_key
from softbellman.training.stages.completion import CompletionStage
from softbellman.training.stages.likelihood import ActorStage, WarmUpStage, reference_likelihood

__all__ = [
    "ActorStage",
    "AugmentedStage",
    "CompletionStage",
    "CriticStage",
    "EditSource",
    "JointStage",
    "Judge",
    "OracleStage",
    "PolicyEvaluation",
    "Stage",
    "Sums",
    "WarmUpStage",
    "draw_key",
    "reference_likelihood",
    "target_of",
]
