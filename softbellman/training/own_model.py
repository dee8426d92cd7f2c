"""Models of the user's own: `model.kind: FILE.py:NAME` or `MODULE:NAME` names the function that builds them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from softbellman.config import ConfigError
from softbellman.core.objects import (
    UserCodeError,
    UserObject,
    absolute_name,
    facts_of,
    is_object_name,
    load_object,
    what_changed,
)
from softbellman.data import BOS, EOS, PAD, RESERVED, SpecialTokens
from softbellman.training.files import DamagedFile
from softbellman.training.pretrained import pretrained_object, settle_pretrained
from softbellman.training.record import RunRecord
from softbellman.training.rollout import LinearHead
from softbellman.training.settings import Settings


@dataclass(frozen=True)
class ModelRequest:
    """What the function of `model.kind` is called with; it returns a module.

    Attributes:
        role: `actor` reads the source; `critic` and `oracle` read the reference with EOS, and their logits are action values.
        source_size: size of the vocabulary that is read; of images the width of the features, or the side of the pictures.
        target_size: V.
        options: `model.options`.
        sizes: the other keys of `model`, `hidden` and `layers` among them, whatever of them the model heeds.
        dropout: of the role's section.
        pad, bos, eos: ids of these tokens.
    """

    role: Literal["actor", "critic", "oracle"]
    source_size: int
    target_size: int
    options: dict[str, Any]
    sizes: dict[str, Any]
    dropout: float
    pad: int = PAD
    bos: int = BOS
    eos: int = EOS


def build_own(
    settings: Settings,
    role: Literal["actor", "critic", "oracle"],
    *,
    source_size: int,
    target_size: int,
    special: SpecialTokens = RESERVED,
) -> nn.Module:
    """The module that the function named by `model.kind` returns.

    Raises:
        ValueError: there is no such function, or it returned something else.
        UserCodeError: it failed, or its file did.
    """
    sizes = asdict(settings.model)
    kind, options = sizes.pop("kind"), sizes.pop("options")
    found = model_object(settings)
    if found is None or not callable(found.value):
        raise ConfigError(f"model.kind must name a function that returns a module, got {kind}")
    request = ModelRequest(
        role,
        source_size,
        target_size,
        options,
        sizes,
        dropout=getattr(settings, role).dropout,
        pad=special.pad,
        bos=special.bos,
        eos=special.eos,
    )
    try:
        model = found.value(request)
    except Exception as error:
        text = " ".join(str(error).split())
        raise UserCodeError(
            f"model.kind {kind} failed to build the {role}: {type(error).__name__}: {text}"
        ) from error
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"model.kind {kind} must return a torch.nn.Module, got {type(model).__name__} for the {role}"
        )
    return model


def settle_model(settings: Settings) -> Settings:
    """The settings with the whole path of the model's file or folder, so that a run finds it from any folder."""
    settings = settle_pretrained(settings)
    kind = settings.model.kind
    if not is_object_name(kind):
        return settings
    return replace(settings, model=replace(settings.model, kind=absolute_name(kind)))


def model_object(settings: Settings) -> UserObject | None:
    """What makes the model of a run, for its record and its cache keys; None of a model of the package."""
    kind = settings.model.kind
    if kind == "hf":
        return pretrained_object(settings)
    return load_object(kind, key="model.kind", as_class=True) if is_object_name(kind) else None


def check_own_model(settings: Settings, folder: Path) -> None:
    """Raises DamagedFile where the model's source is not the one that the run of a folder was trained with."""
    found = model_object(settings)
    if found is None:
        return
    recorded = facts_of(RunRecord.read(folder).objects, found.name)
    change = "is not in its record" if recorded is None else what_changed(recorded, found)
    if change is not None:
        raise DamagedFile(
            f"the model {found.name} {change}: the run {folder} was trained with another one; restore it"
        )


def output_parameters(reader: nn.Module) -> tuple[nn.Parameter, ...]:
    """Weight and bias of a reader's output layer, which the end of the warm-up scales.

    Raises:
        ValueError: the model does not have them.
    """
    parts = reader.projection() if isinstance(reader, LinearHead) else ()
    found = tuple(part for part in parts if isinstance(part, nn.Parameter))
    if not found or len(found) < len(parts):
        raise ValueError(
            "warmup.schedule.epochs is above 0, but the model has no projection() that returns the parameters of its output "
            "layer, which the end of the warm-up scales; say warmup.schedule.epochs: 0"
        )
    return found
