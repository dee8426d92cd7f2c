"""Document frequencies: counted exactly, found again, saved without a pickle, refused when they cannot be."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from payoffs.bleu_cases import random_batch
from payoffs.payoff_cases import both_frequencies
from softbellman import DocumentFrequencies, prefix_cider
from softbellman import reference as plain


def held(frequencies: DocumentFrequencies) -> dict[tuple[int, ...], int]:
    return {
        tuple(ngram): count
        for rows, counts in zip(frequencies.ngrams, frequencies.counts, strict=True)
        for ngram, count in zip(rows.tolist(), counts.tolist(), strict=True)
    }


@pytest.mark.parametrize(("eos", "unmatched"), [(None, None), (5, None), (None, 4), (6, 5)])
@pytest.mark.parametrize("max_order", [1, 2, 4, 8])
def test_counts_are_those_of_a_dictionary(max_order: int, eos: int | None, unmatched: int | None) -> None:
    for seed in range(3):
        batch = random_batch(seed, sources=9, references=3, alphabet=2 + 3 * seed, reference_length=17)
        options = {"max_order": max_order, "eos_id": eos, "unmatched_id": unmatched}
        ours, expected = both_frequencies(batch, **options)
        assert held(ours) == dict(expected.counts)
        assert (ours.documents, ours.max_order) == (13, max_order)
        assert ours.log_documents == pytest.approx(math.log(13), rel=1e-15)
        for ngram in [*list(expected.counts)[:5], (1 << 40,)]:
            assert ours.count(ngram) == expected.count(ngram)
        for rows in ours.ngrams:
            assert rows.tolist() == sorted(rows.tolist())


def test_batches_add_up_and_any_int64_is_a_token() -> None:
    ids = torch.tensor(
        [-(2**63), 2**63 - 1, -1, 0, *(i << 32 for i in range(1, 40)), *(i << 57 for i in range(9))]
    )
    tokens = ids[torch.randint(len(ids), (60, 2, 30), generator=torch.Generator().manual_seed(0))]
    lengths = torch.randint(0, 31, (60, 2), generator=torch.Generator().manual_seed(1))
    whole = DocumentFrequencies.from_references(tokens, reference_lengths=lengths)
    parts = DocumentFrequencies.from_batches(
        (tokens[i : i + 7, :, :], lengths[i : i + 7]) for i in range(0, 60, 7)
    )
    expected = plain.DocumentFrequencies.from_references(tokens, reference_lengths=lengths)
    assert held(whole) == held(parts) == dict(expected.counts)
    flat = DocumentFrequencies.from_references(
        tokens[:, 0].mT.contiguous().mT, reference_lengths=lengths[:, 0].int()
    )
    assert held(flat) == held(
        DocumentFrequencies.from_references(tokens[:, :1], reference_lengths=lengths[:, :1])
    )


def test_a_corpus_that_makes_every_table_grow() -> None:
    tokens = torch.arange(40_000).view(1000, 1, 40)
    frequencies = DocumentFrequencies.from_references(torch.cat([tokens, tokens]))
    assert [len(rows) for rows in frequencies.ngrams] == [40_000, 39_000, 38_000, 37_000]
    assert all(bool((counts == 2).all()) for counts in frequencies.counts)


def test_saved_and_loaded(tmp_path: Path) -> None:
    batch = random_batch(3, sources=6)
    frequencies, _ = both_frequencies(batch, max_order=3)
    frequencies.save(tmp_path / "frequencies.safetensors")
    loaded = DocumentFrequencies.load(tmp_path / "frequencies.safetensors")
    assert held(loaded) == held(frequencies) and loaded.documents == frequencies.documents
    assert torch.equal(
        prefix_cider(**batch.arguments(), frequencies=loaded),
        prefix_cider(**batch.arguments(), frequencies=frequencies),
    )
    assert loaded.to("cpu") is loaded and loaded.device.type == "cpu"
    meta = loaded.to("meta")
    assert meta.device.type == "meta" and held(meta) == held(loaded)


def test_files_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        DocumentFrequencies.load(tmp_path / "absent")
    (tmp_path / "text").write_text("not a safetensors file")
    with pytest.raises(ValueError, match="text is not a safetensors file"):
        DocumentFrequencies.load(tmp_path / "text")
    save_file({"weight": torch.zeros(1)}, tmp_path / "model")
    with pytest.raises(ValueError, match="model does not hold document frequencies"):
        DocumentFrequencies.load(tmp_path / "model")
    metadata = {"format": "softbellman document frequencies 1"}
    for tensors in ({"documents": torch.tensor([3])}, {"documents": torch.tensor([3]), "a": torch.ones(1)}):
        save_file(tensors, tmp_path / "wrong", metadata=metadata)
        with pytest.raises(ValueError):
            DocumentFrequencies.load(tmp_path / "wrong")


ONE, TWO = torch.tensor([[4], [5]]), torch.tensor([[4, 5]])
COUNT = torch.tensor([1])
ERRORS: list[tuple[type[Exception], str, tuple[Any, ...]]] = [
    (TypeError, "documents must be an int, got float", ([ONE], [COUNT.repeat(2)], 2.0)),
    (ValueError, "documents must be between 1 and", ([ONE], [COUNT.repeat(2)], 0)),
    (ValueError, "ngrams and counts must hold 1 to 8 orders each, got 0 and 0", ([], [], 1)),
    (TypeError, "counts must be int64 on the CPU, got torch.float32", ([ONE], [torch.ones(2)], 1)),
    (ValueError, r"ngrams of order 2 must have shape \(2, 2\)", ([ONE, ONE], [COUNT.repeat(2)] * 2, 1)),
    (ValueError, r"order 1 must be different.*got \[4\] with 1", ([ONE[[0, 0]]], [COUNT.repeat(2)], 1)),
    (ValueError, r"between 1 and 1, got \[5\] with 2", ([ONE], [torch.tensor([1, 2])], 1)),
    (ValueError, r"order 2 must .*got \[4, 5\]", ([ONE[:1], TWO], [COUNT, COUNT], 1)),
    (ValueError, r"order 3 must .*got \[4, 4, 4\]", ([ONE, TWO, torch.full((1, 3), 4)], [COUNT.repeat(2), COUNT, COUNT], 1)),
]  # fmt: skip


@pytest.mark.parametrize(("error", "message", "arguments"), ERRORS)
def test_frequencies_of_no_corpus(error: type[Exception], message: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(error, match=message):
        DocumentFrequencies(*arguments)


def test_refusals_of_counting() -> None:
    with pytest.raises(ValueError, match="at least one document"):
        DocumentFrequencies.from_batches([])
    with pytest.raises(ValueError, match="at least one document"):
        DocumentFrequencies.from_references(torch.zeros((0, 1, 4), dtype=torch.int64))
    with pytest.raises(TypeError, match="references must hold int64 token ids"):
        DocumentFrequencies.from_references(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="reference_lengths must lie between 0 and 1, got 2"):
        DocumentFrequencies.from_references(ONE, reference_lengths=torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="max_order must be between 1 and 8, got 9"):
        DocumentFrequencies.from_references(ONE, max_order=9)
    with pytest.raises(ValueError, match="ngram must have 1 to 1 tokens, got 2"):
        DocumentFrequencies.from_references(ONE, max_order=1).count([4, 5])
