"""Transformer that tells what an image's features or pixels show.

Notation: B images, K rows per image, N = B*K rows, G grid positions, F feature width, P pixels a side, T target positions,
V target vocabulary, D width, L layers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from softbellman.models.pixels import PixelEncoder
from softbellman.models.transformer import TransformerDecoder, check_transformer
from softbellman.models.transformer_layers import dense
from softbellman.models.transformer_state import TransformerMemory


class TransformerCaptioner(TransformerDecoder):
    """The decoder of a Transformer on an image's features.

    A linear map and a norm make the memory: of a grid [B, G, F] its G positions, of one vector [B, F] a single one. Features
    tell where they are themselves, or not at all: no positions are added and no layers lie between features and decoder.

    Args:
        feature_size: F.
        target_size: V.
        width, layers, heads, feedforward: D, L, and the other sizes of `TransformerSeq2Seq`.
        dropout: on what each part of a layer adds, and within the feed-forward layers.
        embedding_dropout: on the embeddings with their positions, and on the image's features.
        attention_dropout: on the attention weights.
        tied_output: the output layer multiplies by the target embeddings.

    Raises:
        ValueError: as `TransformerSeq2Seq`.

    Example:
        >>> model = TransformerCaptioner(2048, 1000, width=16, layers=1, heads=2, feedforward=32)
        >>> model(torch.rand(2, 2048), torch.full((6, 4), 2)).shape  # K = 3 rows an image
        torch.Size([6, 4, 1000])
    """

    def __init__(
        self,
        feature_size: int,
        target_size: int,
        *,
        width: int = 256,
        layers: int = 3,
        heads: int = 4,
        feedforward: int = 1024,
        dropout: float = 0.1,
        embedding_dropout: float = 0.0,
        attention_dropout: float = 0.0,
        tied_output: bool = False,
    ) -> None:
        super().__init__()
        decoder = check_transformer(
            {"feature_size": feature_size, "target_size": target_size},
            width=width,
            layers=layers,
            heads=heads,
            feedforward=feedforward,
            dropout=dropout,
            embedding_dropout=embedding_dropout,
            attention_dropout=attention_dropout,
        )
        self.feature_size = feature_size
        self.target_embedding = nn.Embedding(target_size, width)
        self.features_map, self.features_norm = nn.Linear(feature_size, width), nn.LayerNorm(width)
        self._add_decoder(**decoder, tied_output=tied_output)

    @property
    def encodes_alike(self) -> bool:
        """Whether no dropout lies on the features."""
        return not self.embedding_dropout.p

    def encode(self, source: Tensor) -> TransformerMemory:
        """The memory of features [B, F] or [B, G, F].

        Raises:
            ValueError: another rank or width, or features that are not floating point.
        """
        if source.dim() not in (2, 3):
            raise ValueError(f"source must be [B, F] or [B, G, F], got shape {tuple(source.shape)}")
        if source.shape[-1] != self.feature_size:
            raise ValueError(
                f"source has features of width {source.shape[-1]}, the model reads {self.feature_size}"
            )
        if not source.is_floating_point():
            raise ValueError(f"source must hold floating point features, got {source.dtype}")
        grid = source if source.dim() == 3 else source.unsqueeze(1)  # (B, F) -> (B, 1, F)
        features = self.embedding_dropout(grid.to(self.features_map.weight.dtype))
        states = self.features_norm(dense(self.features_map, features))
        return TransformerMemory(states, states.new_ones(states.shape[:2], dtype=torch.bool))


class TransformerPixelCaptioner(TransformerCaptioner):
    """A `TransformerCaptioner` of the features of a `PixelEncoder`: reads uint8 images [B, 3, P, P], learns both together.

    Args:
        side: P.
        target_size: V.
        feature_size: F.
        options: those of `TransformerCaptioner`.
    """

    def __init__(self, side: int, target_size: int, *, feature_size: int = 64, **options: Any) -> None:
        super().__init__(feature_size, target_size, **options)
        self.image_encoder = PixelEncoder(side, width=feature_size)

    def encode(self, source: Tensor) -> TransformerMemory:
        """The memory of images [B, 3, P, P]."""
        return super().encode(self.image_encoder(source))

    def freeze_encoder(self) -> None:
        """From here on the image encoder stays as it is; only the decoder (and the map into it) is trained."""
        self.image_encoder.requires_grad_(False)
