"""Training: settings, stages, the loop that schedules them, checkpoints, reports."""

from softbellman.training.run import RunResult, run
from softbellman.training.settings import Settings
from softbellman.training.trained import TrainedActor, TrainedOracle, load_oracle, load_run

__all__ = ["RunResult", "Settings", "TrainedActor", "TrainedOracle", "load_oracle", "load_run", "run"]
