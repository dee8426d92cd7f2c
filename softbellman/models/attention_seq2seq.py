"""Attention sequence-to-sequence network: actor (reads the source) or critic (reads the reference).

Notation: B sources, K rows per source, N = B*K rows, S source positions, T target positions, V target
vocabulary, E embedding size, H hidden size, A attention size, L layers. Tokens are int64, batch first,
padding only behind the last token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from softbellman.models.decoder import AttentionDecoder, check_sizes
from softbellman.models.encoder import BidirectionalEncoder
from softbellman.models.records import Memory


class AttentionSeq2Seq(AttentionDecoder):
    """Bidirectional LSTM encoder, LSTM decoder, global attention.

    The encoder's final states start the decoder. At each step the decoder state s attends to the source,
    gives the attention output `tanh(W [context; s])`, and after dropout the logits. With `input_feeding` the
    attention output of step t-1 (before dropout) joins the embedding at the input of step t.

    Without input feeding a whole prefix runs through one LSTM call and attention is two batched matrix
    products for all rows and steps; with it the decoder runs step by step, while dropout and projection still
    see all steps at once.

    Args:
        source_size: size of the source vocabulary.
        target_size: V.
        embedding: E, of both vocabularies.
        hidden: H, even; the decoder's size and that of both encoder directions together.
        attention_size: A, used by the "mlp" attention alone.
        layers: L, of the encoder and of the decoder.
        attention: "dot" or "mlp".
        input_feeding: see above.
        dropout: on the attention output and between layers.
        embedding_dropout: on the embeddings of both sides.
        pad: id of padding; its embedding is zero and stays so.
        init_range: every parameter starts uniform in [-init_range, init_range].

    Raises:
        ValueError: for sizes below 1, an odd `hidden`, an unknown `attention`, a dropout outside [0, 1).
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        *,
        embedding: int = 256,
        hidden: int = 256,
        attention_size: int = 256,
        layers: int = 1,
        attention: str = "dot",
        input_feeding: bool = False,
        dropout: float = 0.3,
        embedding_dropout: float = 0.0,
        pad: int = 0,
        init_range: float = 0.1,
    ) -> None:
        super().__init__()
        sizes = {
            "source_size": source_size,
            "target_size": target_size,
            "embedding": embedding,
            "hidden": hidden,
            "attention_size": attention_size,
            "layers": layers,
        }
        check_sizes(sizes, {"dropout": dropout, "embedding_dropout": embedding_dropout})
        if attention not in ("dot", "mlp"):
            raise ValueError(f'attention must be "dot" or "mlp", got {attention!r}')
        self.pad = pad
        self.source_embedding = nn.Embedding(source_size, embedding, padding_idx=pad)
        self.target_embedding = nn.Embedding(target_size, embedding, padding_idx=pad)
        self.embedding_dropout = nn.Dropout(embedding_dropout) if embedding_dropout else nn.Identity()
        self.encoder = BidirectionalEncoder(embedding, hidden, layers=layers, dropout=dropout)
        self._add_decoder(
            embedding=embedding,
            hidden=hidden,
            attention_size=attention_size,
            layers=layers,
            attention=attention,
            input_feeding=input_feeding,
            dropout=dropout,
        )
        self._initialise(init_range)

    @torch.no_grad()
    def _initialise(self, init_range: float) -> None:
        for parameter in self.parameters():
            parameter.uniform_(-init_range, init_range)
        self.source_embedding.weight[self.pad].zero_()
        self.target_embedding.weight[self.pad].zero_()

    @property
    def encodes_alike(self) -> bool:
        """Whether no dropout lies on the source's embeddings or between the encoder's layers."""
        between = self.encoder.dropout.p if len(self.encoder.forwards) > 1 else 0.0
        return not between and not getattr(self.embedding_dropout, "p", 0.0)

    def encode(self, source: Tensor) -> Memory:
        """Encode `source` [B, S] once, for any number of rows and steps."""
        assert self.attention is not None
        if source.dim() != 2:
            raise ValueError(f"source must be [B, S], got shape {tuple(source.shape)}")
        real = source != self.pad
        encoded = self.encoder(self.embedding_dropout(self.source_embedding(source)), real.sum(dim=1))
        # A finite bias: a source without any token attends to padding instead of giving NaN.
        lowest = torch.finfo(encoded.states.dtype).min / 2
        bias = torch.zeros_like(source, dtype=encoded.states.dtype).masked_fill_(~real, lowest)
        return Memory(self.attention.keys(encoded.states), encoded.states, bias, encoded.hidden, encoded.cell)
