"""The networks of a run, made from its settings."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from softbellman.data import PAD
from softbellman.models import AttentionSeq2Seq, Captioner, PixelCaptioner
from softbellman.training.settings import Settings


def build_actor(
    settings: Settings, *, source_size: int, target_size: int, positions: int | None = None
) -> AttentionSeq2Seq | Captioner:
    """A new actor: reads the source, or an image's features or pixels.

    Args:
        settings: of the run.
        source_size: size of the source vocabulary, width of the features, or side of the images.
        target_size: V.
        positions: of images, the grid positions; 0: one vector an image. Not looked at where None.

    Raises:
        ValueError: the attention does not fit the source.
    """
    own = settings.actor
    if settings.data.kind == "captions":
        return _captioner(settings, source_size, target_size, positions)
    if settings.data.kind == "scenes":
        return _pixel_captioner(settings, source_size, target_size)
    return _network(
        settings,
        source_size,
        target_size,
        attention=own.attention,
        dropout=own.dropout,
        embedding_dropout=own.embedding_dropout,
    )


def build_reader(
    settings: Settings, section: Literal["critic", "oracle"], *, target_size: int
) -> AttentionSeq2Seq:
    """A new network that reads the reference: the critic of AC and ERAC, or the oracle of VAML."""
    own = settings.critic if section == "critic" else settings.oracle
    return _network(settings, target_size, target_size, attention=own.attention, dropout=own.dropout)


def _captioner(settings: Settings, feature_size: int, target_size: int, positions: int | None) -> Captioner:
    own = settings.actor
    if positions == 0 and own.attention != "none":
        raise ValueError(
            f"actor.attention is {own.attention}, but the features are one vector an image: there is nothing to attend to; "
            "say actor.attention: none, or give features of a grid, [N, G, F]"
        )
    return Captioner(feature_size, target_size, **_captioner_options(settings))


def _pixel_captioner(settings: Settings, side: int, target_size: int) -> PixelCaptioner:
    actor = PixelCaptioner(
        side, target_size, feature_size=settings.model.image_width, **_captioner_options(settings)
    )
    if settings.model.image_encoder == "random":
        actor.freeze_encoder()
    return actor


def _captioner_options(settings: Settings) -> dict[str, Any]:
    model, own = settings.model, settings.actor
    return {
        "embedding": model.embedding,
        "hidden": model.hidden,
        "attention_size": model.attention_size,
        "layers": model.layers,
        "attention": own.attention,
        "input_feeding": model.input_feeding and own.attention != "none",
        "dropout": own.dropout,
        "embedding_dropout": own.embedding_dropout,
        "pad": PAD,
        "init_range": model.init_range,
    }


def _network(settings: Settings, source_size: int, target_size: int, **own: Any) -> AttentionSeq2Seq:
    model = settings.model
    return AttentionSeq2Seq(
        source_size,
        target_size,
        embedding=model.embedding,
        hidden=model.hidden,
        attention_size=model.attention_size,
        layers=model.layers,
        input_feeding=model.input_feeding,
        pad=PAD,
        init_range=model.init_range,
        **own,
    )


def trainable(module: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
