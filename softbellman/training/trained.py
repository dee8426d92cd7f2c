"""What a finished run holds: an actor ready to translate or to caption, an oracle ready to be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from softbellman import config
from softbellman.core.devices import choose_device
from softbellman.data import Codec, FeatureSpec, PixelSpec
from softbellman.decoding import StepwiseModel
from softbellman.training.algorithms import Algorithm
from softbellman.training.checkpoint import load_modules, read_weights
from softbellman.training.handed import ModelFunction, take_handed
from softbellman.training.networks import build_actor, build_reader
from softbellman.training.own_algorithm import algorithm_of, check_own_algorithm
from softbellman.training.own_model import check_own_model
from softbellman.training.pretrained import of_folder
from softbellman.training.resumption import check_vocabularies, load_codec
from softbellman.training.runfolder import RunFolder
from softbellman.training.settings import Settings, follow_data
from softbellman.training.task import source_size

_WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class TrainedActor:
    """A finished actor, ready to translate (it has a source codec) or to caption (it knows its features' or images' shape).

    `others` are actors of other runs that decode together with it, as an ensemble. `searched`: what beam search decodes
    with in the place of the model, where its stage says so, such as scores that are no probabilities.
    """

    model: nn.Module
    source_codec: Codec | None
    target_codec: Codec
    settings: Settings
    features: FeatureSpec | PixelSpec | None = None
    others: tuple[nn.Module, ...] = ()
    searched: StepwiseModel | None = None

    @property
    def models(self) -> list[nn.Module | StepwiseModel]:
        """The actor, or what is searched in its place, and those that decode with it."""
        found: list[nn.Module | StepwiseModel] = [self.searched or self.model]
        return [*found, *self.others]


def load_run(
    path: str | Path,
    checkpoint: str = "best",
    *,
    device: str = "cpu",
    ensemble: Sequence[str | Path] = (),
    algorithm: Algorithm | None = None,
    model: ModelFunction | None = None,
) -> TrainedActor:
    """Load a run's actor.

    Args:
        path: run folder.
        checkpoint: `best` or `last` of the last stage that trained the actor, or STAGE-best, STAGE-last, STAGE; or a file of
            weights, such as `softbellman average` writes.
        device: where the weights go.
        ensemble: folders of other runs whose actors decode with this one: their probabilities are averaged. Where
            `checkpoint` is a file, they are the best of their last stages.
        algorithm, model: what was handed over to `run` and no name leads to; known to this process from here on.

    Raises:
        RunFolderError: no run folder.
        ValueError: no such checkpoint, a run of the ensemble with other vocabularies or images, or another algorithm or
            model than the run's, or none where one was handed over.
    """
    take_handed(path, algorithm=algorithm, model=model)
    actor = _load_actor(Path(path), checkpoint, device)
    others = []
    for other in ensemble:
        found = _load_actor(Path(other), "best" if checkpoint.endswith(_WEIGHTS) else checkpoint, device)
        for name, mine, its in (
            ("source vocabulary", actor.source_codec, found.source_codec),
            ("target vocabulary", actor.target_codec, found.target_codec),
        ):
            if (mine and mine.vocabulary) != (its and its.vocabulary):
                raise ValueError(f"{other} cannot decode together with {path}: it has another {name}")
        if actor.features != found.features:
            raise ValueError(
                f"{other} cannot decode together with {path}: it reads images of {found.features}, not {actor.features}"
            )
        if found.searched or actor.searched:
            raise ValueError(
                f"{other} cannot decode together with {path}: an ensemble averages probabilities, and one of them is searched "
                "by other scores"
            )
        others.append(found.model)
    return replace(actor, others=tuple(others))


def _load_actor(path: Path, checkpoint: str, device: str) -> TrainedActor:
    folder = RunFolder.open(path)
    settings = _settings_of(folder)
    source_codec: Codec | None = None
    features: FeatureSpec | PixelSpec | None = None
    if settings.data.kind == "captions":
        features = FeatureSpec.load(folder.path)
    elif settings.data.kind == "scenes":
        features = PixelSpec.load(folder.path)
    else:
        source_codec = load_codec(folder.path, "source")
    target_codec = load_codec(folder.path, "target")
    model = build_actor(
        settings,
        source_size=source_size(source_codec, features),
        target_size=len(target_codec),
        special=target_codec.special,
    )
    algorithm = algorithm_of(settings)
    stages = algorithm.actor_stages()
    weights = _find_weights(folder, stages, checkpoint)
    stage = next((name for name in stages if weights.stem.startswith(f"{name}-")), stages[-1])
    placed = model.to(choose_device(device)).eval()
    decoder = algorithm.spec(stage).decoder(placed, target_codec.special)
    _load_weights(folder, weights, {"actor": placed, **decoder.modules})
    for module in decoder.modules.values():
        module.eval()
    searched = None if isinstance(decoder.model, nn.Module) else decoder.model
    return TrainedActor(placed, source_codec, target_codec, settings, features, searched=searched)


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


def load_oracle(
    path: Path,
    checkpoint: str = "best",
    *,
    device: str = "cpu",
    algorithm: Algorithm | None = None,
    model: ModelFunction | None = None,
) -> TrainedOracle:
    """Load a run's oracle.

    Args:
        path: folder of a run that trained one (VAML).
        checkpoint: `best` or `last`.
        device: where the weights go.
        algorithm, model: as of `load_run`.

    Raises:
        ValueError: the run's algorithm learns no oracle, or there is no such checkpoint.
    """
    take_handed(path, algorithm=algorithm, model=model)
    folder = RunFolder.open(path)
    settings = _settings_of(folder)
    stages = algorithm_of(settings).stages_with("oracle")
    if not stages:
        raise ValueError(f"{path} is a run of {settings.algorithm}, which learns no oracle; vaml does")
    if settings.oracle.kind != "learnt":
        raise ValueError(f"{path} learnt no oracle: its oracle.kind is {settings.oracle.kind}")
    codec = load_codec(folder.path, "target")
    reader = build_reader(settings, "oracle", target_size=len(codec), special=codec.special)
    _load_weights(folder, _find_weights(folder, stages, checkpoint), {"oracle": reader})
    return TrainedOracle(reader.to(choose_device(device)).eval(), codec, settings, settings.oracle.tau)


@dataclass(frozen=True)
class TrainedCritic:
    """The values an actor followed: `model(reference with EOS [B, L], prefix from BOS on [B, T])` gives Q, `[B, T, V]`.

    Attributes:
        tau: temperature of the actor's objective, Eq. (20).
        averaged: whether it is the target critic, which `joint.follow: target` has the actor follow.
    """

    model: nn.Module
    target_codec: Codec
    settings: Settings
    tau: float
    averaged: bool


def load_critic(
    path: Path,
    checkpoint: str = "best",
    *,
    device: str = "cpu",
    algorithm: Algorithm | None = None,
    model: ModelFunction | None = None,
) -> TrainedCritic:
    """Load a run's critic.

    Args:
        path: folder of a run that trained one (AC, ERAC).
        checkpoint: `best` or `last` of the last stage that trained the critic, or critic-last, joint-last, ...; the best of the
            critic's own stage where another stage is named.
        device: where the weights go.
        algorithm, model: as of `load_run`.

    Raises:
        ValueError: the run's algorithm learns no critic, or there is no such checkpoint.
    """
    take_handed(path, algorithm=algorithm, model=model)
    folder = RunFolder.open(path)
    settings = _settings_of(folder)
    stages = algorithm_of(settings).stages_with("values")
    if not stages:
        raise ValueError(f"{path} is a run of {settings.algorithm}, which learns no critic; ac and erac do")
    if checkpoint not in ("best", "last") and not checkpoint.startswith(tuple(stages)):
        checkpoint = f"{stages[0]}-best"
    codec = load_codec(folder.path, "target")
    reader = build_reader(settings, "critic", target_size=len(codec), special=codec.special)
    averaged = settings.joint.follow == "target"
    _load_weights(
        folder, _find_weights(folder, stages, checkpoint), {"target" if averaged else "critic": reader}
    )
    placed = reader.to(choose_device(device)).eval()
    return TrainedCritic(placed, codec, settings, settings.credit.tau, averaged)


def _settings_of(folder: RunFolder) -> Settings:
    """The settings of a run; DamagedFile where a user's model or algorithm is not the one that it was trained with.

    A model of transformers is built from the run folder alone.
    """
    settings = follow_data(config.load(Settings, folder.config_path))
    check_own_algorithm(settings, folder.path)
    if settings.model.kind == "hf":
        return of_folder(settings, folder.path)
    check_own_model(settings, folder.path)
    return settings


def _load_weights(folder: RunFolder, path: Path, modules: dict[str, nn.Module]) -> None:
    """Load a file of weights.

    Raises:
        DamagedFile: it is not the one that the stage selected or its checkpoint holds.
        ValueError: it comes from elsewhere, and other vocabularies.
    """
    if path.parent.resolve() != folder.checkpoints.resolve():
        check_vocabularies(path, read_weights(path)[1], folder.path)
    load_modules(path, modules, folder.expected_weights(path))


def _find_weights(folder: RunFolder, stages: list[str], checkpoint: str) -> Path:
    """The file of `best` or `last` of the last stage that has one, or of STAGE-best, STAGE-last, STAGE; or a file as it is."""
    if checkpoint.endswith(_WEIGHTS):
        return Path(checkpoint)
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
