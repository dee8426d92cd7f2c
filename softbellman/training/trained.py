"""What a finished run holds: an actor ready to translate or to caption, an oracle ready to be asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from softbellman import config
from softbellman.core.devices import choose_device
from softbellman.data import Codec, FeatureSpec, PixelSpec
from softbellman.training.algorithms import ACTOR_STAGES, ALGORITHMS
from softbellman.training.checkpoint import load_modules
from softbellman.training.networks import build_actor, build_reader
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import Settings, follow_data
from softbellman.training.task import source_size


@dataclass(frozen=True)
class TrainedActor:
    """A finished actor, ready to translate (it has a source codec) or to caption (it knows its features' or images' shape)."""

    model: nn.Module
    source_codec: Codec | None
    target_codec: Codec
    settings: Settings
    features: FeatureSpec | PixelSpec | None = None


def load_run(path: Path, checkpoint: str = "best", *, device: str = "cpu") -> TrainedActor:
    """Load a run's actor.

    Args:
        path: run folder.
        checkpoint: `best` or `last` of the last stage that trained the actor, or STAGE-best, STAGE-last, STAGE.
        device: where the weights go.
    """
    folder = RunFolder.open(path)
    settings = follow_data(config.load(Settings, folder.config_path))
    source_codec: Codec | None = None
    features: FeatureSpec | PixelSpec | None = None
    if settings.data.kind == "captions":
        features = FeatureSpec.load(folder.path)
    elif settings.data.kind == "scenes":
        features = PixelSpec.load(folder.path)
    else:
        source_codec = Codec.load(folder.path, "source")
    target_codec = Codec.load(folder.path, "target")
    model = build_actor(
        settings, source_size=source_size(source_codec, features), target_size=len(target_codec)
    )
    stages = [name for name in ALGORITHMS[settings.algorithm].stages if name in ACTOR_STAGES]
    load_modules(_find_weights(folder, stages, checkpoint), {"actor": model})
    return TrainedActor(
        model.to(choose_device(device)).eval(), source_codec, target_codec, settings, features
    )


@dataclass(frozen=True)
class TrainedOracle:
    """A learnt oracle: `model(reference with EOS [B, L], prefix from BOS on [B, T])` gives Q, `[B, T, V]`.

    Attributes:
        tau: temperature its targets `softmax(Q / tau)` were learnt at.
    """

    model: nn.Module
    target_codec: Codec
    settings: Settings
    tau: float


def load_oracle(path: Path, checkpoint: str = "best", *, device: str = "cpu") -> TrainedOracle:
    """Load a run's oracle.

    Args:
        path: folder of a run that trained one (VAML).
        checkpoint: `best` or `last`.
        device: where the weights go.

    Raises:
        ValueError: the run's algorithm learns no oracle, or there is no such checkpoint.
    """
    folder = RunFolder.open(path)
    settings = follow_data(config.load(Settings, folder.config_path))
    if "oracle" not in ALGORITHMS[settings.algorithm].stages:
        raise ValueError(f"{path} is a run of {settings.algorithm}, which learns no oracle; vaml does")
    codec = Codec.load(folder.path, "target")
    model = build_reader(settings, "oracle", target_size=len(codec))
    load_modules(_find_weights(folder, ["oracle"], checkpoint), {"oracle": model})
    return TrainedOracle(model.to(choose_device(device)).eval(), codec, settings, settings.oracle.tau)


def _find_weights(folder: RunFolder, stages: list[str], checkpoint: str) -> Path:
    """The file of `best` or `last` of the last stage that has one, or of STAGE-best, STAGE-last, STAGE."""
    if checkpoint in ("best", "last"):
        wanted = [(stage, checkpoint) for stage in reversed(stages)]
    else:
        stage, _, which = checkpoint.rpartition("-")
        wanted = [(stage, which)] if which in ("best", "last") else [(checkpoint, "best")]
    for stage, which in wanted:
        if (found := folder.weights(stage, "last" if which == "last" else "best")).exists():
            return found
    trained = sorted(
        path.stem.removesuffix("-best") for path in folder.checkpoints.glob("*-best.safetensors")
    )
    present = [f"{stage}-{which}" for stage in trained for which in ("best", "last")] or ["none"]
    raise ValueError(f"no checkpoint {checkpoint!r} in {folder.checkpoints}; present: {', '.join(present)}")
