"""The reference BLEU against values worked out by hand and against sacrebleu."""

from __future__ import annotations

import math

import pytest
import torch
from sacrebleu.metrics import BLEU

from softbellman.reference.bleu import (
    bleu_rewards,
    corpus_bleu,
    corpus_bleu_statistics,
    prefix_bleu,
    sentence_bleu,
)

EOS, UNK = 3, 1


def test_prefixes_by_hand() -> None:
    # the 6 8 bigram is wrong, the second 5 is clipped; brevity exp(1 - 3 / t) for t < 3
    scores = prefix_bleu(
        torch.tensor([[5, 6, 8, 5]]), torch.tensor([[5, 6, 7]]), max_order=2, dtype=torch.float64
    )
    expected = [
        math.exp(-2.0),  # 1/1 and, smoothed, 1/1
        math.exp(-0.5),  # 2/2, 2/2
        math.sqrt(2 / 3 * 2 / 3),
        math.sqrt(2 / 4 * 2 / 4),
    ]
    torch.testing.assert_close(scores, torch.tensor([expected], dtype=torch.float64), rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("smoothing", "expected"),
    [
        ("none", 0.0),
        ("floor", (2 / 3 * 0.1 / 2 * 0.1 / 1) ** (1 / 3)),
        ("exp", (2 / 3 * 0.5 / 2 * 0.25 / 1) ** (1 / 3)),
        ("add-k", (2 / 3 * 1 / 3 * 1 / 2) ** (1 / 3)),
        ("add-one-all", (3 / 4 * 1 / 3 * 1 / 2) ** (1 / 3)),
    ],
)
def test_smoothings_by_hand(smoothing: str, expected: float) -> None:
    # two of three unigrams match, no bigram, no trigram
    score = sentence_bleu(
        torch.tensor([[5, 9, 6]]),
        torch.tensor([[5, 6, 7]]),
        max_order=3,
        smoothing=smoothing,
        dtype=torch.float64,
    )
    assert score.item() == pytest.approx(expected, rel=1e-14)


def test_several_references_clip_at_the_maximum_and_take_the_closest_length() -> None:
    references = torch.tensor([[[5, 5, 0, 0, 0], [5, 6, 6, 0, 0], [7, 7, 7, 7, 7]]])
    statistics = corpus_bleu_statistics(
        torch.tensor([[5, 5, 5, 6]]), references, reference_lengths=torch.tensor([[2, 3, 5]]), max_order=2
    )
    # 5 twice (not three times), 6 once; bigrams 5 5 once, 5 6 once; lengths 3 and 5 tie: the shorter
    assert statistics.tolist() == [3, 2, 4, 3, 4, 3]


def test_eos_and_unmatched_tokens() -> None:
    hypothesis = torch.tensor([[5, UNK, EOS, 5]])
    reference = torch.tensor([[5, UNK, EOS, 9]])
    statistics = corpus_bleu_statistics(hypothesis, reference, max_order=2, eos_id=EOS)
    assert statistics.tolist() == [2, 1, 2, 1, 2, 2]
    statistics = corpus_bleu_statistics(hypothesis, reference, max_order=2, eos_id=EOS, unmatched_id=UNK)
    assert statistics.tolist() == [1, 0, 2, 1, 2, 2]
    rewards = bleu_rewards(hypothesis, reference, max_order=2, eos_id=EOS, dtype=torch.float64)
    expected = [[2 * math.exp(-1), 2 - 2 * math.exp(-1), 0, 0]]
    torch.testing.assert_close(rewards, torch.tensor(expected, dtype=torch.float64), rtol=1e-14, atol=1e-15)


def test_nothing_to_score_is_zero() -> None:
    tokens = torch.tensor([[5, 6], [5, 6]])
    lengths = torch.tensor([0, 2])
    for smoothing in ("add-k", "add-one-all"):
        kwargs = {"hypothesis_lengths": lengths, "reference_lengths": lengths.flip(0), "smoothing": smoothing}
        assert prefix_bleu(tokens, tokens, **kwargs).tolist() == [[0, 0], [0, 0]]
        assert sentence_bleu(tokens, tokens, **kwargs).tolist() == [0, 0]
        assert bleu_rewards(tokens, tokens, **kwargs).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("effective_order", [False, True])
@pytest.mark.parametrize(
    ("smoothing", "value"), [("none", None), ("floor", 0.2), ("add-k", None), ("add-k", 2.0), ("exp", None)]
)
def test_sacrebleu(smoothing: str, value: float | None, effective_order: bool) -> None:
    metric = BLEU(
        smooth_method=smoothing,
        smooth_value=value,
        effective_order=effective_order,
        tokenize="none",
        force=True,
    )
    generator = torch.Generator().manual_seed(0)
    hypotheses = torch.randint(4, 8, (60, 9), generator=generator)
    references = torch.randint(4, 8, (60, 3, 9), generator=generator)
    lengths = torch.randint(0, 10, (60,), generator=generator)
    reference_lengths = torch.randint(0, 10, (60, 3), generator=generator)
    reference_lengths[:, 0].clamp_(min=1)
    kwargs = {"hypothesis_lengths": lengths, "reference_lengths": reference_lengths}
    scoring = {"smoothing": smoothing, "smooth_value": value, "effective_order": effective_order}
    scores = sentence_bleu(hypotheses, references, **kwargs, **scoring, dtype=torch.float64)
    texts, reference_texts = [], []
    for b in range(60):
        texts.append(" ".join(map(str, hypotheses[b, : lengths[b]].tolist())))
        reference_texts.append(
            [
                " ".join(map(str, references[b, r, :length].tolist()))
                for r, length in enumerate(reference_lengths[b].tolist())
                if length > 0
            ]
        )
        assert scores[b].item() == pytest.approx(
            metric.sentence_score(texts[b], reference_texts[b]).score / 100, abs=1e-9
        )
    columns = [[row[r] if r < len(row) else None for row in reference_texts] for r in range(3)]
    expected = metric.corpus_score(texts, columns)
    statistics = corpus_bleu_statistics(hypotheses, references, **kwargs)
    assert statistics[-2:].tolist() == [expected.sys_len, expected.ref_len]
    assert corpus_bleu(statistics, **scoring) == pytest.approx(expected.score, abs=1e-9)
