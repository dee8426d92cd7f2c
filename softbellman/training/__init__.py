"""Training: settings, stages, the loop that schedules them, checkpoints, reports."""

from softbellman.training.run import RunResult, TrainedActor, load_run, run
from softbellman.training.settings import Settings

__all__ = ["RunResult", "Settings", "TrainedActor", "load_run", "run"]
