"""Training: settings, stages, the loop that schedules them, checkpoints."""

from softbellman.training.observer import Observer
from softbellman.training.result import RunResult
from softbellman.training.run import run
from softbellman.training.settings import Settings
from softbellman.training.trained import TrainedActor, TrainedOracle, load_oracle, load_run

__all__ = [
    "Observer",
    "RunResult",
    "Settings",
    "TrainedActor",
    "TrainedOracle",
    "load_oracle",
    "load_run",
    "run",
]
