"""Small models with known distributions for the decoding tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TableModel(nn.Module):
    """Logits from a table by (first source token, position, last token): known exactly."""

    def __init__(
        self, vocabulary: int, steps: int, *, sources: int = 8, seed: int = 0, spread: float = 1.5
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        table = torch.randn(sources, steps, vocabulary, vocabulary, generator=generator, dtype=torch.float64)
        self.table = nn.Parameter(spread * table)

    def forward(self, source: Tensor, prefix: Tensor) -> Tensor:
        """[N, S], [N, T] -> [N, T, V]."""
        position = torch.arange(prefix.shape[1])
        return self.table[source[:, :1], position, prefix]


class TinyTransformer(nn.Module):
    """Encoder-decoder Transformer, one layer each, dropout 0.3."""

    def __init__(self, vocabulary: int, *, width: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(32, width)
        encoder = nn.TransformerEncoderLayer(width, 2, 32, dropout=0.3, batch_first=True)
        decoder = nn.TransformerDecoderLayer(width, 2, 32, dropout=0.3, batch_first=True)
        self.encoder = nn.TransformerEncoder(encoder, 1, enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(decoder, 1)
        self.output = nn.Linear(width, vocabulary)

    def _embed(self, tokens: Tensor) -> Tensor:
        embedded: Tensor = self.embedding(tokens) + self.position(torch.arange(tokens.shape[1]))
        return embedded

    def forward(self, source: Tensor, prefix: Tensor) -> Tensor:
        """[N, S], [N, T] -> [N, T, V]."""
        padding = source == 0
        memory = self.encoder(self._embed(source), src_key_padding_mask=padding)
        causal = nn.Transformer.generate_square_subsequent_mask(prefix.shape[1])
        decoded = self.decoder(self._embed(prefix), memory, tgt_mask=causal, memory_key_padding_mask=padding)
        logits: Tensor = self.output(decoded)
        return logits
