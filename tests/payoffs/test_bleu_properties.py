"""What holds for every batch: drawn by hypothesis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from payoffs.bleu_cases import BleuBatch, random_batch
from softbellman.payoffs.bleu import (
    bleu_rewards,
    corpus_bleu,
    corpus_bleu_statistics,
    prefix_bleu,
    sentence_bleu,
)

SMOOTHINGS = ("none", "floor", "add-k", "exp", "add-one-all", "add-k-length")
batches = st.builds(
    random_batch,
    st.integers(0, 2**31),
    sources=st.integers(1, 4),
    samples=st.integers(1, 4),
    references=st.integers(1, 4),
    length=st.integers(1, 20),
    reference_length=st.integers(1, 20),
    alphabet=st.integers(1, 8),
    copied=st.sampled_from((0.0, 0.5, 0.95)),
)
options = st.fixed_dictionaries(
    {
        "smoothing": st.sampled_from(SMOOTHINGS),
        "max_order": st.integers(1, 8),
        "effective_order": st.booleans(),
        "eos_id": st.sampled_from((None, 4, 7)),
        "unmatched_id": st.sampled_from((None, 5)),
    }
)
check = settings(max_examples=60, deadline=None, derandomize=True)


@pytest.fixture(autouse=True)
def restore_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@check
@given(batches, options)
def test_range_and_final_prefix(batch: BleuBatch, chosen: dict[str, Any]) -> None:
    prefixes = prefix_bleu(**batch.arguments(), **chosen)
    assert prefixes.min() >= 0 and prefixes.max() <= 1
    sentences = sentence_bleu(**batch.arguments(), **chosen)
    for b, k in torch.cartesian_prod(*map(torch.arange, sentences.shape)).reshape(-1, 2).tolist():
        tokens = batch.hypothesis(b, k)
        length = tokens.index(chosen["eos_id"]) if chosen["eos_id"] in tokens else len(tokens)
        assert sentences[b, k] == (prefixes[b, k, length - 1] if length else 0)
        assert prefixes[b, k, length:].count_nonzero() == 0


@check
@given(batches, options)
def test_rewards_add_up_to_the_payoff(batch: BleuBatch, chosen: dict[str, Any]) -> None:
    for scale in ("none", "reference_length"):
        rewards = bleu_rewards(**batch.arguments(), **chosen, scale=scale)
        payoff = sentence_bleu(**batch.arguments(), **chosen, dtype=torch.float64)
        if scale == "reference_length":
            for b in range(payoff.shape[0]):
                lengths = [
                    row.index(chosen["eos_id"]) if chosen["eos_id"] in row else len(row)
                    for row in batch.present_references(b)
                ]
                lengths = [length for length in lengths if length > 0]
                payoff[b] *= sum(lengths) / len(lengths) if lengths else 0
        torch.testing.assert_close(rewards.double().sum(-1), payoff, rtol=1e-6, atol=1e-6)


@check
@given(batches, options, st.randoms(use_true_random=False))
def test_order_of_references_and_of_samples(batch: BleuBatch, chosen: dict[str, Any], random: Any) -> None:
    references = list(range(batch.references.shape[1]))
    samples = list(range(batch.hypotheses.shape[1]))
    random.shuffle(references)
    random.shuffle(samples)
    expected = prefix_bleu(**batch.arguments(), **chosen)
    shuffled = BleuBatch(
        batch.hypotheses[:, samples],
        batch.references[:, references],
        batch.hypothesis_lengths[:, samples],
        batch.reference_lengths[:, references],
    )
    assert torch.equal(prefix_bleu(**shuffled.arguments(), **chosen), expected[:, samples])


@check
@given(batches, options)
def test_a_copy_of_a_reference_scores_one(batch: BleuBatch, chosen: dict[str, Any]) -> None:
    chosen = {**chosen, "eos_id": None, "unmatched_id": None}
    scores = sentence_bleu(
        batch.references,
        batch.references,
        hypothesis_lengths=batch.reference_lengths,
        reference_lengths=batch.reference_lengths,
        **chosen,
        dtype=torch.float64,
    )
    needed = 1 if chosen["effective_order"] or chosen["smoothing"].startswith("add") else chosen["max_order"]
    expected = (batch.reference_lengths >= needed).double()
    if chosen["smoothing"] == "add-k-length":  # as if the reference had one token more; see the module
        expected *= torch.exp(-1.0 / batch.reference_lengths.double())
    torch.testing.assert_close(scores, expected, rtol=1e-14, atol=0)


@check
@given(batches, options)
def test_padding_changes_nothing(batch: BleuBatch, chosen: dict[str, Any]) -> None:
    expected = prefix_bleu(**batch.arguments(), **chosen)
    hypotheses = torch.nn.functional.pad(batch.hypotheses, (0, 3), value=4)
    references = torch.nn.functional.pad(batch.references, (0, 5), value=4)
    references = torch.cat([references, torch.full_like(references[:, :1], 4)], 1)  # one more, absent
    lengths = torch.nn.functional.pad(batch.reference_lengths, (0, 1))
    padded = prefix_bleu(
        hypotheses,
        references,
        hypothesis_lengths=batch.hypothesis_lengths,
        reference_lengths=lengths,
        **chosen,
    )
    assert torch.equal(padded[..., :-3], expected)
    assert padded[..., -3:].count_nonzero() == 0


@check
@given(batches, options)
def test_a_hypothesis_is_scored_alone(batch: BleuBatch, chosen: dict[str, Any]) -> None:
    together = bleu_rewards(**batch.arguments(), **chosen)
    for b, k in torch.cartesian_prod(*map(torch.arange, together.shape[:2])).reshape(-1, 2).tolist():
        alone = BleuBatch(
            batch.hypotheses[b : b + 1, k : k + 1],
            batch.references[b : b + 1],
            batch.hypothesis_lengths[b : b + 1, k : k + 1],
            batch.reference_lengths[b : b + 1],
        )
        assert torch.equal(bleu_rewards(**alone.arguments(), **chosen)[0, 0], together[b, k])


@check
@given(batches, st.integers(1, 8))
def test_corpus_statistics_add_up(batch: BleuBatch, max_order: int) -> None:
    whole = corpus_bleu_statistics(**batch.arguments(), max_order=max_order)
    parts = [
        corpus_bleu_statistics(
            **{name: value[b : b + 1] for name, value in batch.arguments().items()}, max_order=max_order
        )
        for b in range(batch.hypotheses.shape[0])
    ]
    assert torch.equal(torch.stack(parts).sum(0), whole)
    assert 0 <= corpus_bleu(whole) <= 100


def test_thread_counts() -> None:
    """Enough work for several threads, with fewer sources than threads and with more."""
    for sources, samples in ((1, 160), (3, 60), (40, 5)):
        batch = random_batch(0, sources=sources, samples=samples, length=70, reference_length=60, alphabet=9)
        results = []
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            results.append((bleu_rewards(**batch.arguments()), corpus_bleu_statistics(**batch.arguments())))
        for rewards, statistics in results[1:]:
            assert torch.equal(rewards, results[0][0])
            assert torch.equal(statistics, results[0][1])
