"""The published networks in eager PyTorch: the passes over memory the authors' code makes, written anew.

What is reproduced (design facts of the code beside the paper, github.com/zihangdai/ERAC-VAML):
- time-major tensors, a packed bidirectional LSTM encoder, its output repeated for the K samples of a source;
- dot-product attention as an [S, T, N, H] product that is summed; MLP attention on the concatenation [S, T, N, 2H];
  contexts as a weighted [S, T, N, H] sum;
- logits and log-probabilities at every padded position;
- sampling step by step through the same modules, with its graph, all rows until the last has ended.

Notation: B sources, K samples per source, N = B*K rows, S source positions, T target positions, V target
vocabulary, H hidden units. Tokens are int64 [T, N], padding only behind the last token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from softbellman.data import BOS, EOS, PAD
from softbellman.models import AttentionSeq2Seq

Recurrent = tuple[Tensor, Tensor]  # hidden and cell, [1, N, H] each


class Context(NamedTuple):
    """An encoded source: states [S, N, H], padding [S, N] and where the decoder starts."""

    states: Tensor
    padding: Tensor
    start: Recurrent

    def repeat(self, count: int) -> Context:
        """K copies of every source, side by side."""
        states, padding, *start = (
            tensor.repeat_interleave(count, dim=1) for tensor in (self.states, self.padding, *self.start)
        )
        return Context(states, padding, (start[0], start[1]))


class DotScores(nn.Module):
    """score(s, h) = s . h."""

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """[T, N, H], [S, N, H] -> [S, T, N]."""
        return (keys[:, None] * queries[None]).sum(dim=3)


class MlpScores(nn.Module):
    """score(s, h) = v . tanh(W [h; s] + b)."""

    def __init__(self, hidden: int, attention_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * hidden, attention_size)
        self.score = nn.Linear(attention_size, 1, bias=False)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """[T, N, H], [S, N, H] -> [S, T, N]."""
        shape = (len(keys), *queries.shape)
        pairs = torch.cat([keys[:, None].expand(shape), queries[None].expand(shape)], dim=3)
        scores: Tensor = self.score(torch.tanh(self.hidden(pairs)))
        return scores.squeeze(3)


class PublishedNetwork(nn.Module):
    """One layer, no input feeding; with the weights of `model`, of which it is another way to compute the same.

    Args:
        model: an `AttentionSeq2Seq` of one layer without input feeding.

    Raises:
        ValueError: another kind of model.
    """

    def __init__(self, model: AttentionSeq2Seq) -> None:
        super().__init__()
        if model.input_feeding or model.decoder.num_layers != 1:
            raise ValueError("model must have one layer and no input feeding")
        assert model.attention is not None
        embedding, hidden = model.target_embedding.embedding_dim, model.decoder.hidden_size
        vocabulary = model.target_embedding.num_embeddings
        self.source_embedding = nn.Embedding(
            model.source_embedding.num_embeddings, embedding, padding_idx=PAD
        )
        self.target_embedding = nn.Embedding(vocabulary, embedding, padding_idx=PAD)
        self.encoder = nn.LSTM(embedding, hidden // 2, bidirectional=True)
        self.decoder = nn.LSTM(embedding, hidden)
        weights = dict(model.attention.named_parameters())
        self.scores = MlpScores(hidden, len(weights["score"])) if weights else DotScores()
        self.combine = nn.Linear(2 * hidden, hidden, bias=False)
        self.embedding_dropout = nn.Dropout(getattr(model.embedding_dropout, "p", 0.0))
        self.dropout = nn.Dropout(model.dropout.p)
        self.output = nn.Linear(hidden, vocabulary)
        self._copy(model, weights)

    @torch.no_grad()
    def _copy(self, model: AttentionSeq2Seq, attention: Mapping[str, Tensor]) -> None:
        for name in ("source_embedding", "target_embedding", "decoder", "combine", "output"):
            getattr(self, name).load_state_dict(getattr(model, name).state_dict())
        for suffix, scan in (("", model.encoder.forwards[0]), ("_reverse", model.encoder.backwards[0])):
            for name, value in scan.named_parameters():
                getattr(self.encoder, f"{name}{suffix}").copy_(value)
        if isinstance(self.scores, MlpScores):
            keys, queries = attention["project_keys.weight"], attention["project_queries.weight"]
            self.scores.hidden.weight.copy_(torch.cat([keys, queries], dim=1))
            self.scores.hidden.bias.copy_(attention["project_keys.bias"])
            self.scores.score.weight.copy_(attention["score"][None])

    def encode(self, source: Tensor) -> Context:
        """Encode `source` [S, B]."""
        real = source != PAD
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embedding_dropout(self.source_embedding(source)), real.sum(0), enforce_sorted=False
        )
        states, finals = self.encoder(packed)
        states, _ = nn.utils.rnn.pad_packed_sequence(states, total_length=len(source))
        hidden, cell = (
            torch.cat([final[:1], final[1:]], dim=2) for final in finals
        )  # (2, B, H/2) -> (1, B, H)
        return Context(states, ~real, (hidden, cell))

    def decode(self, prefix: Tensor, context: Context, state: Recurrent) -> tuple[Tensor, Recurrent]:
        """Read `prefix` [T, N] on from `state`: logits [T, N, V] and the state behind it."""
        states, state = self.decoder(self.embedding_dropout(self.target_embedding(prefix)), state)
        scores = self.scores(states, context.states).masked_fill(context.padding[:, None], -torch.inf)
        shares = scores.softmax(dim=0)  # [S, T, N]
        contexts = (shares[..., None] * context.states[:, None]).sum(dim=0)  # [T, N, H]
        combined = torch.tanh(self.combine(torch.cat([contexts, states], dim=2)))
        return self.output(self.dropout(combined)), state

    def forward(self, source: Tensor, prefix: Tensor) -> Tensor:
        """`source` [S, B], `prefix` [T, N] -> logits [T, N, V]."""
        context = self.encode(source).repeat(prefix.shape[1] // source.shape[1])
        logits, _ = self.decode(prefix, context, context.start)
        return logits

    def sample(
        self, source: Tensor, *, samples: int, longest: int, forced: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw `samples` sequences for each column of `source` [S, B]; `forced` [T, N] are taken instead.

        Returns:
            tokens [T, N], EOS at the end and PAD behind it, and log-probabilities [T, N, V] with their graph.
        """
        context = self.encode(source).repeat(samples)
        state, rows = context.start, context.states.shape[1]
        current = source.new_full((rows,), BOS)
        ended = torch.zeros(rows, dtype=torch.bool, device=source.device)
        tokens, log_probs = [], []
        for step in range(longest if forced is None else len(forced)):
            logits, state = self.decode(current[None], context, state)
            log_prob = logits[0].log_softmax(dim=1)
            if forced is not None:
                current = forced[step]
            elif step == longest - 1:
                current = torch.full_like(current, EOS)
            else:
                current = torch.multinomial(log_prob.detach().exp(), 1).squeeze(1)
            current = current.masked_fill(ended, PAD)
            ended = ended | (current == EOS)
            tokens.append(current)
            log_probs.append(log_prob)
            if forced is None and bool(ended.all()):
                break
        return torch.stack(tokens), torch.stack(log_probs)
