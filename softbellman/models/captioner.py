"""Captioner: an LSTM that tells what an image's features show, with attention over a grid or without any.

Notation: B images, K rows per image, N = B*K rows, G grid positions, F feature width, T target positions, V target
vocabulary, E embedding size, H hidden size, A attention size, L layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from softbellman.models.decoder import AttentionDecoder, check_sizes
from softbellman.models.records import Memory


class Captioner(AttentionDecoder):
    """NIC ("Show and Tell", 2015) and its attention variant; the interface of `AttentionSeq2Seq`.

    A linear map of the image's feature vector (of a grid: of the mean of its vectors) gives the decoder's first
    states, h and c of every layer. Without attention the image is seen there and nowhere else, and the decoder
    state s itself goes through dropout to the logits. With "dot" or "mlp" attention a second linear map makes the
    values [B, G, H] of the grid [B, G, F], and the output is `tanh(W [context; s])`.

    Args:
        feature_size: F.
        target_size: V.
        embedding: E.
        hidden: H.
        attention_size: A, used by the "mlp" attention alone.
        layers: L.
        attention: "none", "dot" or "mlp".
        input_feeding: the attention output of step t-1 joins the input of step t; wants attention.
        dropout: on the output and between layers.
        embedding_dropout: on the word embeddings and on the image's features.
        pad: id of padding; its embedding is zero and stays so.
        init_range: every parameter starts uniform in [-init_range, init_range].

    Raises:
        ValueError: for sizes below 1, an unknown `attention`, a dropout outside [0, 1), input feeding without attention.

    Example:
        >>> model = Captioner(2048, 1000, embedding=16, hidden=16)
        >>> model(torch.rand(2, 2048), torch.full((6, 4), 2)).shape  # K = 3 rows an image
        torch.Size([6, 4, 1000])
    """

    def __init__(
        self,
        feature_size: int,
        target_size: int,
        *,
        embedding: int = 256,
        hidden: int = 256,
        attention_size: int = 256,
        layers: int = 1,
        attention: str = "none",
        input_feeding: bool = False,
        dropout: float = 0.3,
        embedding_dropout: float = 0.0,
        pad: int = 0,
        init_range: float = 0.1,
    ) -> None:
        super().__init__()
        sizes = {
            "feature_size": feature_size,
            "target_size": target_size,
            "embedding": embedding,
            "hidden": hidden,
            "attention_size": attention_size,
            "layers": layers,
        }
        check_sizes(sizes, {"dropout": dropout, "embedding_dropout": embedding_dropout})
        if attention not in ("none", "dot", "mlp"):
            raise ValueError(f'attention must be "none", "dot" or "mlp", got {attention!r}')
        if input_feeding and attention == "none":
            raise ValueError("input_feeding feeds the attention output, and attention is 'none'")
        self.pad = pad
        self.feature_size = feature_size
        self.target_embedding = nn.Embedding(target_size, embedding, padding_idx=pad)
        self.embedding_dropout = nn.Dropout(embedding_dropout) if embedding_dropout else nn.Identity()
        self.start = nn.Linear(feature_size, 2 * layers * hidden)
        self.values = None if attention == "none" else nn.Linear(feature_size, hidden)
        self._add_decoder(
            embedding=embedding,
            hidden=hidden,
            attention_size=attention_size,
            layers=layers,
            attention=attention,
            input_feeding=input_feeding,
            dropout=dropout,
        )
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-init_range, init_range)
            self.target_embedding.weight[pad].zero_()

    def encode(self, source: Tensor) -> Memory:
        """The memory and the first states of features [B, F], or [B, G, F] (with attention always [B, G, F]).

        Raises:
            ValueError: another rank or width, or features that are not floating point.
        """
        wanted = "[B, F] or [B, G, F]" if self.values is None else "[B, G, F], attention needs a grid"
        if source.dim() not in ((2, 3) if self.values is None else (3,)):
            raise ValueError(f"source must be {wanted}, got shape {tuple(source.shape)}")
        if source.shape[-1] != self.feature_size:
            raise ValueError(
                f"source has features of width {source.shape[-1]}, the model reads {self.feature_size}"
            )
        if not source.is_floating_point():
            raise ValueError(f"source must hold floating point features, got {source.dtype}")
        features = self.embedding_dropout(source.to(self.start.weight.dtype))
        pooled = features.mean(dim=1) if features.dim() == 3 else features
        first = self.start(pooled).view(
            len(source), 2, self.decoder.num_layers, -1
        )  # (B, 2LH) -> (B, 2, L, H)
        if self.values is None or self.attention is None:
            nothing = first.new_empty(len(source), 0, first.shape[3])
            return Memory(nothing, nothing, nothing[:, :, 0], first[:, 0], first[:, 1])
        values = self.values(features)
        bias = values.new_zeros(values.shape[:2])
        return Memory(self.attention.keys(values), values, bias, first[:, 0], first[:, 1])
