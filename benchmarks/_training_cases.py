"""What `benchmarks.training` times: the stages at the published sizes, ours and the published way of them.

Both sides of a stage start from the same weights and take the same batches. The actor has first been trained for
a few updates of maximum likelihood, so that its samples are about as long as sentences are.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks._published_steps import AugmentedStep, CriticStep, JointStep, LikelihoodStep, OracleStep
from softbellman.config import load
from softbellman.core.devices import choose_device
from softbellman.data import Batch
from softbellman.models import AttentionSeq2Seq
from softbellman.models.projection import bfloat16_products
from softbellman.training.assembly import Assembly
from softbellman.training.own_algorithm import algorithm_of
from softbellman.training.settings import PRESETS, DataSettings, Settings
from softbellman.training.stages import Stage
from softbellman.training.task import Task, load_task


class Timed(NamedTuple):
    """What is timed under a name.

    Attributes:
        algorithm, stage: of the run it is a part of.
        sequences: how many a source has in an update, from the settings.
        published: whether the paper's code has it.
    """

    algorithm: str
    stage: str
    sequences: Callable[[Settings], int]
    published: bool = False


def _one(settings: Settings) -> int:
    return 1


def _edited(settings: Settings) -> int:
    return settings.augmented.edits.samples


def _drawn(settings: Settings) -> int:
    return settings.sequence.samples


def _candidates(settings: Settings) -> int:
    return settings.sequence.samples + settings.sequence.with_reference


STAGES = {
    "mle": Timed("mle", "actor", _one, published=True),
    "critic": Timed("erac", "critic", lambda settings: settings.critic.samples, published=True),
    "joint": Timed("erac", "joint", lambda settings: settings.joint.samples, published=True),
    "oracle": Timed("vaml", "oracle", lambda settings: settings.oracle.edits.samples, published=True),
    "raml": Timed("raml", "augmented", _edited, published=True),
    "vaml": Timed("vaml", "augmented", _edited, published=True),
    "scheduled": Timed("scheduled", "scheduled", _one),
    "interpolation": Timed("interpolation", "interpolated", _one),
    "ocd": Timed("ocd", "completion", lambda settings: settings.completion.edits.samples),
    "reinforce": Timed("reinforce", "sequence", _drawn),
    "mixer": Timed("mixer", "sequence", _drawn),
    "rloo": Timed("rloo", "sequence", _drawn),
    "scst": Timed("scst", "sequence", _drawn),
    "mrt": Timed("mrt", "sequence", _candidates),
    "pcl": Timed("pcl", "consistency", lambda settings: settings.consistency.samples),
    "bso": Timed("bso", "search", lambda settings: settings.search.start_beam),
    "future_success": Timed("future_success", "future", lambda settings: settings.future.samples),
    "professor_forcing": Timed("professor_forcing", "professor", lambda settings: settings.professor.samples),
}
"""What is timed, by name. RAML's update is `raml`, ERAC's `joint`; what was not published stands beside them."""

SOURCE_WORDS, TARGET_WORDS = 5376, 4564  # of the synthetic corpus, the four special tokens not counted


@dataclass
class Case:
    """One stage, two ways.

    Attributes:
        name: one of `STAGES`.
        stage: ours.
        ours, published: one update on a batch; None where nothing was published in the paper's code.
        batches: what both take, in turn.
        preparation: seconds in which each of them was made, outside of any update (median).
        sequences: sequences per source.
    """

    name: str
    stage: Stage
    ours: Callable[[Batch], object]
    published: Callable[[Batch], object] | None
    batches: list[Batch]
    preparation: float
    sequences: int


def settings_of(
    name: str,
    data: DataSettings,
    *,
    preset: str = "paper",
    small: bool = False,
    bfloat16: str = "none",
    device: str = "cpu",
    cuda_graphs: bool = False,
) -> Settings:
    """The published recipe of a stage (the settings' defaults), with the weights of all edited sequences kept.

    Args:
        name: one of `STAGES`.
        data: where the corpus is.
        preset: `paper` or `published`: what OUR stage computes.
        small: networks of 16 units, for a look at whether everything runs.
        bfloat16: which of OUR products have bfloat16 factors.
        device: where both sides run.
        cuda_graphs: a step of OUR sampling is a CUDA graph.
    """
    overrides = {
        "model.bfloat16_products": bfloat16,
        "preset": preset,
        "algorithm": STAGES[name].algorithm,
        "device": device,
        "cuda_graphs": str(cuda_graphs).lower(),
        "augmented.weights": "published",
        "augmented.oracle_share": "0.2",
    }
    if small:
        overrides |= {f"model.{key}": "16" for key in ("embedding", "hidden", "attention_size")}
    settings = load(Settings, overrides=overrides.items(), presets={"preset": PRESETS})
    settings = replace(settings, data=data)
    return algorithm_of(settings).settle(settings)


def load_data(path: Path | None, scratch: Path, *, small: bool = False) -> tuple[Task, DataSettings]:
    """Multi30k from `path`, or a synthetic corpus of the same vocabularies and lengths, written to `scratch`.

    `small`: a tenth of the synthetic corpus.
    """
    if path is None:
        write_synthetic(scratch, share=0.1 if small else 1.0)
        data = DataSettings(kind="parallel", path=str(scratch), test="test_2016", min_frequency=1)
    else:
        data = DataSettings(kind="parallel", path=str(path), test="test_2016")
    return load_task(data), data


def write_synthetic(folder: Path, *, pairs: int = 3000, share: float = 1.0) -> None:
    """Parallel files with about the lengths of Multi30k (mean 12 and 13 words) and words by Zipf's law.

    Args:
        folder: gets train.de, train.en and so on.
        pairs: of the training split.
        share: of the pairs and of both vocabularies that is kept.
    """
    generator = random.Random(1)
    for split, count in (("train", round(pairs * share)), ("val", 50), ("test_2016", 50)):
        lengths = [min(40, max(4, round(generator.lognormvariate(2.47, 0.32)))) for _ in range(count)]
        for language, full, factor in (("de", SOURCE_WORDS, 1.0), ("en", TARGET_WORDS, 1.06)):
            words = round(full * share)
            weights = [1 / rank for rank in range(1, words + 1)]
            wanted = [round(length * factor) for length in lengths]
            drawn = generator.choices(range(words), weights, k=sum(wanted))
            if split == "train":
                drawn[:words] = generator.sample(range(words), words)  # every word occurs
            stream = iter(drawn)
            lines = [" ".join(f"{language}{next(stream)}" for _ in range(length)) for length in wanted]
            (folder / f"{split}.{language}").write_text("\n".join(lines) + "\n")


def warm_actor(task: Task, settings: Settings, updates: int) -> dict[str, torch.Tensor]:
    """Weights of an actor after a few updates of maximum likelihood (Adam, so that few are enough)."""
    device = choose_device(settings.device)
    parts = Assembly(settings, task, device)
    stage = parts.build("actor")
    optimizer = torch.optim.Adam(parts.actor.parameters(), lr=2e-3, fused=True)
    stage.optimizers["actor"] = optimizer
    done = 0
    while done < updates:
        for batch in parts.train_batches(stage.schedule, "actor").epoch(done):
            stage.update(batch.to(device), done)
            done += 1
            if done == updates:
                break
    return parts.actor.state_dict()


def build_stage(
    name: str, task: Task, settings: Settings, actor_weights: dict[str, torch.Tensor], *, count: int
) -> tuple[Assembly, Stage, list[Batch], float]:
    """Our stage of that name (one of `STAGES`) with `count` batches and the processor's seconds for one of them."""
    device = choose_device(settings.device)
    parts = Assembly(settings, task, device)
    parts.actor.load_state_dict(actor_weights)
    key = STAGES[name].stage
    stage = parts.build(key)
    batches, seconds, started = [], [], time.process_time()
    for batch in islice(parts.train_batches(stage.schedule, key).epoch(0), count):
        seconds.append(time.process_time() - started)
        batches.append(batch.to(device))
        started = time.process_time()
    return parts, stage, batches, statistics.median(seconds)


def make_case(
    name: str,
    task: Task,
    settings: Settings,
    actor_weights: dict[str, torch.Tensor],
    *,
    count: int,
) -> Case:
    """A stage on `count` batches; ours with the products of matrices that the settings ask for, as a run has them."""
    parts, stage, batches, preparation = build_stage(name, task, settings, actor_weights, count=count)
    actor, reader = parts.actor, parts.reader
    published: LikelihoodStep | CriticStep | OracleStep | AugmentedStep | None
    assert isinstance(actor, AttentionSeq2Seq)
    if not STAGES[name].published:
        published = None
    elif name == "mle":
        published = LikelihoodStep(settings, actor)
    elif name == "raml":
        published = AugmentedStep(settings, actor, None)
    else:
        assert isinstance(reader, AttentionSeq2Seq)
        if name == "critic":
            published = CriticStep(settings, actor, reader)
        elif name == "joint":
            published = JointStep(settings, actor, reader)
        elif name == "oracle":
            published = OracleStep(settings, reader)
        else:
            published = AugmentedStep(settings, actor, reader)
    calls = iter(range(10**9))

    def ours(batch: Batch) -> object:
        with bfloat16_products(settings.model.bfloat16_products):
            return stage.update(batch, next(calls))

    return Case(
        name=name,
        stage=stage,
        ours=ours,
        published=None if published is None else published.update,
        batches=batches,
        preparation=preparation,
        sequences=STAGES[name].sequences(settings),
    )
