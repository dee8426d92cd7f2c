"""The decoder all networks share: an LSTM with global attention over a memory, or with none.

Notation: B sources, K rows per source, N = B*K rows, T target positions, V target vocabulary, E embedding size,
H hidden size, L layers. Tokens are int64, batch first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from softbellman.models.attention import DotAttention, MlpAttention
from softbellman.models.projection import multiply, project
from softbellman.models.records import DecoderState, Memory
from softbellman.models.recurrent import run_lstm, step_lstm
from softbellman.models.segments import needed_lengths, plan_segments


class AttentionDecoder(nn.Module, ABC):
    """What a network does once its source is encoded: whole prefixes, single steps, projection.

    At each step the decoder state s attends to the memory, gives the attention output `tanh(W [context; s])`, and
    after dropout the logits. Without attention the output is s itself. With `input_feeding` the attention output of
    step t-1 (before dropout) joins the embedding at the input of step t.

    A subclass makes `target_embedding` and `embedding_dropout`, calls `_add_decoder`, and says how a source is
    encoded. (The order in which it makes its modules decides which random numbers they start from.)
    """

    target_embedding: nn.Embedding
    embedding_dropout: nn.Module

    @abstractmethod
    def encode(self, source: Tensor) -> Memory:
        """Encode B sources once, for any number of rows and steps."""

    def _add_decoder(
        self,
        *,
        embedding: int,
        hidden: int,
        attention_size: int,
        layers: int,
        attention: str,
        input_feeding: bool,
        dropout: float,
    ) -> None:
        """Make the LSTM, the attention (dot, mlp or none) and the output layer."""
        self.input_feeding = input_feeding
        self.decoder = nn.LSTM(
            embedding + (hidden if input_feeding else 0),
            hidden,
            num_layers=layers,
            batch_first=True,
            dropout=dropout if layers > 1 else 0.0,
        )
        self.attention: DotAttention | MlpAttention | None = None
        if attention == "dot":
            self.attention = DotAttention()
        elif attention == "mlp":
            self.attention = MlpAttention(hidden, hidden, attention_size)
        self.combine = None if self.attention is None else nn.Linear(2 * hidden, hidden, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, self.target_embedding.num_embeddings)

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

    def features(self, source: Tensor | None, prefix: Tensor, *, memory: Memory | None = None) -> Tensor:
        """What `project` turns into logits: [N, T, H], dropout applied.

        Callers that need the logits of real positions only project `features[mask]` ([M, H] -> [M, V]). With
        `memory` (from `encode`) the source is not encoded again and may be None.
        """
        memory, count = self._check(source, prefix, memory)
        embedded = self.embedding_dropout(self.target_embedding(prefix))
        state = self._start(memory).repeat(count)
        if self.input_feeding:
            outputs = self._fed(embedded, state)
        else:
            start = (state.hidden.transpose(0, 1).contiguous(), state.cell.transpose(0, 1).contiguous())
            outputs = self._attend(memory, run_lstm(self.decoder, embedded, start)[0])
        dropped: Tensor = self.dropout(outputs)
        return dropped

    def features_at(
        self, source: Tensor | None, prefix: Tensor, rows: Tensor, *, memory: Memory | None = None
    ) -> Tensor:
        """`features` at some positions: [M, H] for the flat indices `rows` [M] into [N, T], in any order.

        On the CPU without input feeding, steps of a row behind the last one asked for are not computed.
        """
        if self.input_feeding or prefix.device.type != "cpu" or not len(rows):
            return self.features(source, prefix, memory=memory).flatten(0, 1).index_select(0, rows)
        memory, count = self._check(source, prefix, memory)
        steps = prefix.shape[1]
        plan = plan_segments(needed_lengths(rows, len(prefix), steps))
        owner = torch.div(plan.order, count, rounding_mode="floor")
        ordered = prefix.index_select(0, plan.order)
        hidden, cell = (
            tensor.index_select(0, owner).transpose(0, 1) for tensor in (memory.hidden, memory.cell)
        )  # (B, L, H) -> (L, N, H)
        outputs = []
        for start, stop, alive in plan.parts:
            embedded = self.embedding_dropout(self.target_embedding(ordered[:alive, start:stop]))
            state = (hidden[:, :alive].contiguous(), cell[:, :alive].contiguous())
            states, hidden, cell = run_lstm(self.decoder, embedded, state)
            read = memory if self.attention is None else memory.select(owner[:alive])
            outputs.append(self._read(read, states).flatten(0, 1))  # (n, t, 2H) -> (n*t, 2H)
        found = torch.cat(outputs).index_select(0, plan.positions(rows, steps))
        dropped: Tensor = self.dropout(self._combine(found))
        return dropped

    def project(self, features: Tensor) -> Tensor:
        """The output layer: [..., H] -> logits [..., V]."""
        return project(features, self.output.weight, self.output.bias)

    def projection(self) -> tuple[Tensor, Tensor]:
        """Weight [V, H] and bias [V] of `project`, for losses that do without the logits."""
        return self.output.weight, self.output.bias

    def attention_weights(self, source: Tensor, prefix: Tensor) -> Tensor:
        """How much each position of the source was attended to before each token: [N, T, S], rows add up to 1.

        Args:
            source, prefix: as in `forward`.

        Raises:
            ValueError: the network has no attention.
        """
        if self.attention is None:
            raise ValueError("the model has no attention over its source")
        found: list[Tensor] = []

        def note(module: nn.Module, given: tuple[Tensor, ...], context: Tensor) -> None:
            queries, keys, values, bias = given
            unit = torch.eye(keys.shape[1], dtype=values.dtype, device=values.device)
            weights = module.forward(
                queries, keys, unit.expand(len(keys), -1, -1), bias
            )  # the context of unit vectors
            found.append(weights.view(len(prefix), -1, keys.shape[1]))  # (B, K*T, S) -> (N, T, S)

        handle = self.attention.register_forward_hook(note)
        try:
            self.features(source, prefix)
        finally:
            handle.remove()
        return torch.cat(found, dim=1)

    @property
    def encodes_alike(self) -> bool:
        """Whether `encode` gives the same in training and in evaluation, so that one encoding serves both."""
        return False

    def begin(self, source: Tensor | None, *, memory: Memory | None = None) -> DecoderState:
        """The state before the start token, one row per source; `.repeat(K)` makes it K rows."""
        if memory is None:
            if source is None:
                raise ValueError("begin needs source or memory, got neither")
            memory = self.encode(source)
        return self._start(memory)

    def step(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Read one token per row, tokens [N] -> logits [N, V] and the next state."""
        outputs, state = self._advance(self.embedding_dropout(self.target_embedding(tokens)), state)
        return self.project(self.dropout(outputs)), state

    def _check(self, source: Tensor | None, prefix: Tensor, memory: Memory | None) -> tuple[Memory, int]:
        """The memory, encoded unless given, and the number K of rows that share a source."""
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
        return memory, prefix.shape[0] // sources

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
            inputs, layer_cell = step_lstm(
                self.decoder, layer, inputs, state.hidden[:, layer], state.cell[:, layer]
            )
            hidden.append(inputs)
            cell.append(layer_cell)
        output = self._attend(state.memory, inputs.unsqueeze(1)).squeeze(1)
        feed = output if self.input_feeding else None
        return output, DecoderState(state.memory, torch.stack(hidden, dim=1), torch.stack(cell, dim=1), feed)

    def _attend(self, memory: Memory, states: Tensor) -> Tensor:
        """tanh(W [context; s]) of decoder states [N, T, H], or s."""
        return self._combine(self._read(memory, states))

    def _read(self, memory: Memory, states: Tensor) -> Tensor:
        """[context; s], [N, T, 2H], of decoder states [N, T, H], or s; the rows of a source share one product."""
        if self.attention is None:
            return states
        queries = states.reshape(memory.values.shape[0], -1, states.shape[2])  # (B*K, T, H) -> (B, K*T, H)
        context = self.attention(queries, memory.keys, memory.values, memory.bias).view(states.shape)
        return torch.cat([context, states], dim=2)

    def _combine(self, read: Tensor) -> Tensor:
        """tanh(W read), [..., 2H] -> [..., H], or what was read where there is no attention."""
        return read if self.combine is None else torch.tanh(multiply(read, self.combine.weight))


def check_sizes(sizes: Mapping[str, int], rates: Mapping[str, float]) -> None:
    """Raises ValueError for sizes below 1 and dropout rates outside [0, 1); names the argument."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
    for name, rate in rates.items():
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"{name} must be in [0, 1), got {rate}")
