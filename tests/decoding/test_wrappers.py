"""Ensembles, and models that are kept from repeating themselves, in search and in sampling."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from decoding.small_models import TableModel, TinyTransformer
from softbellman.decoding import Ensemble, Unrepetitive, beam_search, sample
from softbellman.models import AttentionSeq2Seq

EOS = 3
SOURCE = torch.tensor([[4, 5, 6, 3], [7, 4, 3, 0], [5, 5, 5, 3]])


def networks() -> list[nn.Module]:
    torch.manual_seed(4)
    lstm = [
        AttentionSeq2Seq(9, 9, embedding=6, hidden=6, attention_size=6, init_range=1.0).eval() for _ in "ab"
    ]
    return [*lstm, TinyTransformer(9).eval()]


def test_an_ensemble_of_one_is_the_model() -> None:
    model = networks()[0]
    alone = beam_search(model, SOURCE, beam=3, max_length=6)
    found = beam_search(Ensemble([model]), SOURCE, beam=3, max_length=6)
    assert torch.equal(alone.tokens, found.tokens)
    torch.testing.assert_close(alone.scores, found.scores, atol=1e-5, rtol=0)


def test_an_ensemble_averages_probabilities() -> None:
    """A network with states, one that reads whole prefixes, and the mean of both written out."""
    lstm, _, transformer = networks()
    forbidden = (0, 1, 2)
    ensemble = Ensemble([lstm, transformer], forbidden=forbidden)
    tokens = torch.tensor([[2, 2, 2], [4, 8, 5], [7, 7, 4]])  # read one after another, a column for each row
    state = ensemble.begin(SOURCE)
    for step in range(3):
        said, state = ensemble.step(tokens[step], state)
        prefix = tokens[: step + 1].T
        wanted = torch.zeros(3, 9)
        for model in (lstm, transformer):
            logits = model(SOURCE, prefix)[:, -1].index_fill(1, torch.tensor(forbidden), -math.inf)
            wanted += logits.softmax(dim=1) / 2
        torch.testing.assert_close(said.exp(), wanted, atol=1e-5, rtol=1e-5)


def test_an_ensemble_is_searched_and_sampled() -> None:
    ensemble = Ensemble(networks())
    found = beam_search(ensemble, SOURCE, beam=4, max_length=7, best=2)
    for row in range(len(SOURCE)):  # sources leave the batch; each alone gives the same
        alone = beam_search(ensemble, SOURCE[row : row + 1], beam=4, max_length=7, best=2)
        torch.testing.assert_close(alone.scores, found.scores[2 * row : 2 * row + 2], atol=1e-5, rtol=0)
    drawn = sample(ensemble, SOURCE, max_length=7, seed=1, samples=3)
    assert drawn.tokens.shape[0] == 9 and bool((drawn.log_probs <= 0).all())


def test_an_ensemble_puts_its_members_in_evaluation_mode_and_back() -> None:
    members = networks()
    members[2].train()
    wanted = beam_search(Ensemble(networks()), SOURCE, beam=2, max_length=5)
    found = beam_search(Ensemble(members), SOURCE, beam=2, max_length=5)
    assert torch.equal(wanted.scores, found.scores) and members[2].training and not members[0].training


def test_bad_ensembles() -> None:
    with pytest.raises(ValueError, match="an ensemble needs at least one model, got none"):
        Ensemble([])
    other = AttentionSeq2Seq(9, 11, embedding=4, hidden=4, attention_size=4)
    with pytest.raises(ValueError, match=r"must share a vocabulary, got sizes \[9, 11\]"):
        beam_search(Ensemble([networks()[0], other]), SOURCE, max_length=3)


class Repeater(nn.Module):
    """Says 4 5 4 5 ... unless it is kept from it: each word's logit depends on the last one."""

    def forward(self, source: Tensor, prefix: Tensor) -> Tensor:
        logits = torch.zeros(*prefix.shape, 8)
        logits[..., EOS] = -2.0
        logits[..., 4] = torch.where(prefix == 4, 0.0, 3.0)
        logits[..., 5] = torch.where(prefix == 4, 3.0, 0.0)
        return logits


def ngrams(tokens: list[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_ngram_comes_twice(size: int) -> None:
    source, longest = torch.tensor([[4], [5]]), 12
    free = beam_search(Repeater(), source, beam=3, max_length=longest)
    row = free.tokens[0, : free.lengths[0]].tolist()
    assert len(set(ngrams(row, size))) < len(ngrams(row, size))  # it does repeat itself
    model = Unrepetitive(Repeater(), block_ngrams=size)
    searched = beam_search(model, source, beam=3, max_length=longest, best=3)
    drawn = sample(model, source, max_length=longest, seed=1, samples=20)
    for tokens, length in itertools.chain(
        zip(searched.tokens, searched.lengths, strict=True), zip(drawn.tokens, drawn.lengths, strict=True)
    ):
        found = ngrams(tokens[:length].tolist(), size)
        assert len(set(found)) == len(found)


def test_blocked_search_is_the_best_of_all_sequences_without_repetition() -> None:
    """A beam as wide as the language, against enumeration."""
    model, longest = TableModel(7, 4, seed=2), 4
    best = (-math.inf, ())
    words = [4, 5, 6]
    for length in range(longest):
        for body in itertools.product(words, repeat=length):
            if len(set(body)) < len(body):
                continue
            tokens, total = (*body, EOS), 0.0
            for step, token in enumerate(tokens):
                logits = (
                    model(torch.tensor([[1]]), torch.tensor([[2, *tokens[:step]]]))[0, -1].detach().clone()
                )
                logits[[0, 1, 2, *tokens[:step]]] = -math.inf
                total += float(logits.log_softmax(0)[token])
            best = max(best, (total, tokens))
    found = beam_search(Unrepetitive(model, block_ngrams=1), torch.tensor([[1]]), beam=60, max_length=longest)
    assert tuple(found.tokens[0, : found.lengths[0]].tolist()) == best[1]
    assert float(found.scores[0]) == pytest.approx(best[0], abs=1e-9)


def test_the_penalty_multiplies_log_probabilities_of_what_was_said() -> None:
    model = TableModel(7, 4, seed=5)
    wrapped = Unrepetitive(model, penalty=1.5)
    source, state = torch.tensor([[1]]), wrapped.begin(torch.tensor([[1]]))
    for step, token in enumerate([2, 4, 6]):
        said, state = wrapped.step(torch.tensor([token]), state)
        plain = model(source, torch.tensor([[2, 4, 6][: step + 1]]))[0, -1].log_softmax(0)
        wanted = plain.clone()
        for seen in [4, 6][:step]:
            wanted[seen] = 1.5 * plain[seen]
        torch.testing.assert_close(said[0].log_softmax(0), wanted.log_softmax(0))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"penalty": 0.9}, "penalty must be at least 1 and finite, got 0.9"),
        ({"penalty": math.inf}, "penalty must be at least 1 and finite, got inf"),
        ({"block_ngrams": -1}, "block_ngrams must be at least 0, got -1"),
    ],
)
def test_bad_rules(options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Unrepetitive(TableModel(6, 3), **options)  # type: ignore[arg-type]
