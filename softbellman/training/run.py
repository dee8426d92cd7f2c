"""A run from settings to the final comparison on the test set."""

from __future__ import annotations

import resource
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

import softbellman
from softbellman import config
from softbellman.core.objects import UserObject
from softbellman.training.algorithms import Algorithm
from softbellman.training.allocator import keep_freed_memory
from softbellman.training.assembly import Assembly
from softbellman.training.cache import StageCache
from softbellman.training.checkpoint import load_modules
from softbellman.training.diagnosis import diagnose_run
from softbellman.training.evaluation import corpus_batches
from softbellman.training.handed import ModelFunction, given_instance, with_handed
from softbellman.training.journal import Journal
from softbellman.training.judging import judge_search
from softbellman.training.lock import FolderLock, FolderMovedError
from softbellman.training.loggers import Loggers
from softbellman.training.loop import Cursor, StageRunner
from softbellman.training.networks import trainable
from softbellman.training.observer import Observer
from softbellman.training.own_algorithm import (
    algorithm_object,
    algorithm_of,
    check_own_algorithm,
    settle_algorithm,
)
from softbellman.training.own_data import data_object, settle_data
from softbellman.training.own_model import check_own_model, model_object, settle_model
from softbellman.training.payoffs import build_payoff, try_payoff
from softbellman.training.pretrained import keep_pretrained
from softbellman.training.processes import Processes, joined, local_device, set_threads
from softbellman.training.record import RunRecord, package_digest
from softbellman.training.result import FinalRow, RunResult
from softbellman.training.resumption import changed_settings, check_data, load_codec
from softbellman.training.runfolder import RunFolder, new_run_path
from softbellman.training.settings import Settings, unread_settings
from softbellman.training.stopping import Stopped, StopRequest
from softbellman.training.task import load_task
from softbellman.training.watch import HealthWatch


def run(
    settings: Settings,
    resume: Path | None = None,
    *,
    observer: Observer | None = None,
    payoff: Any = None,
    algorithm: Algorithm | None = None,
    model: ModelFunction | None = None,
    data: Any = None,
) -> RunResult:
    """Train an algorithm's stages one after another, then compare its actors on the test set.

    Nothing is written before settings and data were read. SIGTERM and SIGINT finish the update, write a checkpoint and raise
    `Stopped`, a KeyboardInterrupt (in the main thread; elsewhere signals are left alone).

    In a job of several processes (`torchrun`) all call this; each trains on its rows of every batch. The first one alone writes
    and tells the observer.

    Args:
        settings: of a new run; with `resume` those of the folder's config.
        resume: folder of an interrupted run. Finished stages are loaded, the interrupted one continues from its last
            checkpoint. The numbers are those of an uninterrupted run with the same thread count and device.
        observer: is told what happens; None: nobody. `softbellman.report.Console` prints and draws the learning curve.
        payoff: a payoff of your own in the place of `payoff.metric`: a callable (`softbellman.payoffs.scorers`). Recorded by
            the name that leads to it; one without a name must be handed over again when the run is continued.
        algorithm: an algorithm of your own in the place of `settings.algorithm`, recorded as `python:TITLE`. It must be handed
            over again when the run is continued, and when another process loads it: `load_run(folder, algorithm=...)`.
        model: what builds the networks, in the place of `model.kind`; handed over again as an algorithm is, unless a
            name leads to it.
        data: a function of a split's name or a mapping from these names, in the place of `data.kind`; likewise.

    Raises:
        ValueError: settings or data that cannot be used, a folder that is taken, a run that would be continued as another one.
        FloatingPointError: a stage diverged.
        LostProcess: another process of the job ended, or did not answer in time.

    Example:
        >>> from softbellman.report import Console
        >>> from softbellman.training import Settings, run
        >>> run(Settings(), observer=Console())  # doctest: +SKIP
    """
    given = None if payoff is None else given_instance(payoff, key="payoff.metric")
    settings = settle_algorithm(
        with_handed(settings, algorithm=algorithm, model=model, payoff=given, data=data)
    )
    if resume is not None:
        check_own_algorithm(settings, resume)
    settings = settle_data(settle_model(algorithm_of(settings).settle(settings)))
    config.check_ranges(settings)
    set_threads(settings.threads)
    device = local_device(settings.device)
    if settings.keep_memory and device.type == "cpu":
        keep_freed_memory()
    with (
        joined(device, minutes=settings.process_timeout) as processes,
        StopRequest(processes).handled() as request,
    ):
        processes.pause = request.check
        settings, resume = processes.agree((settings, resume))  # the name of a new folder has the time in it
        told = observer if observer is not None and processes.first else Observer()
        return _Run(settings, device, told, request, processes, resume, given).execute()


class _Run:
    """The state of one run: data, networks, folder, and the order of things."""

    def __init__(
        self,
        settings: Settings,
        device: torch.device,
        observer: Observer,
        request: StopRequest,
        processes: Processes,
        resume: Path | None,
        given: UserObject | None,
    ) -> None:
        self.settings, self.device, self.request, self.resume = settings, device, request, resume is not None
        self.processes, self.given = processes, given
        self.recorded: list[dict[str, str]] = []
        self.algorithm = algorithm_of(settings)
        self.folder = RunFolder(resume or settings.output or new_run_path(settings.algorithm))
        self.observer: Observer = (
            HealthWatch(self.folder, [Journal(self.folder), observer], self.algorithm)
            if processes.first
            else Observer()
        )

    def execute(self) -> RunResult:
        """The whole run, with the lock on its folder from where it is written to."""
        with ExitStack() as held:
            with self.processes.together():
                if self.processes.first:
                    self._look_at_folder(held)
            self.recorded = self.processes.agree(self.recorded)
            with self.processes.together():
                self._read_data(held)
            self.processes.check_same(lambda: self.digests, "the data")
            with self.processes.together():
                if self.processes.first:
                    self._begin(held)
            if not self.processes.first:
                return self._train_and_compare()
            held.callback(self.loggers.close)
            self.loggers.open(self.folder, self.settings)
            self.folder.listener = self.loggers.record
            try:
                result = self._train_and_compare()
            except Stopped as stopped:
                self.record.end("stopped", str(stopped))
                place = shlex.quote(str(self.folder.path))
                self.observer.warned(f"stopped by {stopped}; softbellman-train --resume {place} continues")
                raise
            except FolderMovedError:
                raise  # whose record is not here any more
            except BaseException as error:
                self.record.end("failed", " ".join(str(error).split()) or type(error).__name__)
                raise
            self.record.end("finished")
            return result

    def _look_at_folder(self, held: ExitStack) -> None:
        """Whether the folder can take this run, before the data are read."""
        if not self.resume:
            self.folder.check_free()
            return
        RunFolder.open(self.folder.path)
        self._lock(held)
        self.folder.repair()
        self.record = RunRecord.read(self.folder.path)
        self.recorded = self.record.objects
        self._check_settings()

    def _begin(self, held: ExitStack) -> None:
        """A new folder, or the check of one that is continued; then the record of this start."""
        if self.resume:
            self._check_folder()
        else:
            self.folder.path.mkdir(parents=True, exist_ok=True)
            self._lock(held)
            self._create_folder()
        self.record.begin(self.device, processes=self.processes.count)

    def _lock(self, held: ExitStack) -> None:
        """No other process writes to the folder; this one writes nowhere else."""
        self.folder.guard = held.enter_context(FolderLock(self.folder.path)).check

    # Data and folder --------------------------------------------------------------------------------------------------

    def _read_data(self, held: ExitStack) -> None:
        """Data, payoff and networks, before anything is written."""
        self.task = load_task(self.settings.data)
        self.payoff = build_payoff(
            self.settings, self.task, device=self.device, given=self.given, recorded=self.recorded
        )
        held.callback(self.payoff.close)
        wanted = self.settings.logging.to if self.processes.first else ()
        self.loggers = Loggers(wanted, self.observer.warned, self.recorded)
        self.doubts = unread_settings(self.settings, self.algorithm.uses)
        self.doubts += try_payoff(self.payoff, self.settings, self.task, device=self.device)
        self.parts = Assembly(self.settings, self.task, self.device, self.payoff)
        self.digests = {
            **self.task.digests(),
            **({"payoff": found} if (found := self.payoff.digest()) else {}),
        }

    def _create_folder(self) -> None:
        """A new folder; it holds a run when its record is written."""
        self.folder.create(config.dump(self.settings))
        self.folder.repair()
        self.task.save(self.folder.path)
        keep_pretrained(self.settings, self.folder.path)
        self.payoff.save(self.folder.frequencies_path)
        settings = self.settings
        brought = [algorithm_object(settings), model_object(settings), data_object(settings.data)]
        self.record = RunRecord.create(
            self.folder.path,
            config.flatten(self.settings),
            self.digests,
            [*self.payoff.objects, *self.loggers.objects, *(one for one in brought if one is not None)],
        )

    def _check_settings(self) -> None:
        """What shall change, before the data are read; raises where that would make another run."""
        self.changes = changed_settings(self.record, self.settings)
        check_own_model(self.settings, self.folder.path)

    def _check_folder(self) -> None:
        """The data are those of the run, and what lies in the folder is theirs; then changed settings are noted."""
        self.task.check_features(self.folder.path)
        check_data(self.record, self.digests)
        for codec, name in ((self.task.source_codec, "source"), (self.task.target_codec, "target")):
            if codec is not None:
                load_codec(self.folder.path, name)  # of the record, whose digests are those of the data
        session = self.record.sessions[-1] if self.record.sessions else {}
        if session.get("source") not in (None, package_digest()):
            self.observer.warned(
                f"the run was last trained with softbellman {session['softbellman']} of other sources than these "
                f"({softbellman.__version__}); its numbers may differ from those of one version"
            )
        if self.changes:
            stage, step = self._position()
            for key, value in self.changes.items():
                self.record.change(key, value, stage=stage, step=step)
            self.folder.write_config(config.dump(self.settings))

    def _position(self) -> tuple[str, int]:
        """The stage that goes on, and its update."""
        for name in self.parts.stages:
            newest = self.folder.newest_checkpoint(name)
            if newest is None or not newest.ended:
                return name, 0 if newest is None else newest.step
        last = self.parts.stages[-1]
        newest = self.folder.newest_checkpoint(last)
        return last, newest.step if newest else 0

    # Training ---------------------------------------------------------------------------------------------------------

    def _train_and_compare(self) -> RunResult:
        settings, observer, parts, folder = self.settings, self.observer, self.parts, self.folder
        observer.started(self._facts())
        for doubt in self.doubts:
            observer.warned(doubt)
        cache = StageCache(
            settings,
            folder,
            self.task,
            self.payoff,
            device=self.device,
            warn=observer.warned,
            processes=self.processes,
        )
        ends: dict[str, Cursor] = {}
        for name in parts.stages:
            stage = parts.build(name)
            key = cache.key(name)
            cache.fetch(key, stage)
            runner = StageRunner(
                stage,
                parts.train_batches(stage.schedule, name),
                folder,
                observer,
                seed=settings.seed_of(name),
                device=self.device,
                checkpoints=settings.checkpoint,
                request=self.request,
                bfloat16=settings.model.bfloat16_products,
                precision=settings.precision,
                steps_before=sum(end.step for end in ends.values()),
                seconds_before=sum(end.seconds for end in ends.values()),
                processes=self.processes,
                metrics=self.algorithm.spec(name).metrics,
                evaluation=settings.evaluation,
            )
            ends[name] = runner.run()
            cache.keep(key, stage)
            observer.stage_ended(name, folder)
        if self.processes.first:
            for diagnosis in diagnose_run(folder, [self.algorithm.spec(name) for name in parts.stages]):
                folder.log(kind="health", **diagnosis.as_record())
        result = RunResult(folder.path, self._compare(ends), self.task.reads)
        observer.finished(result)
        return result

    def _facts(self) -> list[str]:
        facts = [
            f"{self.algorithm.title} on {self._machine()}: "
            f"{self.task.describe()}, actor {trainable(self.parts.actor):,} parameters; run folder {self.folder.path}"
        ]
        if self.settings.payoff.metric != "bleu":
            facts.append(f"payoff: {self.payoff.describe()}")
        return facts

    def _machine(self) -> str:
        device, threads = self.device, f"{torch.get_num_threads()} threads"
        if self.processes.count == 1:
            return f"{device} with {threads}"
        return f"{self.processes.count} processes on {device.type}, each with {threads}"

    def _compare(self, ends: dict[str, Cursor]) -> tuple[FinalRow, ...]:
        """Decode the test set with the selected actor of every stage that trained one."""
        settings, folder, actor = self.settings, self.folder, self.parts.actor
        test = self.task.test
        if settings.evaluation.drop_long:
            test = test.drop_longer(settings.data.max_length, name="test")
        batches = corpus_batches(test, settings.evaluation.batch_size, settings.payoff)
        rows = []
        compared = [name for name in self.parts.stages if self.algorithm.spec(name).trains_actor]
        chosen = settings.evaluation.select_by
        for stage in compared:
            spec = self.algorithm.spec(stage)
            decoder = spec.decoder(actor, self.task.special)
            with self.processes.together():
                if self.processes.first:
                    load_modules(folder.weights(stage, "best"), {"actor": actor, **decoder.modules})
            self.processes.send([actor, *decoder.modules.values()])
            found = judge_search(
                decoder.model,
                test,
                batches,
                settings.evaluation,
                codec=self.task.target_codec,
                payoff=self.payoff,
                device=self.device,
            )
            system = "MLE" if spec.likelihood else self.algorithm.title
            if stage == compared[-1]:
                system = settings.label or system
            measured, score = ends[stage].measured, found.bleu
            row = FinalRow(
                system,
                stage,
                measured.get("dev_bleu", ends[stage].selected),  # of earlier versions, where BLEU selected
                score,
                found.others,
                {chosen: measured[f"dev_{chosen}"]} if chosen != "bleu" and measured else {},
            )
            rows.append(row)
            if not self.processes.first:
                continue
            folder.write_hypotheses(f"test-{stage}", found.lines)
            folder.write_examples(f"test-{stage}", self._examples(test, found.lines))
            folder.log(
                kind="test",
                stage=stage,
                system=system,
                dev_bleu=row.dev_bleu,
                test_bleu=score.score,
                signature=score.signature,
                length_ratio=score.length_ratio,
                peak_memory_bytes=peak_memory(),
                **{f"test_{name}": value for name, value in found.others.items()},
                **{f"dev_{name}": value for name, value in row.dev_others.items()},
            )
        return tuple(rows)

    def _examples(self, test: Any, lines: list[str]) -> list[dict[str, Any]]:
        """Hypotheses with their sources and references."""
        sources = test.images if self.task.source_codec is None else test.source_texts
        return [
            {"source": source, "references": list(references), "hypothesis": line}
            for source, references, line in zip(sources, test.reference_texts, lines, strict=True)
        ]


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
