"""BLEU operators against the reference, sacrebleu and their promises to PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from payoffs.bleu_cases import SACREBLEU_SMOOTHINGS, random_batch, sacrebleu, sacrebleu_sentence, text
from softbellman.payoffs import bleu as ops
from softbellman.payoffs.bleu import (
    bleu_rewards,
    corpus_bleu,
    corpus_bleu_statistics,
    prefix_bleu,
    sentence_bleu,
)
from softbellman.reference import bleu as reference

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "none": {"smoothing": "none"},
    "effective": {"smoothing": "none", "effective_order": True},
    "floor": {"smoothing": "floor", "max_order": 3},
    "exp": {"smoothing": "exp", "max_order": 2},
    "exp effective": {"smoothing": "exp", "effective_order": True, "max_order": 6},
    "add-k": {"smoothing": "add-k", "smooth_value": 0.25, "max_order": 8},
    "add-one-all": {"smoothing": "add-one-all", "unmatched_id": 5},
    "add-k-length": {"smoothing": "add-k-length"},
    "add-k-length, less": {"smoothing": "add-k-length", "smooth_value": 0.5, "max_order": 3, "eos_id": 8},
    "unigrams": {"max_order": 1, "eos_id": 6},
    "everything": {"max_order": 5, "eos_id": 8, "unmatched_id": 4, "smoothing": "floor", "smooth_value": 0.5},
}
SIZES: tuple[dict[str, int], ...] = (
    {},
    {"sources": 1, "samples": 1, "references": 1, "length": 1, "reference_length": 1},
    {"sources": 5, "samples": 1, "references": 1, "alphabet": 2},
    {"sources": 2, "samples": 3, "references": 4, "length": 20, "reference_length": 9, "alphabet": 2},
    {"sources": 1, "samples": 3, "references": 2, "length": 5, "reference_length": 33, "alphabet": 1},
    {"sources": 2, "samples": 2, "references": 2, "length": 24, "reference_length": 24, "alphabet": 1000},
)
SCORES: tuple[str, ...] = ("prefix_bleu", "sentence_bleu", "bleu_rewards")


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("size", range(len(SIZES)))
def test_against_reference(size: int, options: dict[str, Any]) -> None:
    for seed in range(2):
        batch = random_batch(seed, **SIZES[size], copied=0.8 if seed else 0.2).arguments()
        for name in SCORES:
            for dtype, tolerance in ((torch.float64, 1e-13), (torch.float32, 6e-8)):
                ours = getattr(ops, name)(**batch, **options, dtype=dtype)
                expected = getattr(reference, name)(**batch, **options, dtype=torch.float64)
                assert ours.dtype == dtype
                scale = 40.0 if name == "bleu_rewards" else 1.0
                torch.testing.assert_close(ours.double(), expected, rtol=tolerance, atol=tolerance * scale)
        counting = {key: options[key] for key in ("max_order", "eos_id", "unmatched_id") if key in options}
        ours = corpus_bleu_statistics(**batch, **counting)
        assert torch.equal(ours, reference.corpus_bleu_statistics(**batch, **counting))


@pytest.mark.parametrize("effective_order", [False, True])
@pytest.mark.parametrize(("smoothing", "value"), SACREBLEU_SMOOTHINGS)
def test_sacrebleu_on_every_prefix(smoothing: str, value: float | None, effective_order: bool) -> None:
    metric = sacrebleu(smoothing, value, effective_order)
    batch = random_batch(7, sources=6, references=3, alphabet=4)
    scoring = {"smoothing": smoothing, "smooth_value": value, "effective_order": effective_order}
    prefixes = prefix_bleu(**batch.arguments(), **scoring, dtype=torch.float64)
    sentences = sentence_bleu(**batch.arguments(), **scoring, dtype=torch.float64)
    for b, k in product(range(6), range(2)):
        tokens, references = batch.hypothesis(b, k), batch.present_references(b)
        for t in range(len(tokens)):
            expected = sacrebleu_sentence(metric, tokens[: t + 1], references)
            assert prefixes[b, k, t].item() == pytest.approx(expected, abs=1e-9)
        assert prefixes[b, k, len(tokens) :].count_nonzero() == 0
        expected = sacrebleu_sentence(metric, tokens, references)
        assert sentences[b, k].item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("max_order", [1, 3, 4, 8])
@pytest.mark.parametrize(("smoothing", "value"), SACREBLEU_SMOOTHINGS)
def test_sacrebleu_on_corpora(smoothing: str, value: float | None, max_order: int) -> None:
    batch = random_batch(3, sources=40, samples=1, references=3, alphabet=3, copied=0.9)
    batch.reference_lengths[:, 0].clamp_(min=1)  # sacrebleu wants one reference at least
    references = [batch.present_references(b) for b in range(40)]
    columns = [[text(row[r]) if r < len(row) else None for row in references] for r in range(3)]
    for effective_order in (False, True):
        metric = sacrebleu(smoothing, value, effective_order, max_order)
        expected = metric.corpus_score([text(batch.hypothesis(b, 0)) for b in range(40)], columns)
        statistics = corpus_bleu_statistics(**batch.arguments(), max_order=max_order)
        assert statistics[:max_order].tolist() == expected.counts[:max_order] or smoothing == "add-k"
        assert statistics[-2:].tolist() == [expected.sys_len, expected.ref_len]
        ours = corpus_bleu(
            statistics, smoothing=smoothing, smooth_value=value, effective_order=effective_order
        )
        assert ours == pytest.approx(expected.score, abs=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_counts_of_every_prefix(seed: int) -> None:
    """A quick share of benchmarks/bleu_fuzz.py, which counts a million pairs."""
    batch = random_batch(seed, sources=8, samples=4, references=1 + seed % 4, alphabet=2 + seed, length=14)
    for max_order, eos, unmatched in ((4, None, None), (7, 4, None), (2, None, 5)):
        counts = torch.ops.softbellman.bleu_counts(*batch_positional(batch), eos, unmatched, max_order, True)
        assert counts.shape == (8, 4, 14, 2 * max_order + 2)
        sources = reference._sequences(batch.references, batch.reference_lengths, eos)
        for b, rows in enumerate(reference._sequences(batch.hypotheses, batch.hypothesis_lengths, eos)):
            for k, tokens in enumerate(rows):
                expected = [
                    reference._statistics(tokens[: t + 1], sources[b], max_order, unmatched).flat()
                    for t in range(len(tokens))
                ]
                assert counts[b, k, : len(tokens)].tolist() == expected
                assert counts[b, k, len(tokens) :].count_nonzero() == 0


def batch_positional(batch: Any) -> tuple[Tensor, ...]:
    return batch.hypotheses, batch.references, batch.hypothesis_lengths, batch.reference_lengths


def test_any_int64_is_a_token() -> None:
    """Extreme ids, and multiples of 2^32 and 2^58, which agree in the bits a weak hash would look at."""
    shifted = [*(i << 32 for i in range(1, 32)), *(i << 58 for i in range(-8, 8))]
    ids = torch.tensor([-(2**63), 2**63 - 1, -1, 0, 1, *shifted])
    tokens = ids[torch.randint(len(ids), (3, 2, 64), generator=torch.Generator().manual_seed(0))]
    batch = {"hypotheses": tokens, "references": tokens.flip(1).roll(1, 2)}
    for options in ({}, {"eos_id": -(2**63)}, {"unmatched_id": 2**63 - 1}):
        ours = prefix_bleu(**batch, **options, dtype=torch.float64)
        expected = reference.prefix_bleu(**batch, **options, dtype=torch.float64)
        torch.testing.assert_close(ours, expected, rtol=1e-13, atol=0)


def test_shapes() -> None:
    batch = random_batch(1, sources=4, samples=1, references=1)
    for name in SCORES:
        function: Callable[..., Tensor] = globals()[name]
        full = function(**batch.arguments())
        flat = function(
            batch.hypotheses[:, 0],
            batch.references[:, 0],
            hypothesis_lengths=batch.hypothesis_lengths[:, 0].int(),
            reference_lengths=batch.reference_lengths[:, 0],
        )
        assert torch.equal(flat, full[:, 0])
        assert flat.shape == ((4,) if name == "sentence_bleu" else (4, 12))


def test_added_counts_favour_the_short_unless_they_are_added_to_the_length() -> None:
    """Nakov et al. 2012: of a hypothesis without one 3-gram of the reference, the end is worth leaving out to add-k."""
    reference_tokens = torch.tensor([[10, 11, 12, 13, 14, 15, 16, 17, 18, 19]])
    said = torch.tensor([[10, 11, 90, 12, 13, 91, 14, 92, 93, 94]])
    whole = {
        smoothing: prefix_bleu(said, reference_tokens, smoothing=smoothing)[0]
        for smoothing in ("add-k", "add-k-length")
    }
    assert whole["add-k"][-1] < whole["add-k"].max()
    assert whole["add-k-length"].argmax() > whole["add-k"].argmax()
    expected = whole["add-k"] * torch.exp(-1.0 / torch.arange(1, 11))
    torch.testing.assert_close(whole["add-k-length"], expected)


@pytest.mark.parametrize("shape", [(0, 2, 5), (2, 0, 5), (2, 3, 0)])
def test_empty_batches(shape: tuple[int, int, int]) -> None:
    hypotheses = torch.zeros(shape, dtype=torch.int64)
    references = torch.zeros((shape[0], 1, 4), dtype=torch.int64)
    assert prefix_bleu(hypotheses, references).shape == shape
    assert bleu_rewards(hypotheses, references).shape == shape
    assert torch.equal(sentence_bleu(hypotheses, references), torch.zeros(shape[:2]))
    assert corpus_bleu_statistics(hypotheses, references)[:-1].tolist() == [0] * 9


def test_references_of_width_zero_are_absent() -> None:
    hypotheses = torch.tensor([[5, 6]])
    assert prefix_bleu(hypotheses, torch.zeros((1, 0), dtype=torch.int64)).tolist() == [[0.0, 0.0]]


def test_memory_layouts() -> None:
    batch = random_batch(2, sources=4, samples=3)
    expected = prefix_bleu(**batch.arguments())
    wide = torch.full((4, 3, 20), 99)
    wide[..., 3:15] = batch.hypotheses
    strided = torch.full((4, 2, 24), 99)
    strided[..., ::2] = batch.references
    swapped = batch.references.transpose(0, 1).contiguous().transpose(0, 1)
    for hypotheses, references in (
        (wide[..., 3:15], strided[..., ::2]),
        (batch.hypotheses.mT.contiguous().mT, swapped),
    ):
        changed = batch._replace(hypotheses=hypotheses, references=references)
        assert torch.equal(prefix_bleu(**changed.arguments()), expected)
    repeated = batch.hypotheses[:, :1].expand(4, 3, 12)
    assert torch.equal(
        prefix_bleu(repeated, batch.references), prefix_bleu(repeated.contiguous(), batch.references)
    )


def raw_calls() -> list[tuple[str, tuple[Any, ...]]]:
    batch = batch_positional(random_batch(0))
    bare = (*batch[:2], None, None)
    calls: list[tuple[str, tuple[Any, ...]]] = []
    for output, float64 in product((0, 1, 2), (False, True)):
        calls.append(("bleu_scores", (*batch, None, 5, 4, 2, 1.0, False, output, True, float64)))
        calls.append(("bleu_scores", (*bare, 6, None, 2, 0, 0.0, True, output, False, float64)))
    calls += [("bleu_counts", (*batch, None, None, 4, every)) for every in (False, True)]
    return calls


@pytest.mark.parametrize(("name", "arguments"), raw_calls())
def test_opcheck(name: str, arguments: tuple[Any, ...]) -> None:
    torch.library.opcheck(getattr(torch.ops.softbellman, name).default, arguments)


def test_traces_without_a_break() -> None:
    batch = random_batch(0).arguments()
    compiled = torch.compile(bleu_rewards, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(**batch, eos_id=6), bleu_rewards(**batch, eos_id=6))


TOKENS = torch.tensor([[4, 5, 6], [4, 5, 6]])
ERRORS: list[tuple[type[Exception], str, dict[str, Any]]] = [
    (TypeError, "hypotheses must be a tensor, got list", {"hypotheses": [[1]]}),
    (TypeError, "hypotheses must hold int64 token ids, got torch.int32", {"hypotheses": TOKENS.int()}),
    (TypeError, "references must hold int64 token ids, got torch.float32", {"references": TOKENS.float()}),
    (ValueError, r"hypotheses must have 2 or 3 dimensions, got shape \(3,\)", {"hypotheses": TOKENS[0]}),
    (ValueError, "references must have 2 sources like hypotheses, got 1", {"references": TOKENS[:1]}),
    (ValueError, "references must hold at least one per source", {"references": TOKENS[:, None][:, :0]}),
    (
        ValueError,
        "references must have at most 2..28 n-grams",
        {"references": TOKENS[:, :1].expand(2, 2**27)},
    ),
    (
        ValueError,
        "references must be on the CPU or a CUDA device, got meta",
        {"references": TOKENS.to("meta")},
    ),
    (ValueError, r"hypothesis_lengths must have shape \(2,\)", {"hypothesis_lengths": torch.tensor([1])}),
    (ValueError, "hypothesis_lengths must lie .* 3, got 4", {"hypothesis_lengths": torch.tensor([0, 4])}),
    (ValueError, "reference_lengths must lie .* 3, got -1", {"reference_lengths": torch.tensor([-1, 3])}),
    (TypeError, "reference_lengths must be int64 or int32", {"reference_lengths": TOKENS[:, 0] > 0}),
    (ValueError, "max_order must be between 1 and 8, got 9", {"max_order": 9}),
    (TypeError, "max_order must be an int, got float", {"max_order": 4.0}),
    (TypeError, "eos_id must be an int or None, got float", {"eos_id": 3.0}),
    (TypeError, "unmatched_id must be an int or None, got bool", {"unmatched_id": True}),
    (ValueError, "smoothing must be one of 'none', 'floor', .* got 'add-1'", {"smoothing": "add-1"}),
    (
        ValueError,
        "smooth_value belongs to 'floor', 'add-k', 'add-k-length'",
        {"smoothing": "exp", "smooth_value": 1.0},
    ),
    (ValueError, "smooth_value must be 0 or between 1e-30 and 1e30, got -1", {"smooth_value": -1}),
    (ValueError, "smooth_value must be 0 or between 1e-30 and 1e30, got nan", {"smooth_value": float("nan")}),
    (TypeError, "smooth_value must be a Python number, got str", {"smooth_value": "1"}),
    (TypeError, "dtype must be torch.float32 or torch.float64, got torch.float16", {"dtype": torch.float16}),
]


@pytest.mark.parametrize(("error", "message", "changed"), ERRORS)
def test_refusals(error: type[Exception], message: str, changed: dict[str, Any]) -> None:
    arguments = {"hypotheses": TOKENS, "references": TOKENS, **changed}
    for function in (prefix_bleu, sentence_bleu, bleu_rewards):
        with pytest.raises(error, match=message):
            function(**arguments)


def test_refusals_of_rewards_and_corpora() -> None:
    with pytest.raises(ValueError, match="scale must be one of 'none', 'reference_length', got 'length'"):
        bleu_rewards(TOKENS, TOKENS, scale="length")
    with pytest.raises(TypeError, match="statistics must be an int64 tensor"):
        corpus_bleu(torch.zeros(10))
    for shape in ((2,), (11,), (20,), (1, 10)):
        with pytest.raises(ValueError, match=r"statistics must have shape \(2 \* max_order \+ 2,\)"):
            corpus_bleu(torch.zeros(shape, dtype=torch.int64))
