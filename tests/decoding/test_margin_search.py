"""The search of beam search optimisation, and a search by last scores, sentence by sentence with whole prefixes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from softbellman.data import BOS, EOS, PAD, UNK
from softbellman.decoding import Decoding, LastScore, beam_search, margin_search

WORDS = 9
FORBIDDEN = torch.tensor([True, True, True, *[False] * (WORDS - 3)])


class Scores(nn.Module):
    """Logits that depend on the source and on all words of the prefix."""

    def __init__(self, seed: int, scale: float = 2.0) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.words = nn.Parameter(scale * torch.randn(WORDS, WORDS, generator=draw, dtype=torch.float64))
        self.pairs = nn.Parameter(
            scale * torch.randn(WORDS, WORDS, WORDS, generator=draw, dtype=torch.float64)
        )

    def forward(self, source: Tensor, prefix: Tensor) -> Tensor:
        before = torch.cat([source[:, :1], prefix[:, :-1]], dim=1)
        memory = self.words[prefix].cumsum(1) / 3
        return self.pairs[before, prefix] + memory


def gold(seed: int, count: int = 7, steps: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, steps + 1, (count,), generator=draw)
    labels = torch.randint(4, WORDS, (count, steps), generator=draw)
    place = torch.arange(steps)
    labels = labels.masked_fill(place == lengths[:, None] - 1, EOS).masked_fill(
        place >= lengths[:, None], PAD
    )
    return torch.randint(4, WORDS, (count, 3), generator=draw), labels, lengths


def score(model: nn.Module, source: Tensor, tokens: list[int]) -> float:
    """f of a prefix: the logit of its last token."""
    said = model(source[None], torch.tensor([[BOS, *tokens[:-1]]]))
    return float(said[0, -1, tokens[-1]].detach())


def plain_search(
    model: nn.Module, source: Tensor, wanted: list[int], beam: int, margin: float
) -> list[tuple[list[int], int, float]]:
    """(violating prefix, r, gap) of one sentence, as the paper tells it."""
    open_ones, restart, found = [[]], 0, []
    for step in range(len(wanted)):
        prefix = wanted[: step + 1]
        tokens = [word for word in range(WORDS) if not FORBIDDEN[word] or word == wanted[step]]
        extensions = [[*one, word] for one in open_ones for word in tokens]
        ranked = sorted(((score(model, source, one), one) for one in extensions), key=lambda pair: -pair[0])
        if step == len(wanted) - 1:
            value, rival = next(pair for pair in ranked if pair[1] != prefix)
        elif len(ranked) < beam:
            value, rival = float("-inf"), []
        else:
            value, rival = ranked[beam - 1]
        gap = margin - score(model, source, prefix) + value
        if gap > 0:
            found.append((rival, restart, gap))
            restart, open_ones = step + 1, [prefix]
        else:
            open_ones = [one for _, one in ranked[:beam] if one[-1] != EOS]
            assert prefix in open_ones or step == len(wanted) - 1
    return found


@pytest.mark.parametrize("beam", [2, 3, 5])
@pytest.mark.parametrize("margin", [1.0, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_violations_and_fresh_starts_are_those_of_single_sentences(
    seed: int, beam: int, margin: float
) -> None:
    model, (source, labels, lengths) = Scores(seed), gold(seed)
    with torch.no_grad():  # references that lead now and then
        for row in range(len(labels)):
            model.pairs[source[row, 0], BOS, labels[row, 0]] += 6 * (row % 2)
        for row, step in ((0, 1), (2, 2), (3, 1), (5, 1)):
            model.pairs[labels[row, step - 1], labels[row, step], labels[row, step + 1]] += 9
    found = margin_search(model, source, labels, lengths, beam=beam, margin=margin, forbidden=FORBIDDEN)
    total = 0
    for row in range(len(labels)):
        wanted = plain_search(model, source[row], labels[row, : lengths[row]].tolist(), beam, margin)
        total += len(wanted)
        assert int((found.lengths[row] > 0).sum()) == len(wanted)
        for place, (tokens, restart, gap) in enumerate(wanted):
            length = int(found.lengths[row, place])
            assert found.prefixes[row, place, :length].tolist() == tokens
            assert (found.prefixes[row, place, length:] == PAD).all()
            assert int(found.starts[row, place]) == restart
            assert float(found.gaps[row, place]) == pytest.approx(gap, rel=1e-4, abs=1e-4)
    assert 0 < total < int(lengths.sum())


def test_a_reference_that_leads_by_the_margin_is_never_violated() -> None:
    model, (source, labels, lengths) = Scores(1), gold(4, count=1)
    tokens = [BOS, *labels[0, : lengths[0]].tolist()]
    with torch.no_grad():
        for step, word in enumerate(tokens[1:], start=1):
            before = int(source[0, 0]) if step == 1 else tokens[step - 2]
            model.pairs[before, tokens[step - 1], word] += 40
    for beam in (2, 3, 4):
        found = margin_search(model, source, labels, lengths, beam=beam, forbidden=FORBIDDEN)
        assert found.prefixes.shape == (1, 0, labels.shape[1])
    violated = margin_search(model, source, labels, lengths, beam=2, margin=500.0, forbidden=FORBIDDEN)
    assert violated.lengths[0].tolist() == list(range(1, int(lengths[0]) + 1))
    assert violated.starts[0].tolist() == list(range(int(lengths[0])))


def test_what_the_reference_alone_may_say_is_no_rival() -> None:
    model, (source, labels, lengths) = Scores(2), gold(5)
    labels[:, 0] = torch.where(lengths > 1, UNK, labels[:, 0])
    found = margin_search(model, source, labels, lengths, beam=3, forbidden=FORBIDDEN)
    said = found.prefixes[found.lengths > 0]
    assert (said == UNK).any() and not ((said == UNK).any(1) & (said[:, 0] != UNK)).any()
    with pytest.raises(ValueError, match="beam must be at least 2, got 1"):
        margin_search(model, source, labels, lengths, beam=1)


def plain_decoding(
    model: nn.Module, source: Tensor, beam: int, longest: int, comparable: bool
) -> list[tuple[float, list[int]]]:
    """Finished hypotheses, the result first, or the best open one; the beam holds the K best that go on."""
    open_ones, finished = [[]], []
    tokens = [word for word in range(WORDS) if not FORBIDDEN[word]]
    for _ in range(longest):
        ranked = sorted(
            ((score(model, source, [*one, word]), [*one, word]) for one in open_ones for word in tokens),
            key=lambda pair: -pair[0],
        )
        ended = [pair for pair in ranked[:beam] if pair[1][-1] == EOS]
        if not comparable and ranked[0] in ended:
            return [ranked[0], *sorted(finished + ended[1:], reverse=True)]
        finished += ended
        best_open = [pair for pair in ranked if pair[1][-1] != EOS][:beam]
        open_ones = [one for _, one in best_open]
        if comparable and len(ended) == beam:
            break
    return sorted(finished, reverse=True) or best_open[:1]


@pytest.mark.parametrize("comparable", [True, False])
@pytest.mark.parametrize("beam", [1, 3])
def test_a_search_by_last_scores_takes_no_softmax_and_no_sum(beam: int, comparable: bool) -> None:
    outdone, otherwise = 0, 0
    for seed in range(4):
        model, (source, _, _) = Scores(seed), gold(seed)
        with torch.no_grad():
            model.pairs[..., EOS] += 3  # hypotheses of several lengths end
        searched = LastScore(model, comparable=comparable)
        found = beam_search(searched, source, beam=beam, max_length=8)
        several = beam_search(searched, source, beam=beam, max_length=8, best=beam)
        for row in range(len(source)):
            wanted = plain_decoding(model, source[row], beam, 8, comparable)
            value, tokens = wanted[0]
            assert found.tokens[row, : found.lengths[row]].tolist() == tokens
            assert float(found.scores[row]) == pytest.approx(value)
            for place, (one, said) in enumerate(wanted[:beam]):
                length = int(several.lengths[row * beam + place])
                assert several.tokens[row * beam + place, :length].tolist() == said
                assert float(several.scores[row * beam + place]) == pytest.approx(one)
            outdone += value < max(wanted)[0]
            otherwise += tokens != plain_decoding(model, source[row], beam, 8, not comparable)[0][1]
        usual = beam_search(model, source, beam=beam, max_length=8)
        assert usual.scores.max() <= 0 < found.scores.max()
    if beam > 1:  # the two forms differ, and a result may have a lower score than what ended before
        assert otherwise > 0 and (outdone > 0) == (not comparable)


class Prefixes(nn.Module):
    """Scores of whole prefixes, said one by one; those of all others are small."""

    def __init__(self, said: dict[tuple[int, ...], float]) -> None:
        super().__init__()
        self.said = said
        self.others = torch.rand(WORDS, generator=torch.Generator().manual_seed(0))

    def forward(self, source: Tensor, prefix: Tensor) -> Tensor:
        rows = [
            [[self.said.get((*one[1 : t + 1], w), float(self.others[w])) for w in range(WORDS)] for t in range(len(one))]
            for one in prefix.tolist()
        ]  # fmt: skip
        return torch.tensor(rows)


@pytest.mark.parametrize("beam", [2, 3, 4])
def test_what_the_loss_asks_for_is_what_the_search_says(beam: int) -> None:
    """A reference that no prefix violates is the result, though a longer sentence would end with a higher score."""
    model = Prefixes(
        {
            (4,): 9.0,
            (4, 5): 9.0,
            (4, 5, 6): 9.0,
            (4, 5, 6, EOS): 9.0,
            (4, 5, 6, 7): 7.0,
            (4, 5, 6, 7, EOS): 50.0,
        }
    )
    source, labels = torch.zeros(1, 1, dtype=torch.int64), torch.tensor([[4, 5, 6, EOS]])
    searched = margin_search(model, source, labels, torch.tensor([4]), beam=beam, forbidden=FORBIDDEN)
    assert not searched.lengths.any()
    found = beam_search(LastScore(model), source, beam=beam, max_length=6)
    assert found.tokens.tolist() == [[4, 5, 6, EOS]] and found.scores.tolist() == [9.0]
    compared = beam_search(LastScore(model, comparable=True), source, beam=beam, max_length=6)
    assert compared.tokens.tolist() == [[4, 5, 6, 7, EOS]]


def test_what_needs_probabilities_is_refused() -> None:
    model, (source, _, _) = Scores(0), gold(0)
    with pytest.raises(ValueError, match="length_penalty is of log-probabilities and must be 0"):
        beam_search(LastScore(model), source, max_length=5, length_penalty=1.0)
    for options, word in (({"samples": 2}, "samples"), ({"block_ngrams": 2}, "block_ngrams")):
        with pytest.raises(ValueError, match=f"{word} needs probabilities, but the model gives scores"):
            Decoding(**options).of_model([LastScore(model)])
    with pytest.raises(ValueError, match="an ensemble needs probabilities"):
        Decoding().of_model([LastScore(model), model])
    assert isinstance(Decoding().of_model([LastScore(model)]), LastScore)
