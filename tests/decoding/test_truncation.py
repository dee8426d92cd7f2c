"""Top-k and nucleus sampling against a definition in Python, and draws without them as they were."""

from __future__ import annotations

import math

import pytest
import torch

from decoding.small_models import TableModel
from softbellman.decoding import sample
from softbellman.decoding.experimental import GraphSampler
from softbellman.decoding.nucleus import truncate
from softbellman.models import AttentionSeq2Seq

SOURCE = torch.arange(8)[:, None]


def kept_by_definition(row: list[float], banned: set[int], temperature: float, k: int, p: float) -> set[int]:
    """Ids that stay: most probable first, until there are k of them or their probabilities reach p."""
    allowed = {token: value / temperature for token, value in enumerate(row) if token not in banned}
    total = math.fsum(math.exp(value) for value in allowed.values())
    kept: set[int] = set()
    mass = 0.0
    for token in sorted(allowed, key=lambda token: (-allowed[token], token)):
        if kept and (mass >= p < 1.0 or len(kept) == k):
            break
        kept.add(token)
        mass += math.exp(allowed[token]) / total
    return kept


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(("k", "p"), [(1, 1.0), (3, 1.0), (0, 0.5), (0, 0.9), (2, 0.8), (50, 1.0), (0, 1e-9)])
def test_what_stays(k: int, p: float, temperature: float) -> None:
    torch.manual_seed(1)
    logits = torch.randn(20, 11)
    logits[3, 4] = -math.inf
    logits[5] = 0.25  # all alike: smaller ids stay
    banned = {0, 1, 2}
    forbidden = torch.tensor([token in banned for token in range(11)])
    found = truncate(logits, forbidden, temperature, k, p)
    for row, result in zip(logits.tolist(), found, strict=True):
        wanted = kept_by_definition(row, banned, temperature, k, p)
        stayed = {token for token in range(11) if token not in banned and result[token] > -math.inf}
        assert stayed == {token for token in wanted if row[token] > -math.inf}
    same = found.isfinite()
    assert torch.equal(found[same], logits[same])


def test_draws_come_from_what_stays_with_its_probabilities() -> None:
    model = TableModel(9, 1, seed=3)
    source = torch.full((4000, 1), 2)
    drawn = sample(model, source, max_length=1, seed=5, top_k=3, temperature=0.8)
    logits = model(source[:1], torch.tensor([[2]]))[0, 0].detach() / 0.8
    logits[:3] = -math.inf
    top = logits.topk(3)
    wanted = top.values.softmax(0)
    counts = torch.stack([(drawn.tokens[:, 0] == token).double().mean() for token in top.indices])
    assert float(counts.sum()) == 1.0
    assert torch.allclose(counts, wanted, atol=0.03)
    first = int((top.indices == drawn.tokens[0, 0]).nonzero())
    assert float(drawn.log_probs[0, 0]) == pytest.approx(float(wanted[first].log()), abs=1e-5)


def test_one_token_that_stays_is_greedy_whatever_the_seed() -> None:
    model = TableModel(9, 5, seed=3)
    rows = {
        tuple(sample(model, SOURCE, max_length=5, seed=seed, top_k=1).tokens.flatten().tolist())
        for seed in range(5)
    }
    assert len(rows) == 1


def test_neutral_options_change_no_draw() -> None:
    torch.manual_seed(2)
    model = AttentionSeq2Seq(9, 9, embedding=6, hidden=6, attention_size=6, init_range=1.0).eval()
    plain = sample(model, SOURCE, max_length=6, seed=11, samples=3)
    neutral = sample(model, SOURCE, max_length=6, seed=11, samples=3, top_k=0, top_p=1.0)
    wide = sample(model, SOURCE, max_length=6, seed=11, samples=3, top_k=100)
    for other in (neutral, wide):
        assert torch.equal(plain.tokens, other.tokens) and torch.equal(plain.log_probs, other.log_probs)


def test_bad_values_are_refused() -> None:
    model = AttentionSeq2Seq(9, 9, embedding=6, hidden=6, attention_size=6)
    with pytest.raises(ValueError, match="top_k must be at least 0, got -1"):
        sample(model, SOURCE, max_length=3, seed=1, top_k=-1)
    for p in (0.0, 1.1, math.nan):
        with pytest.raises(ValueError, match="top_p must be above 0 and at most 1"):
            sample(model, SOURCE, max_length=3, seed=1, top_p=p)
    with pytest.raises(ValueError, match="top_k and top_p are not captured in graphs"):
        sample(GraphSampler(model), SOURCE, max_length=3, seed=1, top_k=2)
