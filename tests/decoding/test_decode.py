"""`decode`: attention, coverage, ranking by both, and draws that do not depend on the batch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from decoding.small_models import TableModel
from softbellman.decoding import Decoding, attention_of, beam_search, coverage, decode
from softbellman.models import AttentionSeq2Seq, Captioner

SOURCE = torch.tensor([[4, 5, 6, 8, 3], [7, 4, 3, 0, 0], [5, 5, 5, 3, 0]])


def translator(**options: object) -> AttentionSeq2Seq:
    torch.manual_seed(4)
    sizes = {"embedding": 6, "hidden": 6, "attention_size": 6, "init_range": 1.0}
    return AttentionSeq2Seq(9, 9, **sizes, **options).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("attention", ["dot", "mlp"])
@pytest.mark.parametrize("input_feeding", [False, True])
def test_attention_weights_give_the_context_that_the_network_uses(
    attention: str, input_feeding: bool
) -> None:
    model = translator(attention=attention, input_feeding=input_feeding)
    contexts = []
    handle = model.attention.register_forward_hook(lambda module, given, out: contexts.append(out))
    prefix = torch.tensor([[2, 4, 5, 6], [2, 7, 7, 7]]).repeat(3, 1)
    model(SOURCE, prefix)
    handle.remove()
    used = torch.cat([part.view(6, -1, 6) for part in contexts], dim=1)  # [N, T, H]
    weights = model.attention_weights(SOURCE, prefix)
    assert weights.shape == (6, 4, 5)
    values = model.encode(SOURCE).values.repeat_interleave(2, dim=0)
    torch.testing.assert_close(weights @ values, used, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weights.sum(2), torch.ones(6, 4))
    assert float(weights[2:4, :, 3:].detach().abs().max()) == 0.0  # padding


def test_models_without_attention_say_so() -> None:
    plain = Captioner(3, 9, embedding=4, hidden=4)
    with pytest.raises(ValueError, match="the model has no attention over its source"):
        attention_of(plain, torch.rand(1, 3), torch.tensor([[4, 3]]))
    with pytest.raises(ValueError, match="TableModel does not say what it attends to"):
        decode(TableModel(6, 3), torch.tensor([[0]]), Decoding(max_length=3, attention=True))


def test_coverage_is_the_published_formula() -> None:
    attention = torch.tensor([[[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.0, 0.0, 1.0]]])
    found = coverage(attention, torch.tensor([2]), torch.tensor([[True, True, True]]))
    assert float(found) == pytest.approx(math.log(1.0) + math.log(0.5) + math.log(0.2), abs=1e-6)
    part = coverage(attention, torch.tensor([2]), torch.tensor([[True, True, False]]))
    assert float(part) == pytest.approx(math.log(0.5), abs=1e-6)


def test_the_coverage_penalty_ranks_the_hypotheses_of_the_beam() -> None:
    model = translator()
    how = Decoding(beam=6, max_length=7, nbest=6, coverage_penalty=3.0)
    best = beam_search(model, SOURCE, beam=6, max_length=7, best=6)
    weights = attention_of(model, SOURCE, best.tokens)
    real = (SOURCE != 0).repeat_interleave(6, dim=0)
    scores = (best.scores + 3.0 * coverage(weights, best.lengths, real)).view(3, 6)
    changed = 0
    for number, group in enumerate(decode(model, SOURCE, how)):
        wanted = scores[number].sort(descending=True)
        assert [one.score for one in group] == pytest.approx(wanted.values.tolist())
        row = number * 6 + int(wanted.indices[0])
        assert group[0].tokens == best.tokens[row, : best.lengths[row]].tolist()
        changed += int(wanted.indices[0]) != 0
    assert changed  # another hypothesis wins for some source
    (single, *_) = decode(model, SOURCE, Decoding(beam=6, max_length=7, coverage_penalty=3.0))
    assert len(single) == 1 and single[0].score == pytest.approx(float(scores[0].max()))


def test_a_search_without_options_is_the_beam_search() -> None:
    model = translator()
    found = decode(model, SOURCE, Decoding(beam=3, max_length=6))
    best = beam_search(model, SOURCE, beam=3, max_length=6)
    assert [one.score for (one,) in found] == best.scores.tolist()
    assert [one.tokens for (one,) in found] == [
        row[:length].tolist() for row, length in zip(best.tokens, best.lengths, strict=True)
    ]


def test_draws_do_not_depend_on_the_batch() -> None:
    model, how = translator(), Decoding(max_length=6, samples=4, seed=3, top_p=0.9, temperature=0.7)
    whole = decode(model, SOURCE, how)
    parts = [decode(model, SOURCE[row : row + 1], how, first=row)[0] for row in range(3)]
    assert [[one.tokens for one in group] for group in whole] == [
        [one.tokens for one in group] for group in parts
    ]
    assert len({tuple(one.tokens) for one in whole[0]}) > 1
    other = decode(model, SOURCE, Decoding(max_length=6, samples=4, seed=4))
    assert [one.tokens for one in other[0]] != [one.tokens for one in whole[0]]


def test_kept_attention_has_a_row_for_each_token() -> None:
    for group in decode(translator(), SOURCE, Decoding(beam=2, nbest=2, max_length=6, attention=True)):
        for one in group:
            assert one.attention is not None and one.attention.shape == (len(one.tokens), 5)


def test_unknown_words_are_produced_only_to_be_replaced() -> None:
    model = translator()
    with torch.no_grad():
        model.output.bias[1] = 20.0
    (plain,), (unknown,) = (
        decode(model, SOURCE[:1], Decoding(beam=1, max_length=4, replace_unknown=flag))[0]
        for flag in (False, True)
    )
    assert 1 not in plain.tokens and 1 in unknown.tokens


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"beam": 0}, "beam must be from 1 to 2**31 - 1, got 0"),
        ({"batch_size": 10**20}, "batch_size must be from 1 to 2**31 - 1, got 100000000000000000000"),
        ({"length_penalty": 1e308}, "length_penalty must be from -20 to 20, got 1e+308"),
        ({"coverage_penalty": -1.0}, "coverage_penalty must be at least 0 and finite, got -1"),
        ({"nbest": 6}, "nbest must be at most the beam size 5, got 6"),
        ({"temperature": 0.5}, "temperature is of sampling; it needs samples"),
        ({"top_k": 3}, "top_k is of sampling; it needs samples"),
        ({"samples": 2, "nbest": 2}, "nbest and coverage_penalty are of a search"),
        ({"samples": 2, "temperature": 0.0}, "temperature must be above 0 and finite, got 0"),
        ({"samples": 1, "seed": -1}, "seed must be from 0 to 2**63 - 1, got -1"),
        ({"samples": 1, "top_p": 0.0}, "top_p must be above 0 and at most 1, got 0"),
        ({"repetition_penalty": 0.5}, "repetition_penalty must be at least 1 and finite, got 0.5"),
        ({"block_ngrams": -1}, "block_ngrams must be from 0 to 2**31 - 1, got -1"),
    ],
)
def test_bad_options(options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        Decoding(**options)  # type: ignore[arg-type]
    assert words in str(caught.value)


def test_modules_keep_their_mode() -> None:
    model: nn.Module = translator().train()
    decode(model, SOURCE, Decoding(max_length=3))
    assert model.training
