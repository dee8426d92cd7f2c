"""Transformer encoder-decoder: actor (reads the source) or critic and oracle (read the reference).

Notation: B sources, K rows per source, N = B*K rows, S source positions, T target positions, P computed positions, V target
vocabulary, D width, L layers, h heads, d = D / h. Tokens are int64, batch first, padding only behind the last token.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, cast

import torch
from torch import Tensor, nn

from softbellman.models.decoder import check_sizes
from softbellman.models.projection import project
from softbellman.models.segments import needed_lengths
from softbellman.models.transformer_layers import DecoderLayer, EncoderLayer, Layout, Positions, initialise
from softbellman.models.transformer_state import SourceKeys, TransformerMemory, TransformerState


class TransformerDecoder(nn.Module, ABC):
    """What a Transformer does once its source is encoded; the interface of `AttentionDecoder`.

    A token's embedding times sqrt(D), plus the vector of its position, goes after dropout through L layers and a last norm to
    the output layer. A step of decoding reads one token and the keys and values of the steps before.

    A subclass makes `target_embedding`, calls `_add_decoder`, and says how a source is encoded.
    """

    target_embedding: nn.Embedding

    @abstractmethod
    def encode(self, source: Tensor) -> TransformerMemory:
        """Encode B sources once, for any number of rows and steps."""

    @property
    @abstractmethod
    def encodes_alike(self) -> bool:
        """Whether `encode` gives the same in training and in evaluation, so that one encoding serves both."""

    def _add_decoder(
        self,
        *,
        width: int,
        layers: int,
        heads: int,
        feedforward: int,
        dropout: float,
        embedding_dropout: float,
        attention_dropout: float,
        tied_output: bool,
    ) -> None:
        """Make positions, layers and the output layer, and set how all weights so far start."""
        self.width = width
        self.positions = Positions(width)
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        self.decoder = nn.ModuleList(
            DecoderLayer(width, heads, feedforward, dropout=dropout, attention_dropout=attention_dropout)
            for _ in range(layers)
        )
        self.decoder_norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, self.target_embedding.num_embeddings)
        initialise(self, width)
        if tied_output:
            self.output.weight = self.target_embedding.weight

    def forward(self, source: Tensor, prefix: Tensor) -> Tensor:
        """Logits of the token after each position of the prefix.

        Args:
            source: B sources, as `encode` reads them.
            prefix: [N, T], begins with the start token; N = B*K, the rows b*K .. b*K+K-1 belong to source b.

        Returns:
            [N, T, V]; entry t depends on prefix[:, :t+1] alone.

        Raises:
            ValueError: for a wrong rank, or N no multiple of B.
        """
        return self.project(self.features(source, prefix))

    def features(
        self, source: Tensor | None, prefix: Tensor, *, memory: TransformerMemory | None = None
    ) -> Tensor:
        """What `project` turns into logits: [N, T, D]. With `memory` the source is not encoded again and may be None."""
        memory = self._check(source, prefix, memory)
        layout = Layout(*prefix.shape)
        states: Tensor = self.decoder_norm(self._decode(prefix, layout, memory))
        return states.view(*prefix.shape, -1)  # (N*T, D) -> (N, T, D)

    def features_at(
        self,
        source: Tensor | None,
        prefix: Tensor,
        rows: Tensor,
        *,
        memory: TransformerMemory | None = None,
    ) -> Tensor:
        """`features` at some positions: [M, D] for the flat indices `rows` [M] into [N, T], in any order.

        On the CPU the positions of a row behind the last one asked for are not computed.
        """
        if prefix.device.type != "cpu" or not len(rows):
            return self.features(source, prefix, memory=memory).flatten(0, 1).index_select(0, rows)
        memory = self._check(source, prefix, memory)
        steps = prefix.shape[1]
        lengths = needed_lengths(rows, len(prefix), steps)
        layout = Layout.of_mask(torch.arange(steps) < lengths[:, None])
        before = lengths.cumsum(0) - lengths  # computed positions of the rows above
        place = before[torch.div(rows, steps, rounding_mode="floor")] + rows % steps
        found: Tensor = self.decoder_norm(self._decode(prefix, layout, memory).index_select(0, place))
        return found

    def project(self, features: Tensor) -> Tensor:
        """The output layer: [..., D] -> logits [..., V]."""
        return project(features, self.output.weight, self.output.bias)

    def projection(self) -> tuple[Tensor, Tensor]:
        """Weight [V, D] and bias [V] of `project`, for losses that do without the logits."""
        return self.output.weight, self.output.bias

    def attention_weights(self, source: Tensor, prefix: Tensor) -> Tensor:
        """How much the last layer attends to each position of the source before each token: [N, T, S], rows add up to 1.

        It is the mean over the heads.

        Args:
            source, prefix: as in `forward`.
        """
        attention = cast(DecoderLayer, self.decoder[-1]).memory
        found: list[Tensor] = []

        def note(module: nn.Module, given: tuple[Any, ...], options: dict[str, Any], read: Tensor) -> None:
            queries, (keys, _) = given
            found.append(attention.weights(queries, keys, options["mask"]))

        handle = attention.register_forward_hook(note, with_kwargs=True)
        try:
            self.features(source, prefix)
        finally:
            handle.remove()
        return found[0].view(*prefix.shape, -1)  # (B, K*T, S) -> (N, T, S)

    def begin(self, source: Tensor | None, *, memory: TransformerMemory | None = None) -> TransformerState:
        """The state before the start token, one row per source; `.repeat(K)` makes it K rows."""
        if memory is None:
            if source is None:
                raise ValueError("begin needs source or memory, got neither")
            memory = self.encode(source)
        keys = self._source_keys(memory)
        nothing = keys.layers[0][0][:, :, :0]  # (B, h, S, d) -> (B, h, 0, d)
        return TransformerState(keys, tuple((nothing, nothing) for _ in self.decoder))

    def step(self, tokens: Tensor, state: TransformerState) -> tuple[Tensor, TransformerState]:
        """Read one token per row, tokens [N] -> logits [N, V] and the next state."""
        layout = Layout(len(tokens), 1)
        states = self._embed(self.target_embedding, tokens, self.positions(state.steps, 1))
        past = []
        for layer, memory, before in zip(self.decoder, state.memory.layers, state.past, strict=True):
            states, seen = layer(states, layout, memory, state.memory.mask, before)
            past.append(seen)
        return self.project(self.decoder_norm(states)), TransformerState(state.memory, tuple(past))

    def _decode(self, prefix: Tensor, layout: Layout, memory: TransformerMemory) -> Tensor:
        """States [P, D] of whole prefixes [N, T] before the last norm."""
        keys = self._source_keys(memory)
        states = self._embed_all(self.target_embedding, prefix, layout)
        for layer, remembered in zip(self.decoder, keys.layers, strict=True):
            states, _ = layer(states, layout, remembered, keys.mask)
        return states

    def _source_keys(self, memory: TransformerMemory) -> SourceKeys:
        attentions = [cast(DecoderLayer, layer).memory for layer in self.decoder]
        remembered = tuple(attention.remember(memory.states) for attention in attentions)
        return SourceKeys(remembered, memory.mask)

    def _embed_all(self, embedding: nn.Embedding, tokens: Tensor, layout: Layout) -> Tensor:
        """Inputs [P, D] of the first layer for tokens [N, T]."""
        place = self.positions(0, layout.steps).repeat(layout.rows, 1)  # (T, D) -> (N*T, D)
        flat = tokens.flatten()
        if layout.real is not None:
            flat, place = flat[layout.real], place.index_select(0, layout.real)
        return self._embed(embedding, flat, place)

    def _embed(self, embedding: nn.Embedding, tokens: Tensor, place: Tensor) -> Tensor:
        embedded: Tensor = self.embedding_dropout(embedding(tokens) * math.sqrt(self.width) + place)
        return embedded

    def _check(
        self, source: Tensor | None, prefix: Tensor, memory: TransformerMemory | None
    ) -> TransformerMemory:
        """The memory, encoded unless given; its sources share the rows of the prefix."""
        if prefix.dim() != 2:
            raise ValueError(f"prefix must be [N, T], got shape {tuple(prefix.shape)}")
        if memory is None:
            if source is None:
                raise ValueError("features needs source or memory, got neither")
            memory = self.encode(source)
        sources = len(memory.states)
        if sources == 0 or prefix.shape[0] % sources:
            raise ValueError(
                f"prefix has {prefix.shape[0]} rows, which is no multiple of the {sources} sources"
            )
        return memory


class TransformerSeq2Seq(TransformerDecoder):
    """Transformer encoder and decoder with the norms in front of each part.

    Args:
        source_size: size of the source vocabulary.
        target_size: V.
        width: D, even and a multiple of `heads`.
        layers: L, of the encoder and of the decoder.
        heads: h of every attention.
        feedforward: width of the feed-forward layers between their two maps.
        dropout: on what each part of a layer adds, and within the feed-forward layers.
        embedding_dropout: on the embeddings with their positions, of both sides.
        attention_dropout: on the attention weights.
        tied_output: the output layer multiplies by the target embeddings.
        tied_embeddings: source and target have one table; they have one vocabulary then.
        pad: id of padding.

    Raises:
        ValueError: for sizes below 1, a `width` that is odd or no multiple of `heads`, a dropout outside [0, 1), tied
            embeddings of two vocabularies.

    Example:
        >>> model = TransformerSeq2Seq(90, 100, width=16, layers=2, heads=2, feedforward=32)
        >>> model(torch.full((2, 5), 7), torch.full((6, 4), 2)).shape  # K = 3 rows a source
        torch.Size([6, 4, 100])
    """

    def __init__(
        self,
        source_size: int,
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
        tied_embeddings: bool = False,
        pad: int = 0,
    ) -> None:
        super().__init__()
        decoder = check_transformer(
            {"source_size": source_size, "target_size": target_size},
            width=width,
            layers=layers,
            heads=heads,
            feedforward=feedforward,
            dropout=dropout,
            embedding_dropout=embedding_dropout,
            attention_dropout=attention_dropout,
        )
        if tied_embeddings and source_size != target_size:
            raise ValueError(
                f"tied_embeddings needs one vocabulary, got source_size {source_size} and target_size {target_size}"
            )
        self.pad = pad
        self.source_embedding = nn.Embedding(source_size, width)
        self.target_embedding = self.source_embedding if tied_embeddings else nn.Embedding(target_size, width)
        self.encoder = nn.ModuleList(
            EncoderLayer(width, heads, feedforward, dropout=dropout, attention_dropout=attention_dropout)
            for _ in range(layers)
        )
        self.encoder_norm = nn.LayerNorm(width)
        self._alike = not (dropout or embedding_dropout or attention_dropout)
        self._add_decoder(**decoder, tied_output=tied_output)

    @property
    def encodes_alike(self) -> bool:
        """Whether there is no dropout at all."""
        return self._alike

    def encode(self, source: Tensor) -> TransformerMemory:
        """Encode `source` [B, S] once, for any number of rows and steps.

        A source without any token is read as one token of padding, so that there is something to attend to.
        """
        if source.dim() != 2:
            raise ValueError(f"source must be [B, S], got shape {tuple(source.shape)}")
        if not source.shape[1]:
            source = source.new_full((len(source), 1), self.pad)
        mask = source != self.pad
        mask[:, 0] = True
        layout = Layout.of_mask(mask)
        states = self._embed_all(self.source_embedding, source, layout)
        for layer in self.encoder:
            states = layer(states, layout, mask)
        return TransformerMemory(layout.spread(self.encoder_norm(states)), mask)


def check_transformer(
    sizes: dict[str, int],
    *,
    width: int,
    layers: int,
    heads: int,
    feedforward: int,
    dropout: float,
    embedding_dropout: float,
    attention_dropout: float,
) -> dict[str, Any]:
    """The options of a decoder but how its output is tied; raises ValueError for those that no Transformer has.

    Args:
        sizes: others that must be at least 1, by name.
    """
    own = {"width": width, "layers": layers, "heads": heads, "feedforward": feedforward}
    rates = {
        "dropout": dropout,
        "embedding_dropout": embedding_dropout,
        "attention_dropout": attention_dropout,
    }
    check_sizes(sizes | own, rates)
    if width % 2 or width % heads:
        raise ValueError(f"width must be even and a multiple of the {heads} heads, got {width}")
    return own | rates
