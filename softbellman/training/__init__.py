"""Training: settings, stages, the loop that schedules them, checkpoints."""

from softbellman.training.algorithms import Algorithm
from softbellman.training.diagnosis import Diagnosis, diagnose
from softbellman.training.observer import Observer
from softbellman.training.own_model import ModelRequest
from softbellman.training.pretrained import export_pretrained
from softbellman.training.result import RunResult
from softbellman.training.run import run
from softbellman.training.settings import Settings, StageSettings
from softbellman.training.stages import ActorObjective, Metric, StageSpec
from softbellman.training.trained import (
    TrainedActor,
    TrainedCritic,
    TrainedOracle,
    load_critic,
    load_oracle,
    load_run,
)
from softbellman.training.translation import Hypothesis

__all__ = [
    "ActorObjective",
    "Algorithm",
    "Diagnosis",
    "Hypothesis",
    "Metric",
    "ModelRequest",
    "Observer",
    "RunResult",
    "Settings",
    "StageSettings",
    "StageSpec",
    "TrainedActor",
    "TrainedCritic",
    "TrainedOracle",
    "diagnose",
    "export_pretrained",
    "load_critic",
    "load_oracle",
    "load_run",
    "run",
]
