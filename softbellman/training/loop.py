"""The loop of a stage: updates, validation, selection, learning-rate decay, checkpoints, resumption.

A stage is validated every `interval` updates (or once an epoch), which selects and decays. Checkpoints are written there and,
by minutes or updates, in between; they change no number. A run that was stopped continues from the last one and repeats
what it would have done. Random numbers are seeded from (seed, stage, update) after each validation; in between the state of
their generators is kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from softbellman.data import Batch, BatchIterator
from softbellman.models.projection import Bfloat16, bfloat16_products
from softbellman.training.observer import Observer
from softbellman.training.precision import Precision, autocast_to
from softbellman.training.processes import ALONE, Processes
from softbellman.training.rates import LearningRates
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import CheckpointSettings, EvaluationSettings
from softbellman.training.stagefiles import StageFiles
from softbellman.training.stages import Metric, Stage, Sums, draw_key, selection_score, update_in_parts
from softbellman.training.stages.base import numbers_of
from softbellman.training.stopping import Stopped, StopRequest
from softbellman.training.sums import Totals, means

MOST_SKIPPED = 10
"""Updates in a row whose loss or gradients are not finite, after which a stage stops."""

LARGEST_PERPLEXITY = 1e9
"""Above it a model is far worse than one that guesses among any vocabulary: it has diverged, though its numbers are finite."""

SMALLEST_START = 1.0
"""A selection score that starts below it, of 0 to 100, is too small to tell a collapse by."""

_FETCHED_TOGETHER = 20


@dataclass
class Cursor:
    """Where a stage stands.

    Attributes:
        epoch, position: next batch, as the iterator counts.
        step: updates done.
        decays: learning-rate decays done.
        stale: validations in a row that were no better than the best before them.
        best: best selection score so far (larger is better).
        selected: selection score of the selected weights: the best, or where the settings say so the last.
        best_step: the update after which they were selected.
        measured: what else was measured then; empty in checkpoints of earlier versions.
        first: the first selection score; None before it.
        validations: validations done.
        seconds: training time so far, validation included.
        ended: why the stage ended: `epochs`, `updates`, `decays`, `patience`, `collapse`; empty while it goes on.
    """

    epoch: int = 0
    position: int = 0
    step: int = 0
    decays: int = 0
    stale: int = 0
    best: float = -math.inf
    selected: float = -math.inf
    best_step: int = -1
    measured: dict[str, float] = field(default_factory=dict)
    first: float | None = None
    validations: int = 0
    seconds: float = 0.0
    ended: str = ""


@dataclass
class Interval:
    """What happened since the last validation.

    Attributes:
        totals: diagnostics.
        seconds: time spent.
        random: states of the random number generators; None where the interval has not begun.
    """

    totals: Totals = field(default_factory=Totals)
    seconds: float = 0.0
    random: dict[str, Any] | None = None


@dataclass
class StageRunner:
    """Trains one stage in a run folder.

    Attributes:
        stage, batches, folder, observer: what is trained, on what, where, and who is told.
        seed, device: of the run.
        checkpoints: when checkpoints are written, and how many are kept.
        request: raises where a signal asks the run to end.
        bfloat16: the products of an update that have bfloat16 factors; validation has none.
        precision: of an update's forward passes; validation is float32.
        steps_before, seconds_before: of the stages before this one.
        processes: of the job.
        metrics: how sums of a stage of the user's own are logged, by name.
        evaluation: says which metric selects.
    """

    stage: Stage
    batches: BatchIterator
    folder: RunFolder
    observer: Observer
    seed: int
    device: torch.device
    checkpoints: CheckpointSettings = field(default_factory=CheckpointSettings)
    request: StopRequest = field(default_factory=StopRequest)
    bfloat16: Bfloat16 = "none"
    precision: Precision = "float32"
    steps_before: int = 0
    seconds_before: float = 0.0
    processes: Processes = ALONE
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)

    def __post_init__(self) -> None:
        self.selection = self.evaluation.selection(self.stage.selection)
        self.cursor, self.interval = Cursor(), Interval()
        self.rates = LearningRates(self.stage)
        self.files = StageFiles(
            self.folder,
            self.stage.name,
            self.stage.modules,
            self.processes,
            keep=self.checkpoints.keep,
            warn=self.observer.warned,
        )
        self._interval_start, self._collapsed = 0, False
        self._saved_at, self._saved_step = time.monotonic(), 0

    def run(self) -> Cursor:
        """Train the stage to its end, or go on where it was stopped; its modules then hold the selected weights."""
        self._restore()
        stage, cursor = self.stage, self.cursor
        if stage.start_is_candidate and cursor.step == 0 and not cursor.validations:
            metrics = self._evaluate()
            with self.request.protected():
                self._log("dev", 0.0, metrics)
                self._select(metrics)
                self._save()
            self.observer.validated(stage.name, 0.0, metrics, best=False)
        while not cursor.ended:
            self.request.check()
            self._train_interval()
            self._validate()
        self.files.load_best()
        return cursor

    # Updates ----------------------------------------------------------------------------------------------------------

    def _train_interval(self) -> None:
        """Updates up to the next validation."""
        cursor, interval, schedule = self.cursor, self.interval, self.stage.schedule
        if interval.random is None:
            torch.manual_seed(draw_key(self.seed, f"{self.stage.name}/{cursor.step}"))
            interval.random = _random_state(self.device)
        else:
            _set_random_state(interval.random, self.device)
        pending: list[Sums] = []
        started, before, count = time.perf_counter(), interval.seconds, self._updates_left()
        batches = self.batches.epoch(cursor.epoch, start=cursor.position) if count else ()
        bar = self.observer.updates(self.stage.name, cursor.epoch + 1, schedule.epochs, count)
        with self.request.protected(), bar as counter:
            for batch in batches:
                pending.append(self._update(batch))
                cursor.step, cursor.position, count = cursor.step + 1, cursor.position + 1, count - 1
                pause = count > 0 and self._pauses()
                if len(pending) == _FETCHED_TOGETHER or not count or pause:
                    counter.update(len(pending), means(interval.totals.add(pending), self.metrics))
                    pending.clear()
                    self._check_skipped(batch)
                if pause:
                    interval.seconds = before + time.perf_counter() - started
                    interval.random = _random_state(self.device)
                    self._save()
                    self.request.check()
                if not count:
                    break
        interval.seconds = before + time.perf_counter() - started
        interval.random = _random_state(self.device)

    def _update(self, batch: Batch) -> Sums:
        """One update on this process's share of the batch; the sums are its own."""
        stage, step = self.stage, self.cursor.step
        share = self.processes.share(batch).to(self.device)
        self.processes.reseed(lambda: draw_key(self.seed, f"{stage.name}/{step}"))
        self.rates.set(step + 1, decays=self.cursor.decays)
        with bfloat16_products(self.bfloat16), autocast_to(self.precision, self.device):
            return self.processes.counted(share, update_in_parts(stage, share, step))

    def _updates_left(self) -> int:
        """Updates before the next validation."""
        cursor, schedule = self.cursor, self.stage.schedule
        count = self.batches.epoch_length(cursor.epoch) - cursor.position
        if schedule.interval:
            count = min(count, schedule.interval - (cursor.step - self._interval_start))
        if schedule.max_updates:
            count = min(count, schedule.max_updates - cursor.step)
        return max(count, 0)

    def _pauses(self) -> bool:
        """Whether a checkpoint follows, because a signal came or it is time for one, in any process."""
        return bool(self.processes.largest(self.request.arrived or self._checkpoint_is_due()))

    def _checkpoint_is_due(self) -> bool:
        every = self.checkpoints
        if every.updates and self.cursor.step - self._saved_step >= every.updates:
            return True
        return bool(every.minutes) and time.monotonic() - self._saved_at >= 60 * every.minutes

    def _check_skipped(self, batch: Batch) -> None:
        """A stage whose updates no longer count stops with a sentence, and keeps a batch that shows it."""
        totals = self.interval.totals
        if totals.in_a_row < MOST_SKIPPED:
            return
        path = self.files.keep_batch(batch, self.cursor.step)
        raise FloatingPointError(
            f"stage {self.stage.name} diverged before update {self.cursor.step}: {', '.join(totals.broken)} was not "
            f"finite in {totals.in_a_row} updates in a row, which were skipped; the last batch is in {path}; "
            "lower the learning rate or the temperature"
        )

    # Validation -------------------------------------------------------------------------------------------------------

    def _evaluate(self) -> dict[str, float]:
        """The metrics of process 0: all select and decay alike."""
        return numbers_of(self.processes.agree(self.stage.evaluate()), self.selection, self.stage.name)

    def _validate(self) -> None:
        """Validation, selection, decay, checkpoint."""
        stage, cursor, interval = self.stage, self.cursor, self.interval
        started = time.perf_counter()
        averages = interval.totals.means(self.metrics)
        self._check_finite(averages)
        try:
            metrics = self._evaluate()
        except Stopped:
            self._save()
            raise
        with self.request.protected():
            if cursor.position >= self.batches.epoch_length(cursor.epoch):
                cursor.epoch, cursor.position = cursor.epoch + 1, 0
            cursor.seconds += interval.seconds + time.perf_counter() - started
            epoch = cursor.epoch + cursor.position / self.batches.epoch_length(cursor.epoch)
            rates = {f"{name}_learning_rate": o.param_groups[0]["lr"] for name, o in stage.optimizers.items()}
            self._log("train", epoch, {**averages, **rates, "train_seconds": interval.seconds})
            self._log("dev", epoch, metrics)
            improved = self._select(metrics)
            self._decay_or_end(improved)
            self.interval, self._interval_start = Interval(), cursor.step
            self._save()
        self.observer.validated(stage.name, epoch, {**averages, **metrics}, best=improved)
        if interval.totals.skipped:
            self.observer.warned(
                f"stage {stage.name}: {interval.totals.skipped} updates before update {cursor.step} were skipped, "
                "their loss or gradients were not finite"
            )
        if cursor.ended == "collapse":
            self.observer.warned(
                f"stage {stage.name} stopped at update {cursor.step}: {self.selection.lstrip('-')} fell from "
                f"{cursor.first:.4g} to {selection_score(metrics, self.selection):.4g}; the weights selected before are taken"
            )

    def _decay_or_end(self, improved: bool) -> None:
        """The learning rate where a validation brought nothing; the end of the stage."""
        cursor, schedule = self.cursor, self.stage.schedule
        cursor.stale = 0 if improved else cursor.stale + 1
        if not improved and schedule.kind == "plateau":
            if cursor.decays >= schedule.max_decays:
                cursor.ended = "decays"
            else:
                cursor.decays += 1
                self.rates.decay()
        if schedule.patience and cursor.stale >= schedule.patience:
            cursor.ended = cursor.ended or "patience"
        if schedule.max_updates and cursor.step >= schedule.max_updates:
            cursor.ended = cursor.ended or "updates"
        if cursor.epoch >= schedule.epochs:
            cursor.ended = cursor.ended or "epochs"
        if self._collapsed:
            cursor.ended = "collapse"

    def _select(self, metrics: dict[str, float]) -> bool:
        """Keep the weights if they are the result so far; returns whether their selection score is the best so far."""
        cursor, schedule = self.cursor, self.stage.schedule
        score = selection_score(metrics, self.selection)
        cursor.validations += 1
        if cursor.first is None and math.isfinite(score):
            cursor.first = score
        self._collapsed = _collapsed(cursor.first, score, schedule.collapse)
        improved = score > cursor.best
        cursor.best = score if improved else cursor.best
        if improved or (schedule.select == "last" and not self._collapsed):
            cursor.selected, cursor.best_step, cursor.measured = score, cursor.step, dict(metrics)
            self.files.select(cursor.step)
        return improved

    def _check_finite(self, averages: dict[str, float]) -> None:
        """A diverged stage ends with a sentence instead of decoding nonsense."""
        broken = [
            f"a weight of the {name} is not finite"
            for name, module in self.stage.modules.items()
            if not all(bool(parameter.isfinite().all()) for parameter in module.parameters())
        ]
        perplexity = averages.get("perplexity", 0.0)
        if perplexity > LARGEST_PERPLEXITY:
            broken.append(f"the perplexity is {perplexity:.3g}")
        if broken:
            raise FloatingPointError(
                f"stage {self.stage.name} diverged before update {self.cursor.step}: {', '.join(broken)}; "
                "lower the learning rate or the temperature"
            )

    # Files ------------------------------------------------------------------------------------------------------------

    def _log(self, kind: str, epoch: float, numbers: dict[str, float]) -> None:
        cursor = self.cursor
        self.files.log(
            kind=kind,
            epoch=epoch,
            step=cursor.step,
            time=cursor.seconds,
            run_step=self.steps_before + cursor.step,
            run_time=self.seconds_before + cursor.seconds,
            **numbers,
        )

    def _save(self) -> None:
        """A checkpoint of the stage as it stands."""
        cursor, stage = self.cursor, self.stage
        state: dict[str, Any] = {
            "cursor": asdict(cursor),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in stage.optimizers.items()},
            "interval": asdict(self.interval),
            "interval_start": self._interval_start,
        }
        facts = {
            "step": cursor.step,
            "best_step": cursor.best_step,
            "score": cursor.selected if math.isfinite(cursor.selected) else None,
            "seconds": cursor.seconds,
            "ended": cursor.ended,
        }
        self.files.save(state, facts)
        self._saved_at, self._saved_step = time.monotonic(), cursor.step

    def _restore(self) -> None:
        """The stage as its last whole checkpoint has it; as it is built where there is none."""
        state = self.files.restore()
        if state is None:
            return
        kept, totals = state["interval"], state["interval"]["totals"]
        self.cursor = Cursor(**state["cursor"])
        self.interval = Interval(Totals(**totals), kept["seconds"], kept["random"])
        self._interval_start = state["interval_start"]
        self._saved_step = self.cursor.step
        for name, optimizer in self.stage.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self._reopen()

    def _reopen(self) -> None:
        """A stage that ended because its epochs or updates were done goes on where there are more of them now."""
        cursor, schedule = self.cursor, self.stage.schedule
        more_updates = not schedule.max_updates or cursor.step < schedule.max_updates
        if cursor.ended in ("epochs", "updates") and cursor.epoch < schedule.epochs and more_updates:
            cursor.ended = ""


def _collapsed(first: float | None, score: float, share: float) -> bool:
    """Whether a selection score is below a share of the first one; of an error, the negative score, above its inverse."""
    if first is None or not share:
        return False
    if first < 0:
        return score < first / share
    return first >= SMALLEST_START and score < share * first


def _random_state(device: torch.device) -> dict[str, Any]:
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(state: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
