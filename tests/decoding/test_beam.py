"""Beam search against enumeration of every sequence, greedy search, and itself on one source at a time."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from decoding.small_models import TableModel, TinyTransformer
from softbellman.decoding import beam_search, greedy_search
from softbellman.models import AttentionSeq2Seq

BOS, EOS = 2, 3
DEFAULT_FORBIDDEN = (0, 1, 2)


def sequence_log_probs(
    model: nn.Module, source: Tensor, tokens: Tensor, forbidden: tuple[int, ...]
) -> Tensor:
    """Log-probabilities [M] of the sequences `tokens` [M, T] after BOS for one source [S]."""
    prefix = torch.cat([torch.full_like(tokens[:, :1], BOS), tokens[:, :-1]], dim=1)
    logits = model(source.expand(tokens.shape[0], -1), prefix).detach().double().clone()
    logits[..., list(forbidden)] = -math.inf
    return logits.log_softmax(dim=-1).gather(2, tokens.unsqueeze(2)).sum(dim=(1, 2))


def sequence_log_prob(
    model: nn.Module, source: Tensor, tokens: tuple[int, ...], forbidden: tuple[int, ...]
) -> float:
    return float(sequence_log_probs(model, source, torch.tensor([tokens]), forbidden))


def best_by_enumeration(
    model: nn.Module,
    source: Tensor,
    *,
    vocabulary: int,
    longest: int,
    alpha: float,
    forbidden: tuple[int, ...],
) -> tuple[tuple[int, ...], float]:
    """The best sequence that ends in EOS within `longest` tokens."""
    inner = [token for token in range(vocabulary) if token != EOS and token not in forbidden]
    best: tuple[tuple[int, ...], float] = ((), -math.inf)
    for length in range(1, longest + 1):
        every = torch.tensor([(*head, EOS) for head in itertools.product(inner, repeat=length - 1)])
        scores = sequence_log_probs(model, source, every, forbidden) / ((5 + length) / 6) ** alpha
        top = int(scores.argmax())
        best = max(best, (tuple(every[top].tolist()), float(scores[top])), key=lambda pair: pair[1])
    return best


def rows(tokens: Tensor, lengths: Tensor) -> list[tuple[int, ...]]:
    return [tuple(row[:length].tolist()) for row, length in zip(tokens, lengths.tolist(), strict=True)]


def beam_by_the_rule(
    model: nn.Module, source: Tensor, *, beam: int, longest: int, alpha: float
) -> tuple[tuple[int, ...], float]:
    """The documented rule on Python lists, for one source, without stopping early."""
    inner: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    finished: list[tuple[float, tuple[int, ...]]] = []
    for length in range(1, longest + 1):
        extensions = []
        for total, tokens in inner:
            logits = model(source[None], torch.tensor([[BOS, *tokens]]))[0, -1].detach().clone()
            logits[list(DEFAULT_FORBIDDEN)] = -math.inf
            steps = logits.log_softmax(dim=0).tolist()
            extensions += [
                (total + steps[w], (*tokens, w)) for w in range(len(steps)) if w not in DEFAULT_FORBIDDEN
            ]
        extensions.sort(reverse=True)
        divisor = ((5 + length) / 6) ** alpha
        finished += [(total / divisor, tokens) for total, tokens in extensions[:beam] if tokens[-1] == EOS]
        inner = [pair for pair in extensions if pair[1][-1] != EOS][:beam]
    score, tokens = max(finished) if finished else (inner[0][0] / divisor, inner[0][1])
    return tokens, score


@pytest.mark.parametrize("alpha", [0.0, 0.6, 3.0, -3.0])
@pytest.mark.parametrize("forbidden", [DEFAULT_FORBIDDEN, (0, 2)])
def test_a_wide_beam_finds_the_best_of_all_sequences(alpha, forbidden):
    model = TableModel(6, 4, sources=40, seed=3, spread=2.5)
    with torch.no_grad():
        model.table[..., EOS] -= 1.0
    source = torch.arange(40)[:, None]
    limits = torch.tensor([4, 3, 4, 1, 2]).repeat(8)
    found = beam_search(
        model, source, beam=81, max_length=limits, length_penalty=alpha, allow_unknown=1 not in forbidden
    )
    hypotheses = rows(found.tokens, found.lengths)
    assert {len(tokens) for tokens in hypotheses} >= {1, 2}
    for row, limit in enumerate(limits.tolist()):
        tokens, score = best_by_enumeration(
            model, source[row], vocabulary=6, longest=limit, alpha=alpha, forbidden=forbidden
        )
        assert hypotheses[row] == tokens
        assert float(found.scores[row]) == pytest.approx(score, abs=1e-9)
        assert not found.tokens[row, len(tokens) :].any()


@pytest.mark.parametrize("alpha", [0.0, 3.0, -3.0])
@pytest.mark.parametrize("beam", [1, 2, 3, 5])
def test_a_narrow_beam_follows_the_rule(beam, alpha):
    model = TableModel(7, 5, sources=40, seed=5)
    with torch.no_grad():  # many early ends that a longer hypothesis can still beat, or cannot
        model.table[..., EOS] += 1.0
    source = torch.arange(40)[:, None]
    found = beam_search(model, source, beam=beam, max_length=5, length_penalty=alpha)
    for row, hypothesis in enumerate(rows(found.tokens, found.lengths)):
        tokens, score = beam_by_the_rule(model, source[row], beam=beam, longest=5, alpha=alpha)
        assert hypothesis == tokens
        assert float(found.scores[row]) == pytest.approx(score, abs=1e-9)


def test_length_penalty_prefers_longer_hypotheses():
    model = TableModel(6, 5, seed=3)
    source = torch.arange(8)[:, None]
    lengths = [
        beam_search(model, source, beam=81, max_length=5, length_penalty=alpha).lengths.sum()
        for alpha in (0.0, 2.0)
    ]
    assert lengths[1] > lengths[0]


@pytest.mark.parametrize("input_feeding", [False, True])
def test_greedy_takes_the_best_token_at_each_step(input_feeding):
    model = small_lstm(input_feeding)
    source = lstm_sources()
    found = greedy_search(model, source, max_length=9)
    assert rows(found.tokens, found.lengths) == rows(*beam_search(model, source, beam=1, max_length=9)[:2])
    assert len(set(found.lengths.tolist())) > 1
    for row in range(source.shape[0]):
        prefix, total = [BOS], 0.0
        while len(prefix) <= 9 and (len(prefix) == 1 or prefix[-1] != EOS):
            logits = model(source[row : row + 1], torch.tensor([prefix]))[0, -1].detach()
            logits[list(DEFAULT_FORBIDDEN)] = -math.inf
            total += float(logits.log_softmax(0).max())
            prefix.append(int(logits.argmax()))
        assert found.tokens[row, : found.lengths[row]].tolist() == prefix[1:]
        assert float(found.scores[row]) == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize("attention", ["dot", "mlp"])
@pytest.mark.parametrize("input_feeding", [False, True])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_step_form_agrees_with_rerunning_the_prefix(attention, input_feeding, alpha):
    """The recurrent state, the fed-back attention output and the memory follow the beams: a plain function of
    (source, prefix), which has no state to reorder, finds the same hypotheses and scores."""
    model = small_lstm(input_feeding, attention)
    source = lstm_sources()
    stepped = beam_search(model, source, beam=4, max_length=9, length_penalty=alpha)
    rerun = beam_search(Stateless(model), source, beam=4, max_length=9, length_penalty=alpha)
    assert rows(stepped.tokens, stepped.lengths) == rows(rerun.tokens, rerun.lengths)
    torch.testing.assert_close(stepped.scores, rerun.scores, rtol=0, atol=1e-9)
    assert rows(stepped.tokens, stepped.lengths) != rows(*greedy_search(model, source, max_length=9)[:2])
    for row, tokens in enumerate(rows(stepped.tokens, stepped.lengths)):
        expected = (
            sequence_log_prob(model, source[row], tokens, DEFAULT_FORBIDDEN)
            / ((5 + len(tokens)) / 6) ** alpha
        )
        assert float(stepped.scores[row]) == pytest.approx(expected, abs=1e-9)


def test_sources_finishing_early_leave_the_others_alone():
    """Dropping finished sources changes nothing: together and one by one the results are the same."""
    model = small_lstm(True)
    source = lstm_sources()
    together = beam_search(model, source, beam=3, max_length=9)
    assert len(set(together.lengths.tolist())) > 2
    for row in range(source.shape[0]):
        alone = beam_search(model, source[row : row + 1], beam=3, max_length=9)
        assert rows(together.tokens, together.lengths)[row] == rows(alone.tokens, alone.lengths)[0]
        assert float(together.scores[row]) == pytest.approx(float(alone.scores[0]), abs=1e-9)


def test_work_shrinks_with_the_open_sources():
    model = small_lstm(False)
    sizes: list[int] = []
    plain_step = model.step

    def counted(tokens: Tensor, state: object) -> object:
        sizes.append(tokens.shape[0])
        return plain_step(tokens, state)

    model.step = counted  # type: ignore[method-assign]
    found = greedy_search(model, lstm_sources(), max_length=9)
    ended = found.lengths.tolist()
    assert sizes == [sum(length >= step for length in ended) for step in range(1, max(ended) + 1)]
    assert sizes[-1] < sizes[0]


def test_a_beam_wider_than_the_vocabulary():
    model = TableModel(5, 3, seed=2)
    found = beam_search(model, torch.tensor([[1], [5]]), beam=40, max_length=3)  # one inner token and EOS
    for row, source in enumerate([1, 5]):
        tokens, score = best_by_enumeration(
            model, torch.tensor([source]), vocabulary=5, longest=3, alpha=0.0, forbidden=DEFAULT_FORBIDDEN
        )
        assert rows(found.tokens, found.lengths)[row] == tokens
        assert float(found.scores[row]) == pytest.approx(score, abs=1e-9)


def test_unfinished_hypotheses_are_returned_as_they_are():
    model = TableModel(6, 5, seed=1)
    limits = torch.tensor([5, 2, 4])
    found = beam_search(
        model, torch.tensor([[0], [1], [2]]), beam=25, max_length=limits, forbidden=[0, 1, 2, EOS]
    )
    assert found.lengths.tolist() == [5, 2, 4]
    for row, limit in enumerate(limits.tolist()):
        best = max(
            itertools.product([4, 5], repeat=limit),
            key=lambda tokens: sequence_log_prob(model, torch.tensor([row]), tokens, (0, 1, 2, EOS)),
        )
        assert rows(found.tokens, found.lengths)[row] == best


def test_a_transformer_decodes_without_dropout_and_keeps_its_mode():
    torch.manual_seed(0)
    model = TinyTransformer(9).double().train()
    model.encoder.eval()
    source = torch.tensor([[4, 5, 6, 3], [7, 3, 0, 0], [8, 4, 3, 0]])
    first, second = (beam_search(model, source, beam=3, max_length=6) for _ in range(2))
    assert model.training
    assert model.decoder.training
    assert not model.encoder.training
    torch.testing.assert_close(first.scores, second.scores, rtol=0, atol=0)
    model.eval()
    for row, tokens in enumerate(rows(first.tokens, first.lengths)):
        expected = sequence_log_prob(model, source[row][source[row] != 0], tokens, DEFAULT_FORBIDDEN)
        assert float(first.scores[row]) == pytest.approx(expected, abs=1e-9)


def test_lower_precision_logits_are_scored_in_float32():
    class Rounded(TableModel):
        def forward(self, source: Tensor, prefix: Tensor) -> Tensor:
            return super().forward(source, prefix).bfloat16()

    model = Rounded(6, 4, seed=7)
    found = beam_search(model, torch.tensor([[3]]), beam=81, max_length=4)
    tokens, score = best_by_enumeration(
        model, torch.tensor([3]), vocabulary=6, longest=4, alpha=0.0, forbidden=DEFAULT_FORBIDDEN
    )
    assert rows(found.tokens, found.lengths)[0] == tokens
    assert float(found.scores[0]) == pytest.approx(score, abs=1e-5)


def test_no_source():
    found = beam_search(small_lstm(False), torch.empty(0, 3, dtype=torch.int64), max_length=4)
    assert found.tokens.shape == (0, 0)
    assert found.scores.shape == (0,)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"beam": 0}, "beam"),
        ({"max_length": 0}, "max_length"),
        ({"max_length": torch.tensor([1, 2, 3])}, "max_length"),
        ({"forbidden": [9]}, "id 9"),
        ({"forbidden": range(6)}, "all 6"),
        ({"forbidden": torch.zeros(5, dtype=torch.bool)}, "forbidden"),
    ],
)
def test_bad_arguments_are_named(options, word):
    with pytest.raises(ValueError, match=word):
        beam_search(TableModel(6, 4), torch.tensor([[0], [1]]), **{"max_length": 3, **options})


def test_logits_without_a_finite_entry_are_an_error():
    model = TableModel(6, 4)
    with torch.no_grad():
        model.table[1] = math.nan
    with pytest.raises(ValueError, match="finite"):
        beam_search(model, torch.tensor([[0], [1]]), max_length=3)


class Stateless(nn.Module):
    """Hides the step form of a model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, source: Tensor, prefix: Tensor) -> Tensor:
        logits: Tensor = self.model(source, prefix)
        return logits


def small_lstm(input_feeding: bool, attention: str = "dot") -> AttentionSeq2Seq:
    torch.manual_seed(1)
    model = AttentionSeq2Seq(
        12,
        9,
        embedding=6,
        hidden=8,
        attention=attention,
        input_feeding=input_feeding,
        init_range=2.0,
        dropout=0.3,
    )
    return model.double().eval()


def lstm_sources() -> Tensor:
    generator = torch.Generator().manual_seed(6)
    source = torch.randint(4, 12, (12, 5), generator=generator)
    lengths = torch.randint(1, 6, (12, 1), generator=generator)
    return source.masked_fill(torch.arange(5) >= lengths, 0)
