"""Attention sequence-to-sequence network: actor (reads the source) or critic (reads the reference).

Notation: B sources, K rows per source, N = B*K rows, S source positions, T target positions, V target
vocabulary, E embedding size, H hidden size, A attention size, L layers. Tokens are int64, batch first,
padding only behind the last token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from softbellman.models.attention import DotAttention, MlpAttention
from softbellman.models.encoder import BidirectionalEncoder
from softbellman.models.records import DecoderState, Memory


class AttentionSeq2Seq(nn.Module):
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
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        for name, rate in (("dropout", dropout), ("embedding_dropout", embedding_dropout)):
            if not 0.0 <= rate < 1.0:
                raise ValueError(f"{name} must be in [0, 1), got {rate}")
        self.pad = pad
        self.input_feeding = input_feeding
        self.source_embedding = nn.Embedding(source_size, embedding, padding_idx=pad)
        self.target_embedding = nn.Embedding(target_size, embedding, padding_idx=pad)
        self.embedding_dropout = nn.Dropout(embedding_dropout) if embedding_dropout else nn.Identity()
        self.encoder = BidirectionalEncoder(embedding, hidden, layers=layers, dropout=dropout)
        self.decoder = nn.LSTM(
            embedding + (hidden if input_feeding else 0),
            hidden,
            num_layers=layers,
            batch_first=True,
            dropout=dropout if layers > 1 else 0.0,
        )
        self.attention: DotAttention | MlpAttention
        if attention == "dot":
            self.attention = DotAttention()
        elif attention == "mlp":
            self.attention = MlpAttention(hidden, hidden, attention_size)
        else:
            raise ValueError(f'attention must be "dot" or "mlp", got {attention!r}')
        self.combine = nn.Linear(2 * hidden, hidden, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, target_size)
        self._initialise(init_range)

    @torch.no_grad()
    def _initialise(self, init_range: float) -> None:
        for parameter in self.parameters():
            parameter.uniform_(-init_range, init_range)
        self.source_embedding.weight[self.pad].zero_()
        self.target_embedding.weight[self.pad].zero_()

    def forward(self, source: Tensor, prefix: Tensor) -> Tensor:
        """Logits of the token after each position of the prefix.

        Args:
            source: [B, S].
            prefix: [N, T], begins with the start token; N = B*K, the rows b*K .. b*K+K-1 belong to source b.

        Returns:
            [N, T, V]; entry t depends on prefix[:, :t+1] alone.

        Raises:
            ValueError: for ranks other than 2, or N no multiple of B.
        """
        return self.project(self.features(source, prefix))

    def features(self, source: Tensor | None, prefix: Tensor, *, memory: Memory | None = None) -> Tensor:
        """What `project` turns into logits: [N, T, H], dropout applied.

        Callers that need the logits of real positions only project `features[mask]` ([M, H] -> [M, V]). With
        `memory` (from `encode`) the source is not encoded again and may be None.
        """
        if prefix.dim() != 2:
            raise ValueError(f"prefix must be [N, T], got shape {tuple(prefix.shape)}")
        if memory is None:
            if source is None:
                raise ValueError("features needs source or memory, got neither")
            memory = self.encode(source)
        sources = memory.values.shape[0]
        if sources == 0 or prefix.shape[0] % sources:
            raise ValueError(
                f"prefix has {prefix.shape[0]} rows, which is no multiple of the {sources} sources"
            )
        embedded = self.embedding_dropout(self.target_embedding(prefix))
        state = self._start(memory).repeat(prefix.shape[0] // sources)
        if self.input_feeding:
            outputs = self._fed(embedded, state)
        else:
            start = (state.hidden.transpose(0, 1).contiguous(), state.cell.transpose(0, 1).contiguous())
            outputs = self._attend(memory, self.decoder(embedded, start)[0])
        dropped: Tensor = self.dropout(outputs)
        return dropped

    def project(self, features: Tensor) -> Tensor:
        """The output layer: [..., H] -> logits [..., V]."""
        logits: Tensor = self.output(features)
        return logits

    def encode(self, source: Tensor) -> Memory:
        """Encode `source` [B, S] once, for any number of rows and steps."""
        if source.dim() != 2:
            raise ValueError(f"source must be [B, S], got shape {tuple(source.shape)}")
        real = source != self.pad
        encoded = self.encoder(self.embedding_dropout(self.source_embedding(source)), real.sum(dim=1))
        # A finite bias: a source without any token attends to padding instead of giving NaN.
        lowest = torch.finfo(encoded.states.dtype).min / 2
        bias = torch.zeros_like(source, dtype=encoded.states.dtype).masked_fill_(~real, lowest)
        return Memory(self.attention.keys(encoded.states), encoded.states, bias, encoded.hidden, encoded.cell)

    def begin(self, source: Tensor) -> DecoderState:
        """The state before the start token, one row per source; `.repeat(K)` makes it K rows."""
        return self._start(self.encode(source))

    def step(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Read one token per row, tokens [N] -> logits [N, V] and the next state."""
        outputs, state = self._advance(self.embedding_dropout(self.target_embedding(tokens)), state)
        return self.project(self.dropout(outputs)), state

    def _start(self, memory: Memory) -> DecoderState:
        feed = torch.zeros_like(memory.hidden[:, 0]) if self.input_feeding else None
        return DecoderState(memory, memory.hidden, memory.cell, feed)

    def _fed(self, embedded: Tensor, state: DecoderState) -> Tensor:
        """Attention outputs [N, T, H] of the embedded prefix [N, T, E], step by step."""
        outputs = []
        for step_embedded in embedded.unbind(dim=1):
            output, state = self._advance(step_embedded, state)
            outputs.append(output)
        return torch.stack(outputs, dim=1)

    def _advance(self, embedded: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """One step from embedded tokens [N, E] to the attention output [N, H]."""
        inputs = embedded if state.feed is None else torch.cat([embedded, state.feed], dim=1)
        hidden, cell = [], []
        for layer in range(self.decoder.num_layers):
            if layer:
                inputs = nn.functional.dropout(inputs, self.decoder.dropout, self.training)
            inputs, layer_cell = torch.lstm_cell(
                inputs,
                (state.hidden[:, layer], state.cell[:, layer]),
                getattr(self.decoder, f"weight_ih_l{layer}"),
                getattr(self.decoder, f"weight_hh_l{layer}"),
                getattr(self.decoder, f"bias_ih_l{layer}"),
                getattr(self.decoder, f"bias_hh_l{layer}"),
            )
            hidden.append(inputs)
            cell.append(layer_cell)
        output = self._attend(state.memory, inputs.unsqueeze(1)).squeeze(1)
        feed = output if self.input_feeding else None
        return output, DecoderState(state.memory, torch.stack(hidden, dim=1), torch.stack(cell, dim=1), feed)

    def _attend(self, memory: Memory, states: Tensor) -> Tensor:
        """tanh(W [context; s]) of decoder states [N, T, H]; the rows of a source share one product."""
        queries = states.reshape(memory.values.shape[0], -1, states.shape[2])  # (B*K, T, H) -> (B, K*T, H)
        context = self.attention(queries, memory.keys, memory.values, memory.bias).view(states.shape)
        return torch.tanh(self.combine(torch.cat([context, states], dim=2)))
