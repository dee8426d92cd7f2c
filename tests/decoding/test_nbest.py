"""The R best hypotheses of a beam against the documented rule on Python lists."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from decoding.small_models import TableModel
from softbellman.decoding import beam_search

BOS, EOS = 2, 3
FORBIDDEN = (0, 1, 2)


def every_finished(
    model: nn.Module, source: Tensor, *, beam: int, longest: int, alpha: float
) -> tuple[list[tuple[float, tuple[int, ...]]], list[tuple[float, tuple[int, ...]]]]:
    """The finished and the open hypotheses of a search that never stops early, best first."""
    inner: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    finished: list[tuple[float, tuple[int, ...]]] = []
    for length in range(1, longest + 1):
        extensions = []
        for total, tokens in inner:
            logits = model(source[None], torch.tensor([[BOS, *tokens]]))[0, -1].detach().clone()
            logits[list(FORBIDDEN)] = -math.inf
            steps = logits.log_softmax(dim=0).tolist()
            extensions += [(total + steps[w], (*tokens, w)) for w in range(len(steps)) if w not in FORBIDDEN]
        extensions.sort(reverse=True)
        divisor = ((5 + length) / 6) ** alpha
        finished += [(total / divisor, tokens) for total, tokens in extensions[:beam] if tokens[-1] == EOS]
        inner = [pair for pair in extensions if pair[1][-1] != EOS][:beam]
    return sorted(finished, reverse=True), [(total / divisor, tokens) for total, tokens in inner]


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.5])
@pytest.mark.parametrize("best", [1, 2, 4])
def test_the_best_hypotheses_are_those_of_the_rule(best: int, alpha: float) -> None:
    model, longest, beam = TableModel(7, 5, seed=3), 5, 4
    source = torch.tensor([[0], [1], [5], [6]])
    found = beam_search(model, source, beam=beam, max_length=longest, length_penalty=alpha, best=best)
    assert found.tokens.shape[0] == 4 * best
    for number, row in enumerate(source):
        finished, still_open = every_finished(model, row, beam=beam, longest=longest, alpha=alpha)
        wanted = (finished + still_open)[:best]
        for place, (score, tokens) in enumerate(wanted):
            at = number * best + place
            length = int(found.lengths[at])
            assert tuple(found.tokens[at, :length].tolist()) == tokens
            assert float(found.scores[at]) == pytest.approx(score, abs=1e-9)
            assert bool((found.tokens[at, length:] == 0).all())


def test_places_without_a_hypothesis_are_empty() -> None:
    """Two words and one step: the end, and each word left open."""
    model = TableModel(6, 1, seed=1)
    found = beam_search(model, torch.tensor([[0]]), beam=5, max_length=1, best=5)
    assert found.lengths.tolist() == [1, 1, 1, 0, 0]
    assert int(found.tokens[0, 0]) == EOS and sorted(found.tokens[1:3, 0].tolist()) == [4, 5]
    assert found.scores[3:].tolist() == [-math.inf] * 2


def test_the_first_of_several_is_the_best_of_one() -> None:
    model = TableModel(9, 6, seed=8)
    source = torch.arange(8)[:, None]
    alone = beam_search(model, source, beam=4, max_length=6)
    several = beam_search(model, source, beam=4, max_length=6, best=3)
    rows = slice(None, None, 3)
    assert torch.equal(alone.scores, several.scores[rows])
    assert torch.equal(alone.lengths, several.lengths[rows])
    ranked = several.scores.view(8, 3)
    assert bool((ranked[:, 1:] <= ranked[:, :-1]).all())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"best": 0}, "best must be from 1 to the beam size 5, got 0"),
        ({"best": 6}, "best must be from 1 to the beam size 5, got 6"),
        ({"length_penalty": 1e308}, r"length_penalty must be from -20 to 20, got 1e\+308"),
        ({"length_penalty": math.nan}, "length_penalty must be from -20 to 20, got nan"),
    ],
)
def test_bad_arguments(options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        beam_search(TableModel(6, 3), torch.tensor([[0]]), max_length=3, **options)  # type: ignore[arg-type]
