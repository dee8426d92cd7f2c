"""CIDEr-D and ROUGE-L against their references, the COCO caption tools, and what holds for every batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import softbellman as ops
from payoffs.bleu_cases import BleuBatch, random_batch, text
from payoffs.payoff_cases import CAPTIONS, CIDER_SCORES, ROUGE_SCORES, both_frequencies, captions, rows
from softbellman import DocumentFrequencies, reference

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "eos": {"eos_id": 6},
    "unmatched": {"unmatched_id": 5},
    "everything": {"eos_id": 8, "unmatched_id": 4},
}
# Lengths of 63 to 130 cross the words of the common subsequence's row.
SIZES: tuple[dict[str, int], ...] = (
    {},
    {"sources": 1, "samples": 1, "references": 1, "length": 1, "reference_length": 1},
    {"sources": 2, "samples": 3, "references": 4, "length": 20, "reference_length": 9, "alphabet": 2},
    {"sources": 1, "samples": 3, "references": 2, "length": 5, "reference_length": 33, "alphabet": 1},
    {"sources": 2, "samples": 1, "references": 3, "length": 20, "reference_length": 64, "alphabet": 6},
    {"sources": 2, "samples": 1, "references": 2, "length": 40, "reference_length": 130, "alphabet": 3},
)
CIDER = ("prefix_cider", "sentence_cider", "cider_rewards")
ROUGE = ("prefix_rouge_l", "sentence_rouge_l", "rouge_l_rewards")


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("size", range(len(SIZES)))
def test_against_reference(size: int, options: dict[str, Any]) -> None:
    for seed, max_order, sigma, beta in ((0, 4, 6.0, 1.2), (1, 2, 1.5, 0.5), (2, 7, 30.0, 3.0)):
        batch = random_batch(seed, **SIZES[size], copied=0.8 if seed else 0.2)
        native, plain = both_frequencies(batch, max_order=max_order, **options)
        for name in (*CIDER, *ROUGE):
            chosen = {"sigma": sigma} if name in CIDER else {"beta": beta}
            with_native = chosen | ({"frequencies": native} if name in CIDER else {})
            with_plain = chosen | ({"frequencies": plain} if name in CIDER else {})
            scales = ({"scale": "none"}, {"scale": "reference_length"}) if "rewards" in name else ({},)
            for scale in scales:
                exact = getattr(ops, name)(
                    **batch.arguments(), **options, **with_native, **scale, dtype=torch.float64
                )
                rounded = getattr(ops, name)(**batch.arguments(), **options, **with_native, **scale)
                expected = getattr(reference, name)(
                    **batch.arguments(), **options, **with_plain, **scale, dtype=torch.float64
                )
                assert exact.dtype == torch.float64 and rounded.dtype == torch.float32
                torch.testing.assert_close(exact, expected, rtol=1e-12, atol=2e-12)
                assert torch.equal(rounded, exact.float())


def test_captions_score_what_the_coco_tools_say() -> None:
    batch = captions()
    frequencies = DocumentFrequencies.from_references(
        batch["references"], reference_lengths=batch["reference_lengths"]
    )
    cider = ops.sentence_cider(**batch, frequencies=frequencies, dtype=torch.float64)
    rouge = ops.sentence_rouge_l(**batch, dtype=torch.float64)
    torch.testing.assert_close(
        cider.view(-1), torch.tensor(CIDER_SCORES, dtype=torch.float64), rtol=1e-14, atol=0
    )
    torch.testing.assert_close(
        rouge.view(-1), torch.tensor(ROUGE_SCORES, dtype=torch.float64), rtol=1e-15, atol=0
    )
    assert ops.corpus_cider(**batch, frequencies=frequencies) == pytest.approx(sum(CIDER_SCORES) / 6)
    assert ops.corpus_rouge_l(**batch) == pytest.approx(sum(ROUGE_SCORES) / 6)


def test_every_prefix_scores_what_the_coco_tools_say() -> None:
    cider = pytest.importorskip("pycocoevalcap.cider.cider", reason="pycocoevalcap is not installed")
    rouge = pytest.importorskip("pycocoevalcap.rouge.rouge", reason="pycocoevalcap is not installed")
    batch = random_batch(0, sources=12, samples=1, references=4, alphabet=9)
    batch.reference_lengths[:, 0].clamp_(min=1)  # they want one reference at least
    frequencies = DocumentFrequencies.from_references(
        batch.references, reference_lengths=batch.reference_lengths
    )
    ours = ops.prefix_cider(**batch.arguments(), frequencies=frequencies, dtype=torch.float64)
    common = ops.prefix_rouge_l(**batch.arguments(), dtype=torch.float64)
    gold = {b: list(map(text, batch.present_references(b))) for b in range(12)}
    for t in range(12):
        results = {b: [text(batch.hypothesis(b, 0)[: t + 1])] for b in range(12)}
        scores = cider.Cider().compute_score(gold, results)[1]
        lcs = rouge.Rouge().compute_score(gold, results)[1]
        for b in range(12):
            if len(batch.hypothesis(b, 0)) > t:
                assert ours[b, 0, t].item() == pytest.approx(scores[b], abs=1e-13)
                assert common[b, 0, t].item() == pytest.approx(lcs[b], abs=1e-15)


def test_the_captions_are_read_as_written() -> None:
    hypotheses, lengths = rows([[row[0]] for row in CAPTIONS])
    assert lengths.view(-1).tolist() == [len(row[0].split()) for row in CAPTIONS]
    assert hypotheses.shape == (6, 1, int(lengths.max()))


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
identities = st.fixed_dictionaries(
    {"eos_id": st.sampled_from((None, 4, 7)), "unmatched_id": st.sampled_from((None, 5))}
)
check = settings(max_examples=30, deadline=None, derandomize=True)


def everything(batch: BleuBatch, native: DocumentFrequencies, **options: Any) -> dict[str, Tensor]:
    arguments = batch.arguments() | options
    return {
        name: getattr(ops, name)(**arguments, **({"frequencies": native} if name in CIDER else {}))
        for name in (*CIDER, *ROUGE)
    }


@check
@given(batches, identities)
def test_sentences_are_full_prefixes_and_sums_of_rewards(batch: BleuBatch, chosen: dict[str, Any]) -> None:
    native, _ = both_frequencies(batch, **chosen)
    results = everything(batch, native, **chosen, dtype=torch.float64)
    for (prefix, sentence, rewards), highest in ((CIDER, 10.0), (ROUGE, 1.0)):
        prefixes, sentences = results[prefix], results[sentence]
        assert prefixes.min() >= 0 and prefixes.max() <= highest * (1 + 1e-14)
        torch.testing.assert_close(results[rewards].sum(-1), sentences, rtol=1e-12, atol=1e-12)
        for b, k in torch.cartesian_prod(*map(torch.arange, sentences.shape)).reshape(-1, 2).tolist():
            tokens = batch.hypothesis(b, k)
            length = tokens.index(chosen["eos_id"]) if chosen["eos_id"] in tokens else len(tokens)
            assert sentences[b, k] == (prefixes[b, k, length - 1] if length else 0)
            assert prefixes[b, k, length:].count_nonzero() == 0
            assert results[rewards][b, k, length:].count_nonzero() == 0


@check
@given(batches, identities, st.randoms(use_true_random=False))
def test_order_of_references_and_samples(batch: BleuBatch, chosen: dict[str, Any], random: Any) -> None:
    native, _ = both_frequencies(batch, **chosen)
    references = list(range(batch.references.shape[1]))
    samples = list(range(batch.hypotheses.shape[1]))
    random.shuffle(references)
    random.shuffle(samples)
    shuffled = BleuBatch(
        batch.hypotheses[:, samples],
        batch.references[:, references],
        batch.hypothesis_lengths[:, samples],
        batch.reference_lengths[:, references],
    )
    expected = everything(batch, native, **chosen, dtype=torch.float64)
    for name, value in everything(shuffled, native, **chosen, dtype=torch.float64).items():
        tolerance = 0.0 if name in ROUGE else 1e-12  # a sum over references in another order
        torch.testing.assert_close(value, expected[name][:, samples], rtol=tolerance, atol=tolerance)


@check
@given(batches)
def test_a_copy_of_the_only_reference(batch: BleuBatch) -> None:
    native, _ = both_frequencies(batch)
    lengths = batch.reference_lengths[:, :1]
    arguments = {
        "hypotheses": batch.references[:, :1],
        "references": batch.references[:, :1],
        "hypothesis_lengths": lengths,
        "reference_lengths": lengths,
        "dtype": torch.float64,
    }
    rouge = ops.sentence_rouge_l(**arguments)
    torch.testing.assert_close(rouge, (lengths > 0).double(), rtol=1e-15, atol=0)
    # each order that fits into the caption and weighs anything adds 10 / 4
    cider = ops.sentence_cider(**arguments, frequencies=native)
    for b, score in enumerate(cider.view(-1).tolist()):
        tokens = batch.references[b, 0, : lengths[b, 0]].tolist()
        weighed = sum(
            any(native.count(tokens[i : i + n]) < native.documents for i in range(len(tokens) - n + 1))
            for n in range(1, 5)
        )
        assert score == pytest.approx(2.5 * weighed, abs=1e-12)


@check
@given(batches, identities)
def test_padding_and_company_change_nothing(batch: BleuBatch, chosen: dict[str, Any]) -> None:
    native, _ = both_frequencies(batch, **chosen)
    expected = everything(batch, native, **chosen)
    references = torch.nn.functional.pad(batch.references, (0, 70), value=4)
    padded = BleuBatch(
        torch.nn.functional.pad(batch.hypotheses, (0, 3), value=4),
        torch.cat([references, torch.full_like(references[:, :1], 4)], 1),  # one more, absent
        batch.hypothesis_lengths,
        torch.nn.functional.pad(batch.reference_lengths, (0, 1)),
    )
    for name, value in everything(padded, native, **chosen).items():
        width = value.shape[-1] - (0 if "sentence" in name else 3)
        assert torch.equal(value[..., :width], expected[name]), name
        assert value[..., width:].count_nonzero() == 0
    alone = BleuBatch(*(tensor[-1:] for tensor in batch))
    for name, value in everything(alone, native, **chosen).items():
        assert torch.equal(value, expected[name][-1:]), name


@pytest.fixture
def restore_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_thread_counts(restore_threads: None) -> None:
    """Enough work for several threads, with fewer sources than threads and with more."""
    for sources, samples in ((1, 60), (3, 30), (40, 5)):
        batch = random_batch(0, sources=sources, samples=samples, length=50, reference_length=40, alphabet=9)
        native, _ = both_frequencies(batch)
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(everything(batch, native))
        for other in results[1:]:
            assert all(torch.equal(value, other[name]) for name, value in results[0].items())
