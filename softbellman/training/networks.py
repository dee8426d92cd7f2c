"""The networks of a run, made from its settings."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from softbellman.core.objects import is_object_name
from softbellman.data import RESERVED, SpecialTokens
from softbellman.models import (
    AttentionSeq2Seq,
    Captioner,
    PixelCaptioner,
    TransformerCaptioner,
    TransformerPixelCaptioner,
    TransformerSeq2Seq,
)
from softbellman.training.own_model import build_own
from softbellman.training.pretrained import build_pretrained_actor, build_pretrained_reader
from softbellman.training.settings import Settings


def build_actor(
    settings: Settings,
    *,
    source_size: int,
    target_size: int,
    positions: int | None = None,
    special: SpecialTokens = RESERVED,
) -> nn.Module:
    """A new actor: reads the source, or an image's features or pixels.

    Args:
        settings: of the run.
        source_size: size of the source vocabulary, width of the features, or side of the images.
        target_size: V.
        positions: of images, the grid positions; 0: one vector an image. Not looked at where None.
        special: the reserved ids of source and target.

    Raises:
        ValueError: the attention does not fit the source; a model of the user's that cannot be built.
    """
    own = settings.actor
    if is_object_name(settings.model.kind):
        return build_own(settings, "actor", source_size=source_size, target_size=target_size, special=special)
    if settings.model.kind == "hf":
        return build_pretrained_actor(settings, target_size=target_size)
    if settings.data.kind == "captions":
        return _captioner(settings, source_size, target_size, positions)
    if settings.data.kind == "scenes":
        return _pixel_captioner(settings, source_size, target_size)
    if settings.model.kind == "transformer":
        return TransformerSeq2Seq(
            source_size,
            target_size,
            embedding_dropout=own.embedding_dropout,
            tied_output=settings.model.tied_output,
            pad=special.pad,
            **_transformer(settings, dropout=own.dropout),
        )
    return _network(
        settings,
        source_size,
        target_size,
        special,
        attention=own.attention,
        dropout=own.dropout,
        embedding_dropout=own.embedding_dropout,
    )


def build_reader(
    settings: Settings,
    section: Literal["critic", "oracle"],
    *,
    target_size: int,
    special: SpecialTokens = RESERVED,
) -> nn.Module:
    """A new network that reads the reference: the critic of AC and ERAC, or the oracle of VAML."""
    own = settings.critic if section == "critic" else settings.oracle
    if is_object_name(settings.model.kind):
        return build_own(settings, section, source_size=target_size, target_size=target_size, special=special)
    if settings.model.kind == "hf":
        return build_pretrained_reader(settings, section, target_size=target_size)
    if settings.model.kind == "transformer":
        return TransformerSeq2Seq(
            target_size,
            target_size,
            tied_embeddings=settings.model.tied_reader,
            pad=special.pad,
            **_transformer(settings, dropout=own.dropout),
        )
    return _network(settings, target_size, target_size, special, attention=own.attention, dropout=own.dropout)


def _captioner(
    settings: Settings, feature_size: int, target_size: int, positions: int | None
) -> Captioner | TransformerCaptioner:
    own = settings.actor
    if settings.model.kind == "transformer":
        return TransformerCaptioner(feature_size, target_size, **_transformer_captioner(settings))
    if positions == 0 and own.attention != "none":
        raise ValueError(
            f"actor.attention is {own.attention}, but the features are one vector an image: there is nothing to attend to; "
            "say actor.attention: none, or give features of a grid, [N, G, F]"
        )
    return Captioner(feature_size, target_size, **_captioner_options(settings))


def _pixel_captioner(
    settings: Settings, side: int, target_size: int
) -> PixelCaptioner | TransformerPixelCaptioner:
    model = settings.model
    actor: PixelCaptioner | TransformerPixelCaptioner
    if model.kind == "transformer":
        actor = TransformerPixelCaptioner(
            side, target_size, feature_size=model.image_width, **_transformer_captioner(settings)
        )
    else:
        actor = PixelCaptioner(
            side, target_size, feature_size=model.image_width, **_captioner_options(settings)
        )
    if model.image_encoder == "random":
        actor.freeze_encoder()
    return actor


def _captioner_options(settings: Settings) -> dict[str, Any]:
    own = settings.actor
    return {
        **_lstm(settings),
        "attention": own.attention,
        "input_feeding": settings.model.input_feeding and own.attention != "none",
        "dropout": own.dropout,
        "embedding_dropout": own.embedding_dropout,
        "pad": RESERVED.pad,
    }


def _network(
    settings: Settings, source_size: int, target_size: int, special: SpecialTokens, **own: Any
) -> AttentionSeq2Seq:
    return AttentionSeq2Seq(source_size, target_size, pad=special.pad, **_lstm(settings), **own)


def _lstm(settings: Settings) -> dict[str, Any]:
    """What the LSTMs of a run have in common."""
    names = ("embedding", "hidden", "attention_size", "layers", "input_feeding", "init_range")
    return {name: getattr(settings.model, name) for name in names}


def _transformer(settings: Settings, *, dropout: float) -> dict[str, Any]:
    """What the Transformers of a run have in common."""
    model = settings.model
    return {
        "width": model.hidden,
        "layers": model.layers,
        "heads": model.heads,
        "feedforward": model.feedforward,
        "attention_dropout": model.attention_dropout,
        "dropout": dropout,
    }


def _transformer_captioner(settings: Settings) -> dict[str, Any]:
    own = settings.actor
    return {
        "embedding_dropout": own.embedding_dropout,
        "tied_output": settings.model.tied_output,
        **_transformer(settings, dropout=own.dropout),
    }


def trainable(module: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
