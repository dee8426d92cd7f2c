"""The records of a run sent elsewhere: TensorBoard, Weights & Biases, MLflow, a logger of the user's own.

A logger is made once in a process that writes a run folder, told of every record, and closed. metrics.jsonl is always written,
and first: a logger that raises is left out with a warning, and loses nothing.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from softbellman import config
from softbellman.core.kept_state import kept_state
from softbellman.core.objects import UserObject, load_object, place_of
from softbellman.training.files import read_json, write_json
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import Settings


class Logger(Protocol):
    """What is told of a run's numbers."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by name, `STAGE/NAME`, such as `joint/dev_bleu`, after `step` updates of the run."""

    def close(self) -> None:
        """The run has ended, or was stopped."""


class LoggedRun(NamedTuple):
    """What a logger is made for.

    Attributes:
        name: of the run, that of its folder.
        folder: for what the logger keeps, within the run folder; it may not exist yet. A run that is continued has the same.
        project: `logging.project`.
        settings: by dotted key.
    """

    name: str
    folder: Path
    project: str
    settings: Mapping[str, Any]


MakeLogger = Callable[[LoggedRun], Logger]
"""What `logging.to` names: a function or a class."""


class TensorBoardLogger:
    """Scalars for TensorBoard in `logging/tensorboard` of the run folder."""

    def __init__(self, run: LoggedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(run.folder))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WandbLogger:
    """A run of Weights & Biases; the account and the mode (`WANDB_MODE`) are those of the environment."""

    def __init__(self, run: LoggedRun) -> None:
        import wandb

        kept = run.folder / "run.json"
        run.folder.mkdir(parents=True, exist_ok=True)
        own = read_json(kept)["id"] if kept.exists() else None
        self._run: Any = wandb.init(
            project=run.project,
            name=run.name,
            id=own,
            resume="allow" if own else None,
            dir=str(run.folder),
            config=dict(run.settings),
        )
        write_json(kept, {"id": self._run.id})
        self._run.define_metric("*", step_metric="update")

    def log(self, values: Mapping[str, float], step: int) -> None:
        # Updates are a metric: steps of wandb itself cannot go back, as those of a continued run may.
        self._run.log({**values, "update": step})

    def close(self) -> None:
        self._run.finish()


_MOST_PARAMS, _LONGEST_PARAM = 100, 500
"""What MLflow takes: parameters of one call, characters of a value."""


class MlflowLogger:
    """A run of MLflow; the server is that of `MLFLOW_TRACKING_URI`."""

    def __init__(self, run: LoggedRun) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client: Any = MlflowClient()
        kept = run.folder / "run.json"
        if kept.exists():
            self._id = str(read_json(kept)["id"])
            self._client.update_run(self._id, status="RUNNING")
            return
        experiment = self._client.get_experiment_by_name(run.project)
        number = (
            self._client.create_experiment(run.project) if experiment is None else experiment.experiment_id
        )
        self._id = self._client.create_run(number, run_name=run.name).info.run_id
        run.folder.mkdir(parents=True, exist_ok=True)
        write_json(kept, {"id": self._id})
        said = [Param(key, str(value)[:_LONGEST_PARAM]) for key, value in run.settings.items()]
        for start in range(0, len(said), _MOST_PARAMS):
            self._client.log_batch(self._id, params=said[start : start + _MOST_PARAMS])

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._client.log_metric(self._id, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._id)


_BUILT_IN: dict[str, tuple[MakeLogger, str]] = {
    "tensorboard": (TensorBoardLogger, "tensorboard"),
    "wandb": (WandbLogger, "wandb"),
    "mlflow": (MlflowLogger, "mlflow"),
}
"""Loggers by name, with the package that each needs."""


class Loggers:
    """Several loggers, of which none can hurt the run.

    Args:
        names: of `logging.to`.
        warn: is told once of each logger that fails.
        recorded: objects of the run's record, where it is continued: where the files of loggers were.

    Raises:
        ImportError: the package of a logger is not installed; names the extra.
        ValueError, UserCodeError: a name leads nowhere, or its module raised.
    """

    def __init__(
        self, names: Sequence[str], warn: Callable[[str], object], recorded: Sequence[dict[str, str]] = ()
    ) -> None:
        self._makers: dict[str, MakeLogger] = {}
        self._open: dict[str, Logger] = {}
        self._warn, self._step = warn, 0
        self.objects: list[UserObject] = []
        for name in names:
            alike = next((one for one in self._makers if _folder(one) == _folder(name)), name)
            if alike != name:
                raise ValueError(
                    f"logging.to must have loggers of different names, each has the folder logging/NAME, got {alike} and {name}"
                )
            if name in _BUILT_IN:
                self._makers[name] = _built_in(name)
            else:
                found = load_object(name, key="logging.to", place=place_of(recorded, name), as_class=True)
                if not callable(found.value):
                    raise ValueError(f"logging.to has {name}, which cannot be called; it must make a logger")
                self.objects.append(found)
                self._makers[name] = found.value

    def open(self, folder: RunFolder, settings: Settings) -> None:
        """Make the loggers of a run."""
        if not self._makers:
            return
        steps = [record.get("run_step") for record in folder.read_metrics()]
        self._step = max((step for step in steps if isinstance(step, int)), default=0)
        for name, make in self._makers.items():
            own = folder.path / "logging" / _folder(name)
            run = LoggedRun(
                folder.path.resolve().name, own, settings.logging.project, config.flatten(settings)
            )
            self._guarded(name, self._add, name, make, run)

    def record(self, record: Mapping[str, Any]) -> None:
        """Tell all of a record of metrics.jsonl: its numbers, at its update of the run, or at the latest known one."""
        self._step = int(record.get("run_step", self._step))
        values = {f"{record.get('stage', 'run')}/{name}": value for name, value in _numbers(record).items()}
        if values:
            for name, logger in list(self._open.items()):
                self._guarded(name, methodcaller("log", values, self._step), logger)

    def close(self) -> None:
        """Close all."""
        for name, logger in list(self._open.items()):
            self._guarded(name, methodcaller("close"), logger)
        self._open.clear()

    def _add(self, name: str, make: MakeLogger, run: LoggedRun) -> None:
        self._open[name] = make(run)

    def _guarded(self, name: str, work: Callable[..., object], *arguments: Any) -> None:
        """Do it; a logger that raises, or wants to end the process, is left out with a warning."""
        try:
            with kept_state():
                work(*arguments)
        except (Exception, SystemExit) as error:
            self._open.pop(name, None)
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self._warn(f"the logger {name} failed and is left out from now on: {reason}")


def _folder(name: str) -> str:
    return name.rpartition(":")[2]


_WITHOUT_NUMBERS = ("epoch", "step", "run_step", "time", "run_time")


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record that are worth a curve; a record of the test set repeats the validation's, which are not."""
    if record.get("kind") == "health":
        return {}
    tested = record.get("kind") == "test"
    return {
        name: float(value)
        for name, value in record.items()
        if isinstance(value, (int, float)) and math.isfinite(value) and name not in _WITHOUT_NUMBERS
        if name.startswith("test_") or not tested
    }


def _built_in(name: str) -> MakeLogger:
    make, package = _BUILT_IN[name]
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f"logging.to has {name}, which needs the extra [{name}]: pip install 'softbellman[{name}]'"
        ) from error
    return make
