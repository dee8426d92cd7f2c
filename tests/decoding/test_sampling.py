"""Sampling: the drawn frequencies are the model's, the reported numbers belong to the drawn tokens."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from decoding.small_models import TableModel, TinyTransformer
from softbellman.decoding import Tempered, beam_search, sample
from softbellman.models import AttentionSeq2Seq

BOS, EOS = 2, 3


def allowed_log_probs(
    logits: Tensor, temperature: float = 1.0, forbidden: tuple[int, ...] = (0, 1, 2)
) -> Tensor:
    """[..., V] log-probabilities over the allowed tokens."""
    logits = logits.detach().clone()
    logits[..., list(forbidden)] = -math.inf
    return (logits / temperature).log_softmax(dim=-1)


def shifted(tokens: Tensor) -> Tensor:
    """BOS and the tokens but the last."""
    return torch.cat([torch.full_like(tokens[:, :1], BOS), tokens[:, :-1]], dim=1)


def test_sequences_are_drawn_with_their_probabilities():
    """Chi-square over every sequence of at most three tokens, drawn with finished rows leaving in between."""
    model = TableModel(6, 3, seed=3, spread=0.8)
    drawn = sample(model, torch.tensor([[2]]), max_length=3, seed=11, samples=20000)
    keys, counts = drawn.tokens.unique(dim=0, return_counts=True)
    probabilities = []
    for row in keys.tolist():
        tokens = [token for token in row if token != 0]
        steps = allowed_log_probs(model(torch.tensor([[2]]), torch.tensor([[BOS, *tokens[:-1]]])))[0]
        probabilities.append(float(steps[range(len(tokens)), tokens].sum().exp()))
    assert sum(probabilities) == pytest.approx(1.0)  # nothing possible is missing
    assert len(probabilities) == 1 + 2 + 4 * 3
    _, p_value = stats.chisquare(counts.numpy(), torch.tensor(probabilities).numpy() * 20000)
    assert p_value > 1e-3


@pytest.mark.parametrize("attention", ["dot", "mlp"])
@pytest.mark.parametrize("input_feeding", [False, True])
def test_reported_log_probs_are_the_models(attention, input_feeding):
    model = small_lstm(input_feeding, attention)
    source, limits = lstm_sources(), torch.tensor([9, 2, 9, 5])
    drawn = sample(model, source, max_length=limits, seed=5, samples=6, temperature=1.3)
    steps = drawn.tokens.shape[1]
    assert drawn.tokens.shape == drawn.log_probs.shape == (24, steps)
    assert steps == int(drawn.lengths.max())
    real = torch.arange(steps) < drawn.lengths[:, None]
    log_probs = allowed_log_probs(model(source, shifted(drawn.tokens)), 1.3)
    expected = log_probs.gather(2, drawn.tokens.unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(drawn.log_probs[real].double(), expected[real], rtol=0, atol=1e-9)
    assert not drawn.log_probs[~real].any()
    assert not drawn.tokens[~real].any()
    assert not drawn.log_probs.requires_grad
    # A row ends with its first EOS or at its limit, and not before.
    limits = limits.repeat_interleave(6)
    last = drawn.tokens.gather(1, drawn.lengths[:, None] - 1).squeeze(1)
    assert ((last == EOS) | (drawn.lengths == limits)).all()
    assert (drawn.lengths <= limits).all()
    assert ((drawn.tokens == EOS).sum(1) == (last == EOS).long()).all()
    assert len(set(drawn.lengths.tolist())) > 3


def test_the_seed_and_the_offset_decide():
    model, source = small_lstm(True), lstm_sources()
    options = {"max_length": 9, "samples": 8}
    first = sample(model, source, seed=1, **options)
    again = sample(model, source, seed=1, **options)
    assert torch.equal(first.tokens, again.tokens)
    assert torch.equal(first.log_probs, again.log_probs)
    for other in (
        sample(model, source, seed=2, **options),
        sample(model, source, seed=1, offset=9, **options),
    ):
        assert other.tokens.shape != first.tokens.shape or not torch.equal(other.tokens, first.tokens)
    assert first.tokens.view(4, 8, -1).unique(dim=1).shape[1] > 4  # the samples of a source differ


def test_steps_and_rows_use_their_own_randomness():
    """With the same distribution everywhere, tokens of different rows and steps are independent."""
    model = TableModel(6, 8)
    with torch.no_grad():
        model.table.zero_()
    drawn = sample(
        model,
        torch.zeros(1, 1, dtype=torch.int64),
        max_length=8,
        seed=3,
        samples=3000,
        forbidden=[0, 1, 2, 3],
    )
    heads = (drawn.tokens == 4).double()  # fair coins
    correlation = torch.corrcoef(heads.T)
    assert (correlation - torch.eye(8)).abs().max() < 4.5 / math.sqrt(3000)
    assert abs(float((heads[:-1] * heads[1:]).mean()) - 0.25) < 0.01


def test_special_tokens_are_drawn_only_when_allowed():
    model = TableModel(6, 5, spread=0.1)
    source = torch.zeros(1, 1, dtype=torch.int64)

    def seen(**options: object) -> set[int]:
        drawn = sample(model, source, max_length=5, seed=4, samples=400, **options)
        real = torch.arange(drawn.tokens.shape[1]) < drawn.lengths[:, None]
        return set(drawn.tokens[real].tolist())

    assert seen() == {3, 4, 5}
    assert seen(allow_unknown=True) == {1, 3, 4, 5}
    assert seen(forbidden=[0, 2, 5]) == {1, 3, 4}
    assert seen(forbidden=torch.tensor([True, True, True, False, False, True])) == {3, 4}
    assert seen(forbidden=[]) == {0, 1, 2, 3, 4, 5}


def test_a_transformer_is_sampled_in_its_present_mode():
    torch.manual_seed(0)
    model = TinyTransformer(9).double().eval()
    source = torch.tensor([[4, 5, 6, 3], [7, 3, 0, 0]])
    drawn = sample(model, source, max_length=6, seed=2, samples=5)
    log_probs = allowed_log_probs(model(source.repeat_interleave(5, 0), shifted(drawn.tokens)))
    expected = log_probs.gather(2, drawn.tokens.unsqueeze(2)).squeeze(2)
    real = torch.arange(drawn.tokens.shape[1]) < drawn.lengths[:, None]
    torch.testing.assert_close(drawn.log_probs[real].double(), expected[real], rtol=0, atol=1e-9)
    model.train()
    noisy = sample(model, source, max_length=1, seed=2, samples=5)
    assert model.training
    assert (noisy.log_probs[:, 0] - drawn.log_probs[:, 0]).abs().max() > 1e-4


def test_no_source():
    drawn = sample(small_lstm(False), torch.empty(0, 3, dtype=torch.int64), max_length=4, seed=1)
    assert drawn.tokens.shape == drawn.log_probs.shape == (0, 0)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"samples": 0}, "samples"),
        ({"temperature": 0.0}, "temperature"),
        ({"max_length": 0}, "max_length"),
        ({"max_length": torch.tensor([1])}, "max_length"),
        ({"forbidden": [6]}, "id 6"),
    ],
)
def test_bad_arguments_are_named(options, word):
    with pytest.raises(ValueError, match=word):
        sample(TableModel(6, 4), torch.tensor([[0], [1]]), **{"max_length": 3, "seed": 1, **options})


def test_bad_models_are_named():
    with pytest.raises(TypeError, match="begin and step"):
        sample(lambda source, prefix: prefix, torch.tensor([[0]]), max_length=3, seed=1)
    with pytest.raises(ValueError, match=r"logits \[N, T, V\]"):
        sample(torch.nn.CosineSimilarity(), torch.zeros(2, 1).double(), max_length=3, seed=1)


def test_impossible_logits_are_an_error():
    model = TableModel(6, 4)
    with torch.no_grad():
        model.table[1] = -math.inf
    with pytest.raises(ValueError, match="finite"):
        sample(model, torch.tensor([[0], [1]]), max_length=3, seed=1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [None, 2.0])
@pytest.mark.parametrize("decode", [sample, beam_search])
def test_undefined_logits_are_an_error_of_sampling_and_search_alike(decode, temperature, value):
    """One entry is enough, at a later step, for one source of two; at a forbidden token it does not count."""
    broken = TableModel(6, 4, seed=1)
    with torch.no_grad():
        broken.table[:, 0, :, EOS] = -50.0  # nothing ends before
        broken.table[1, 1, :, 4] = value
    model = broken if temperature is None else Tempered(broken, temperature)
    options = {"max_length": 4} if decode is beam_search else {"max_length": 4, "seed": 1, "samples": 50}
    with pytest.raises(ValueError, match=r"NaN or \+inf"):
        decode(model, torch.tensor([[0], [1]]), **options)
    decode(model, torch.tensor([[0]]), **options)
    found = decode(model, torch.tensor([[0], [1]]), forbidden=[0, 1, 2, 4], **options)
    assert not (found.tokens == 4).any()


def test_search_reports_undefined_logits_beside_a_finished_hypothesis():
    """The end ranks first at the first step; what else is open meets the broken logits of the second."""
    model = TableModel(6, 4, seed=1)
    with torch.no_grad():
        model.table[0, 0] = 0.0
        model.table[0, 0, :, EOS] = 0.1
        model.table[0, 1] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        beam_search(model, torch.tensor([[0]]), max_length=4, beam=2, length_penalty=2.0)


def small_lstm(input_feeding: bool, attention: str = "dot") -> AttentionSeq2Seq:
    torch.manual_seed(8)
    model = AttentionSeq2Seq(
        12, 9, embedding=6, hidden=8, attention=attention, input_feeding=input_feeding, init_range=0.6
    )
    return model.double().eval()


def lstm_sources() -> Tensor:
    return torch.tensor([[4, 5, 6, 7, 3], [8, 3, 0, 0, 0], [9, 4, 10, 3, 0], [11, 3, 0, 0, 0]])


def test_forced_tokens_are_read_and_the_rest_is_drawn():
    model = TableModel(7, 6, seed=2)
    source = torch.tensor([[2], [3]])
    forced = torch.tensor([[4, 5, -1], [6, -1, EOS]])
    drawn = sample(model, source, max_length=5, seed=3, samples=3, forced=forced)
    assert (drawn.tokens[:3, :2] == torch.tensor([4, 5])).all() and (drawn.tokens[3:, 0] == 6).all()
    assert (drawn.lengths[3:] <= 3).all()  # a forced end token ends what has not ended before
    steps = drawn.tokens.shape[1]
    real = torch.arange(steps) < drawn.lengths[:, None]
    picked = allowed_log_probs(model(source.repeat_interleave(3, 0), shifted(drawn.tokens)))
    expected = picked.gather(2, drawn.tokens.unsqueeze(2)).squeeze(2)
    wide = torch.nn.functional.pad(forced, (0, steps - 3), value=-1).repeat_interleave(3, 0)
    expected = expected.masked_fill(~real | (wide >= 0), 0.0)
    torch.testing.assert_close(drawn.log_probs.double(), expected.double(), rtol=1e-5, atol=1e-5)
    free = sample(model, source, max_length=5, seed=3, samples=3)
    nothing = sample(model, source, max_length=5, seed=3, samples=3, forced=torch.full((2, 4), -1))
    assert torch.equal(free.tokens, nothing.tokens) and torch.equal(free.log_probs, nothing.log_probs)
    with pytest.raises(ValueError, match=r"forced must be int64 \[2, L\], got torch.int64 \(3, 4\)"):
        sample(model, source, max_length=5, seed=3, forced=torch.zeros(3, 4, dtype=torch.int64))
