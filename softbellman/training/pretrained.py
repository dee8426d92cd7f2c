"""Networks of a run that start as a model of Hugging Face transformers: `model.kind: hf`. They need the extra `[hf]`."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from softbellman.config import ConfigError
from softbellman.core.files import digest
from softbellman.core.objects import UserObject
from softbellman.data.huggingface import HuggingFaceTokenizer, import_transformers, read_config
from softbellman.training.settings import Settings

if TYPE_CHECKING:
    from softbellman.models.huggingface import PretrainedReader, PretrainedSeq2Seq
    from softbellman.training.trained import TrainedActor

FOLDER = "pretrained"
"""Where a run folder keeps the configuration and the tokeniser of its model."""

_DROPOUTS = ("dropout", "dropout_rate", "hidden_dropout_prob")
"""What configurations call the dropout on what each part of a layer adds."""

_WEIGHTS = ("*.safetensors", "*.bin", "*.json")


def build_pretrained_actor(settings: Settings, *, target_size: int) -> PretrainedSeq2Seq:
    """The model of `model.path`, as `LinearPretrained` where its logits are linear in its features.

    Raises:
        ConfigError: no such model, or one that does not fit the data and their lengths; says why.
        ImportError: transformers is not installed; names the extra.
    """
    from softbellman.models.huggingface import LinearPretrained, PretrainedSeq2Seq, find_scale

    model, tokenizer = _read(settings, "actor", target_size)
    special = tokenizer.vocabulary.special
    scale = find_scale(model, token=special.eos)
    if scale is None:
        return PretrainedSeq2Seq(model, pad=special.pad, lead=tokenizer.lead)
    return LinearPretrained(model, pad=special.pad, lead=tokenizer.lead, scale=scale)


def build_pretrained_reader(
    settings: Settings, role: Literal["critic", "oracle"], *, target_size: int
) -> PretrainedReader:
    """Encoder and decoder of the model of `model.path` under a new output layer, reading the reference.

    Raises:
        ConfigError: as `build_pretrained_actor`; or the model's decoder cannot be asked without its output layer.
    """
    from softbellman.models.huggingface import PretrainedReader, find_scale

    model, tokenizer = _read(settings, role, target_size)
    special = tokenizer.vocabulary.special
    if find_scale(model, token=special.eos) is None:
        raise ConfigError(
            f"model.path holds a {type(model).__name__}, whose logits are not linear in what its decoder says: it can be an "
            f"actor, but no {role}"
        )
    return PretrainedReader(model, target_size=target_size, pad=special.pad, lead=tokenizer.lead)


def settle_pretrained(settings: Settings) -> Settings:
    """The settings with whole paths; the tokeniser is that of the model where none is named."""
    model, data = settings.model, settings.data
    if model.kind == "hf":
        model = replace(model, path=_absolute(model.path))
    if data.tokenizer == "hf":
        data = replace(data, tokenizer_path=_absolute(data.tokenizer_path or model.path))
    return replace(settings, model=model, data=data)


def pretrained_object(settings: Settings) -> UserObject | None:
    """The files of a run's model by a digest, for its record and its cache keys; None of other models."""
    if settings.model.kind != "hf":
        return None
    folder = Path(settings.model.path)
    files = sorted({file for pattern in _WEIGHTS for file in folder.glob(pattern)})
    found = digest("\n".join(f"{file.name} {_digest_of(file)}" for file in files).encode())
    return UserObject("model.path", None, str(folder), found)


def keep_pretrained(settings: Settings, folder: Path) -> None:
    """Write what a run folder needs to build its model anew: configuration and tokeniser, no weights."""
    if settings.model.kind != "hf":
        return
    place = folder / FOLDER
    HuggingFaceTokenizer.load(settings.model.path, side="target").save(place)


def of_folder(settings: Settings, folder: Path) -> Settings:
    """Settings that build the model from a run folder alone, its weights to be loaded."""
    if settings.model.kind != "hf":
        return settings
    return replace(settings, model=replace(settings.model, path=str(folder / FOLDER), weights="random"))


def export_pretrained(actor: TrainedActor, folder: str | Path) -> None:
    """Write an actor and its tokeniser as `from_pretrained` of transformers reads them.

    Dropout is that of the model that it started from.

    Args:
        actor: of `load_run`, of a run whose `model.kind` is hf.
        folder: is made where it is not there.

    Raises:
        ValueError: another kind of model.
    """
    from softbellman.models.huggingface import PretrainedSeq2Seq

    network = actor.model
    if not isinstance(network, PretrainedSeq2Seq):
        raise ValueError(
            f"a model of kind {actor.settings.model.kind} has no form that transformers reads; export is for model.kind hf"
        )
    original = read_config(actor.settings.model.path)
    for here, there in zip(_parts(network.model.config), _parts(original), strict=True):
        for name in _DROPOUTS:
            if hasattr(there, name):
                setattr(here, name, getattr(there, name))
    network.model.save_pretrained(str(folder))
    HuggingFaceTokenizer.load(actor.settings.model.path, side="target").tokenizer.save_pretrained(str(folder))


def _read(settings: Settings, role: str, target_size: int) -> tuple[Any, HuggingFaceTokenizer]:
    """The model of a role, in float32, and the tokeniser that belongs to it."""
    transformers, path = import_transformers(), settings.model.path
    config = read_config(path)
    if config is None:
        raise ConfigError(
            f"model.path must be a folder that save_pretrained wrote, got {path!r} without config.json"
        )
    dropout = getattr(settings, role).dropout
    for part in _parts(config):
        for name in _DROPOUTS:
            if hasattr(part, name):
                setattr(part, name, dropout)
    tokenizer = HuggingFaceTokenizer.load(path, side="target")
    if len(tokenizer.vocabulary) != target_size:
        raise ConfigError(
            f"model.path has a vocabulary of {len(tokenizer.vocabulary)} ids, but the data have {target_size}: "
            "data.tokenizer must be hf, and data.tokenizer_path that of the model"
        )
    _check_lengths(settings, config, len(tokenizer.lead))
    kind = transformers.AutoModelForSeq2SeqLM
    try:
        if settings.model.weights == "random":
            model = kind.from_config(config, dtype=torch.float32)
        else:
            model = kind.from_pretrained(path, config=config, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"model.path {path} holds no sequence-to-sequence model ({reason})") from error
    rows = model.get_output_embeddings().weight.shape[0]
    if rows != target_size:
        raise ConfigError(
            f"model.path has an output layer of {rows} rows, but a vocabulary of {target_size} ids"
        )
    return model.train(), tokenizer


def _check_lengths(settings: Settings, config: Any, lead: int) -> None:
    """Raises ConfigError where sequences could be longer than the positions that a model has."""
    known = getattr(config, "max_position_embeddings", None)
    if known is None:
        return
    asked = {
        "data.max_length": settings.data.max_length + lead + 2,  # a start, an end
        "evaluation.max_length": settings.evaluation.max_length + lead,
    }
    for name, length in asked.items():
        if length > known:
            raise ConfigError(
                f"{name} needs {length} positions, but the model of model.path has {known}; lower {name}"
            )


def _parts(config: Any) -> list[Any]:
    """A configuration and those of encoder and decoder, where it has them."""
    own = [getattr(config, name, None) for name in ("encoder", "decoder")]
    return [config, *(part for part in own if part is not None)]


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().resolve()) if path else ""


def _digest_of(file: Path) -> str:
    found = hashlib.sha256()
    with file.open("rb") as stream:
        while part := stream.read(1 << 20):
            found.update(part)
    return found.hexdigest()
