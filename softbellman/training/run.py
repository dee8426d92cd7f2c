"""A run from settings to the final comparison on the test set."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch

from softbellman import config
from softbellman.core.devices import choose_device
from softbellman.data import EOS, UNK
from softbellman.payoffs.payoff import prepare_payoff
from softbellman.training.algorithms import ACTOR_STAGES, ALGORITHMS
from softbellman.training.allocator import keep_freed_memory
from softbellman.training.assembly import Assembly
from softbellman.training.cache import StageCache
from softbellman.training.checkpoint import load_modules
from softbellman.training.evaluation import corpus_batches, corpus_bleu, further_metrics, translate_corpus
from softbellman.training.loop import run_stage
from softbellman.training.networks import trainable
from softbellman.training.observer import Observer
from softbellman.training.result import FinalRow, RunResult
from softbellman.training.runfolder import RunFolder, new_run_path
from softbellman.training.settings import Settings
from softbellman.training.task import load_task


def run(settings: Settings, resume: Path | None = None, *, observer: Observer | None = None) -> RunResult:
    """Train an algorithm's stages one after another, then compare its actors on the test set.

    Args:
        settings: of a new run; with `resume` those of the folder's config.
        resume: folder of an interrupted run. Finished stages are loaded, the interrupted one continues from its last
            validation. The numbers are those of an uninterrupted run with the same thread count and device.
        observer: is told what happens; None: nobody. `softbellman.report.Console` prints and draws the learning curve.

    Example:
        >>> from softbellman.report import Console
        >>> from softbellman.training import Settings, run
        >>> run(Settings(), observer=Console())  # doctest: +SKIP
    """
    settings = ALGORITHMS[settings.algorithm].settle(settings)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = choose_device(settings.device)
    if settings.keep_memory and device.type == "cpu":
        keep_freed_memory()
    if resume is None:
        folder = RunFolder(settings.output or new_run_path(settings.algorithm))
        folder.create(config.dump(settings))
    else:
        folder = RunFolder.open(resume)
    return _Run(settings, folder, device, observer or Observer(), resume is not None).execute()


class _Run:
    """The state of one run: data, networks, and the order of things."""

    def __init__(
        self, settings: Settings, folder: RunFolder, device: torch.device, observer: Observer, resume: bool
    ) -> None:
        self.settings, self.folder, self.device = settings, folder, device
        self.observer, self.resume = observer, resume
        self.algorithm = ALGORITHMS[settings.algorithm]
        self.task = load_task(settings.data)
        if resume:
            self.task.check_features(folder.path)
        self.task.save(folder.path)
        self.payoff = prepare_payoff(
            settings.payoff,
            self.task.train.references,
            folder.frequencies_path,
            resume=resume,
            device=device,
            eos_id=EOS,
            unknown_id=UNK,
        )
        self.cache = StageCache(settings, folder, self.task, self.payoff)
        self.parts = Assembly(settings, self.task, device, self.payoff)

    def execute(self) -> RunResult:
        settings, observer, parts = self.settings, self.observer, self.parts
        observer.started(self._facts())
        for name in parts.stages:
            stage = parts.build(name)
            key = self.cache.key(name)
            cached = self.cache.fetch(key, stage)
            run_stage(
                stage,
                parts.train_batches(stage.schedule, name),
                self.folder,
                observer,
                seed=settings.seed,
                device=self.device,
                resume=self.resume or cached,
                bfloat16=settings.model.bfloat16_products,
            )
            self.cache.keep(key, stage)
            observer.stage_ended(name, self.folder)
        result = RunResult(self.folder.path, self._compare(), self.task.reads)
        observer.finished(result)
        return result

    def _facts(self) -> list[str]:
        facts = [
            f"{self.algorithm.title} on {self.device} with {torch.get_num_threads()} threads: "
            f"{self.task.describe()}, actor {trainable(self.parts.actor):,} parameters; run folder {self.folder.path}"
        ]
        if self.settings.payoff.metric != "bleu":
            facts.append(f"payoff: {self.payoff.describe()}")
        return facts

    def _compare(self) -> tuple[FinalRow, ...]:
        """Decode the test set with the selected actor of every stage that trained one."""
        settings, folder, actor = self.settings, self.folder, self.parts.actor
        test = self.task.test
        if settings.evaluation.drop_long:
            test = test.drop_longer(settings.data.max_length, name="test")
        batches = corpus_batches(test, settings.evaluation.batch_size)
        rows = []
        for stage in self.parts.stages:
            if stage not in ACTOR_STAGES:
                continue
            load_modules(folder.checkpoint(stage, "best"), {"actor": actor})
            lines = translate_corpus(
                actor, batches, self.task.target_codec, settings.evaluation, device=self.device
            )
            folder.write_hypotheses(f"test-{stage}", lines)
            score = corpus_bleu(lines, test.reference_texts, tokenize=settings.evaluation.tokenize)
            others = further_metrics(
                settings.evaluation.metrics, lines, test.reference_texts, settings.evaluation
            )
            system = "MLE" if stage == "actor" else self.algorithm.title
            row = FinalRow(system, stage, folder.best("dev_bleu", stage), score, others)
            rows.append(row)
            folder.log(
                kind="test",
                stage=stage,
                system=system,
                dev_bleu=row.dev_bleu,
                test_bleu=score.score,
                signature=score.signature,
                length_ratio=score.length_ratio,
                peak_memory_bytes=peak_memory(),
                **{f"test_{name}": value for name, value in others.items()},
            )
        return tuple(rows)


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
