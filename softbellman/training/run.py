"""A run from settings to the final comparison on the test set."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from softbellman import build_info, config
from softbellman.data import BatchIterator, Codec, collate
from softbellman.training.algorithms import ALGORITHMS
from softbellman.training.cache import StageCache
from softbellman.training.checkpoint import load_modules
from softbellman.training.evaluation import (
    BleuScore,
    corpus_batches,
    corpus_bleu,
    reference_nll,
    td_error,
    translate_corpus,
)
from softbellman.training.health import ranking
from softbellman.training.loop import run_stage
from softbellman.training.reporting import Progress, draw_curve
from softbellman.training.runfolder import RunFolder, new_run_path
from softbellman.training.settings import ScheduleSettings, Settings
from softbellman.training.stages import (
    ActorStage,
    CriticStage,
    JointStage,
    PolicyEvaluation,
    Stage,
    WarmUpStage,
    draw_key,
    target_of,
)
from softbellman.training.task import build_actor, build_critic, load_task, trainable


@dataclass(frozen=True)
class FinalRow:
    """One system on the test set.

    Attributes:
        system: name in the table, such as ERAC.
        stage: the stage whose selected actor was decoded.
        dev_bleu, test: BLEU on the validation and on the test set.
    """

    system: str
    stage: str
    dev_bleu: float
    test: BleuScore


@dataclass(frozen=True)
class RunResult:
    """What a run leaves: its folder and the comparison."""

    folder: Path
    rows: tuple[FinalRow, ...]


def choose_device(name: str) -> torch.device:
    """``auto`` is the GPU when torch sees one and the kernels were built for it."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() and build_info()["cuda"] else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:NUMBER, got {name!r}") from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(f"device {name!r} was asked for, but torch sees no GPU")
        if not build_info()["cuda"]:
            raise ValueError(f"device {name!r} was asked for, but softbellman was built without CUDA kernels")
    return device


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
    if resume is None:
        folder = RunFolder(settings.output or new_run_path(settings.algorithm))
        folder.create(config.dump(settings))
    else:
        folder = RunFolder.open(resume)
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
        self.task.source_codec.save(folder.path, "source")
        self.task.target_codec.save(folder.path, "target")
        self.cache = StageCache(settings, folder, self.task)
        sizes = {"source_size": len(self.task.source_codec), "target_size": len(self.task.target_codec)}
        torch.manual_seed(draw_key(settings.seed, "actor/initialisation") % 2**63)
        self.actor = build_actor(settings, **sizes).to(device)
        torch.manual_seed(draw_key(settings.seed, "critic/initialisation") % 2**63)
        self.critic = build_critic(settings, target_size=sizes["target_size"]).to(device)
        self.target: nn.Module | None = None
        self.forbidden = self.task.forbidden(device) & settings.credit.forbid_special
        dev, limit = self.task.dev, settings.data.max_length
        if settings.evaluation.drop_long:
            dev = dev.drop_longer(limit, name="validation")
        self.dev = dev
        self.dev_batches = corpus_batches(dev, settings.evaluation.batch_size)

    def execute(self) -> RunResult:
        settings, progress = self.settings, self.progress
        self._describe()
        builders: dict[str, Callable[[], Stage]] = {
            "actor": self._actor_stage,
            "warmup": self._warmup_stage,
            "critic": self._critic_stage,
            "joint": self._joint_stage,
        }
        for name in self._stages():
            stage = builders[name]()
            key = self.cache.key(name)
            cached = self.cache.fetch(key, stage)
            run_stage(
                stage,
                self._train_batches(stage.schedule, name),
                self.folder,
                progress,
                seed=settings.seed,
                device=self.device,
                resume=self.resume or cached,
            )
            self.cache.keep(key, stage)
            draw_curve(self.folder.metrics_path, self.folder.curve_path)
        rows = self._compare()
        progress.finish(self.folder, rows)
        return RunResult(self.folder.path, rows)

    def _describe(self) -> None:
        task = self.task
        self.progress.line(
            f"{self.algorithm.title} on {self.device} with {torch.get_num_threads()} threads: "
            f"{len(task.train):,} training pairs, vocabularies {len(task.source_codec):,} -> "
            f"{len(task.target_codec):,}, actor {trainable(self.actor):,} parameters; run folder {self.folder.path}"
        )

    def _train_batches(self, schedule: ScheduleSettings, stage: str) -> BatchIterator:
        return BatchIterator(
            self.task.train,
            batch_size=schedule.batch_size,
            unit=schedule.batch_unit,
            seed=draw_key(self.settings.seed, f"{stage}/batches") % 2**31,
            references="all" if self.settings.payoff.references == "all" else "one",
        )

    # Stages ---------------------------------------------------------------------------------------------------------

    def _actor_stage(self) -> Stage:
        return ActorStage(self.actor, self.settings.actor, judge=self._judge_actor)

    def _stages(self) -> list[str]:
        """The algorithm's stages that have epochs."""
        return [name for name in self.algorithm.stages if getattr(self.settings, name).schedule.epochs > 0]

    def _warmup_stage(self) -> Stage:
        return WarmUpStage(
            self.critic,
            self.settings.warmup,
            judge=partial(reference_nll, self.critic, self.dev_batches, device=self.device),
        )

    def _critic_stage(self) -> Stage:
        if "warmup" in self._stages():  # its selected weights are loaded: the logits become the first values
            with torch.no_grad():
                for parameter in self.critic.output.parameters():
                    parameter.mul_(self.settings.warmup.scale)
        evaluation = self._policy_evaluation("critic")
        return CriticStage(evaluation, self.settings.critic, judge=partial(self._judge_critic, evaluation))

    def _joint_stage(self) -> Stage:
        evaluation = self._policy_evaluation("joint")
        return JointStage(evaluation, self.settings.joint, judge=partial(self._judge_joint, evaluation))

    def _policy_evaluation(self, stage: str) -> PolicyEvaluation:
        if self.target is None:
            self.target = target_of(self.critic)
        settings = self.settings
        own = settings.critic if stage == "critic" else settings.joint
        return PolicyEvaluation(
            self.actor,
            self.critic,
            self.target,
            payoff=settings.payoff,
            credit=settings.credit,
            samples=own.samples,
            extra_length=own.extra_length,
            longest=settings.data.max_length,
            key=draw_key(settings.seed, f"{stage}/draws"),
            forbidden=self.forbidden,
        )

    # Validation -----------------------------------------------------------------------------------------------------

    def _judge_actor(self) -> dict[str, float]:
        lines = translate_corpus(
            self.actor, self.dev_batches, self.task.target_codec, self.settings.evaluation, device=self.device
        )
        score = corpus_bleu(lines, self.dev.reference_texts, tokenize=self.settings.evaluation.tokenize)
        return {"dev_bleu": score.score, "dev_length_ratio": score.length_ratio}

    def _judge_critic(self, evaluation: PolicyEvaluation) -> dict[str, float]:
        metrics = td_error(evaluation, self.dev_batches, device=self.device)
        batch = collate(self.dev, [(index, 0) for index in range(min(200, len(self.dev)))]).to(self.device)
        found = ranking(
            self.actor,
            self.critic,
            batch,
            payoff=self.settings.payoff,
            max_length=self.settings.data.max_length,
            forbidden=self.task.forbidden(self.device),
        )
        metrics["rank_correlation"], metrics["choice_gain"] = found.correlation, found.gain
        return metrics

    def _judge_joint(self, evaluation: PolicyEvaluation) -> dict[str, float]:
        return {**self._judge_actor(), **self._judge_critic(evaluation)}

    # The end --------------------------------------------------------------------------------------------------------

    def _compare(self) -> tuple[FinalRow, ...]:
        """Decode the test set with the selected actor of every stage that trained one."""
        settings, folder = self.settings, self.folder
        test = self.task.test
        if settings.evaluation.drop_long:
            test = test.drop_longer(settings.data.max_length, name="test")
        batches = corpus_batches(test, settings.evaluation.batch_size)
        rows = []
        for stage in self._stages():
            if stage not in ("actor", "joint"):
                continue
            weights = folder.checkpoints / f"{stage}-best.safetensors"
            load_modules(weights, {"actor": self.actor})
            lines = translate_corpus(
                self.actor, batches, self.task.target_codec, settings.evaluation, device=self.device
            )
            folder.write_hypotheses(f"test-{stage}", lines)
            score = corpus_bleu(lines, test.reference_texts, tokenize=settings.evaluation.tokenize)
            system = "MLE" if stage == "actor" else self.algorithm.title
            row = FinalRow(system, stage, folder.best("dev_bleu", stage), score)
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
            )
        return tuple(rows)


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


@dataclass(frozen=True)
class TrainedActor:
    """A finished actor with its codecs, ready to translate."""

    model: nn.Module
    source_codec: Codec
    target_codec: Codec
    settings: Settings


def load_run(path: Path, checkpoint: str = "best", *, device: str = "cpu") -> TrainedActor:
    """Load a run's actor.

    Args:
        path: run folder.
        checkpoint: ``best`` or ``last`` of the last stage that trained the actor, or STAGE-best, STAGE-last, STAGE.
        device: where the weights go.
    """
    folder = RunFolder.open(path)
    settings = config.load(Settings, folder.config_path)
    source_codec, target_codec = Codec.load(folder.path, "source"), Codec.load(folder.path, "target")
    model = build_actor(settings, source_size=len(source_codec), target_size=len(target_codec))
    load_modules(_find_weights(folder.checkpoints, settings, checkpoint), {"actor": model})
    return TrainedActor(model.to(choose_device(device)).eval(), source_codec, target_codec, settings)


def _find_weights(checkpoints: Path, settings: Settings, checkpoint: str) -> Path:
    stages = [name for name in ALGORITHMS[settings.algorithm].stages if name in ("actor", "joint")]
    if checkpoint in ("best", "last"):
        candidates = [f"{stage}-{checkpoint}" for stage in reversed(stages)]
    else:
        candidates = [checkpoint if checkpoint.endswith(("-best", "-last")) else f"{checkpoint}-best"]
    for name in candidates:
        if (found := checkpoints / f"{name}.safetensors").exists():
            return found
    present = sorted(item.stem for item in checkpoints.glob("*.safetensors")) or ["none"]
    raise ValueError(f"no checkpoint {checkpoint!r} in {checkpoints}; present: {', '.join(present)}")
