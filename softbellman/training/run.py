"""A run from settings to the final comparison on the test set."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from softbellman import config
from softbellman.data import EOS, UNK
from softbellman.payoffs.payoff import prepare_payoff
from softbellman.training.algorithms import ACTOR_STAGES, ALGORITHMS
from softbellman.training.allocator import keep_freed_memory
from softbellman.training.assembly import Assembly
from softbellman.training.cache import StageCache
from softbellman.training.checkpoint import load_modules
from softbellman.training.evaluation import (
    BleuScore,
    corpus_batches,
    corpus_bleu,
    further_metrics,
    translate_corpus,
)
from softbellman.training.loop import run_stage
from softbellman.training.products import onednn_products
from softbellman.training.reporting import Progress, draw_curve
from softbellman.training.runfolder import RunFolder, new_run_path
from softbellman.training.settings import Settings
from softbellman.training.task import choose_device, load_task, trainable


@dataclass(frozen=True)
class FinalRow:
    """One system on the test set.

    Attributes:
        system: name in the table, such as ERAC.
        stage: the stage whose selected actor was decoded.
        dev_bleu, test: BLEU on the validation and on the test set.
        others: what ``evaluation.metrics`` asked for, of the test set, by name.
    """

    system: str
    stage: str
    dev_bleu: float
    test: BleuScore
    others: dict[str, float]


@dataclass(frozen=True)
class RunResult:
    """What a run leaves: its folder and the comparison."""

    folder: Path
    rows: tuple[FinalRow, ...]


def run(settings: Settings, resume: Path | None = None, *, quiet: bool = False) -> RunResult:
    """Train an algorithm's stages one after another, then compare its actors on the test set.

    Args:
        settings: of a new run; with ``resume`` those of the folder's config.
        resume: folder of an interrupted run; finished stages are loaded, the interrupted one continues from its last
            validation, with the numbers of an uninterrupted run (same thread count, same device).
        quiet: no progress bars or lines.
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
    with onednn_products(enabled=settings.onednn_products and device.type == "cpu"):
        return _Run(settings, folder, device, Progress(quiet=quiet), resume is not None).execute()


class _Run:
    """The state of one run: data, networks, and the order of things."""

    def __init__(
        self, settings: Settings, folder: RunFolder, device: torch.device, progress: Progress, resume: bool
    ) -> None:
        self.settings, self.folder, self.device = settings, folder, device
        self.progress, self.resume = progress, resume
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
        settings, progress, parts = self.settings, self.progress, self.parts
        self._describe()
        for name in parts.stages:
            stage = parts.build(name)
            key = self.cache.key(name)
            cached = self.cache.fetch(key, stage)
            run_stage(
                stage,
                parts.train_batches(stage.schedule, name),
                self.folder,
                progress,
                seed=settings.seed,
                device=self.device,
                resume=self.resume or cached,
                bfloat16=settings.model.bfloat16_products,
            )
            self.cache.keep(key, stage)
            draw_curve(self.folder.metrics_path, self.folder.curve_path)
        rows = self._compare()
        progress.finish(self.folder, rows, reads=self.task.reads)
        return RunResult(self.folder.path, rows)

    def _describe(self) -> None:
        task = self.task
        self.progress.line(
            f"{self.algorithm.title} on {self.device} with {torch.get_num_threads()} threads: "
            f"{task.describe()}, actor {trainable(self.parts.actor):,} parameters; run folder {self.folder.path}"
        )
        if self.settings.payoff.metric != "bleu":
            self.progress.line(f"payoff: {self.payoff.describe()}")

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
