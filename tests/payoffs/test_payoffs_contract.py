"""What CIDEr-D and ROUGE-L promise to PyTorch, their edge rows and their refusals."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

import softbellman as ops
from payoffs.bleu_cases import random_batch
from payoffs.payoff_cases import both_frequencies
from softbellman import DocumentFrequencies

TOKENS = torch.tensor([[4, 5, 6], [4, 5, 6]])
FREQUENCIES = DocumentFrequencies.from_references(torch.tensor([[4, 5, 6], [7, 5, 6], [8, 8, 9]]))
FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "prefix_cider": ops.prefix_cider,
    "sentence_cider": ops.sentence_cider,
    "cider_rewards": ops.cider_rewards,
    "prefix_rouge_l": ops.prefix_rouge_l,
    "sentence_rouge_l": ops.sentence_rouge_l,
    "rouge_l_rewards": ops.rouge_l_rewards,
}
every_function = pytest.mark.parametrize("name", FUNCTIONS)


def call(name: str, hypotheses: Any, references: Any, **options: Any) -> Tensor:
    extra = {"frequencies": FREQUENCIES} if "cider" in name else {}
    return FUNCTIONS[name](hypotheses, references, **(extra | options))


@every_function
@pytest.mark.parametrize("shape", [(0, 2, 5), (2, 0, 5), (2, 3, 0)])
def test_empty_batches(name: str, shape: tuple[int, int, int]) -> None:
    hypotheses = torch.zeros(shape, dtype=torch.int64)
    result = call(name, hypotheses, torch.zeros((shape[0], 1, 4), dtype=torch.int64))
    assert torch.equal(result, torch.zeros(shape[:-1] if "sentence" in name else shape))
    assert ops.corpus_rouge_l(hypotheses, torch.zeros((shape[0], 1, 4), dtype=torch.int64)) == 0.0


@every_function
def test_absent_references_and_empty_hypotheses(name: str) -> None:
    absent = torch.tensor([0, 3])
    result = call(name, TOKENS, TOKENS, reference_lengths=absent)
    assert result[0].count_nonzero() == 0 and result[1].count_nonzero() > 0
    result = call(name, TOKENS, TOKENS, hypothesis_lengths=absent)
    assert result[0].count_nonzero() == 0 and result[1].count_nonzero() > 0
    assert call(name, TOKENS, TOKENS[:, :0]).count_nonzero() == 0
    with_absent = torch.stack([TOKENS, TOKENS], 1)
    lengths = torch.tensor([[3, 0], [0, 3]])
    assert torch.equal(call(name, TOKENS, with_absent, reference_lengths=lengths), call(name, TOKENS, TOKENS))


@every_function
def test_unknown_words_match_nothing(name: str) -> None:
    assert call(name, TOKENS, TOKENS, unmatched_id=5).sum() > 0
    alone = torch.full((2, 3), 5)
    assert call(name, alone, alone, unmatched_id=5).count_nonzero() == 0
    assert call(name, alone, alone).sum() > 0


@every_function
def test_memory_layouts_and_shapes(name: str) -> None:
    batch = random_batch(2, sources=4, samples=3)
    lengths = {"hypothesis_lengths": batch.hypothesis_lengths, "reference_lengths": batch.reference_lengths}
    expected = call(name, batch.hypotheses, batch.references, **lengths)
    wide = torch.full((4, 3, 20), 99)
    wide[..., 3:15] = batch.hypotheses
    strided = torch.full((4, 2, 24), 99)
    strided[..., ::2] = batch.references
    assert torch.equal(call(name, wide[..., 3:15], strided[..., ::2], **lengths), expected)
    swapped = batch.references.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(call(name, batch.hypotheses.mT.contiguous().mT, swapped, **lengths), expected)
    flat = call(
        name,
        batch.hypotheses[:, 0],
        batch.references[:, 0],
        hypothesis_lengths=batch.hypothesis_lengths[:, 0].int(),
    )
    full = call(
        name,
        batch.hypotheses[:, :1],
        batch.references[:, :1],
        hypothesis_lengths=batch.hypothesis_lengths[:, :1],
    )
    assert torch.equal(flat, full[:, 0])


def test_a_corpus_of_one_document_weighs_nothing() -> None:
    frequencies = DocumentFrequencies.from_references(TOKENS[:1])
    assert ops.prefix_cider(TOKENS, TOKENS, frequencies=frequencies).count_nonzero() == 0


def raw_calls() -> list[tuple[str, tuple[Any, ...]]]:
    batch = random_batch(0)
    native, _ = both_frequencies(batch)
    positional = batch.hypotheses, batch.references, batch.hypothesis_lengths, batch.reference_lengths
    bare = (*positional[:2], None, None)
    table = (*native.table(), native.log_documents)
    calls: list[tuple[str, tuple[Any, ...]]] = []
    for output, float64 in product((0, 1, 2), (False, True)):
        calls.append(("cider_scores", (*positional, None, 5, 4, *table, 6.0, output, True, float64)))
        calls.append(("rouge_scores", (*bare, 6, None, 1.2, output, False, float64)))
    return calls


@pytest.mark.parametrize(("name", "arguments"), raw_calls())
def test_opcheck(name: str, arguments: tuple[Any, ...]) -> None:
    torch.library.opcheck(getattr(torch.ops.softbellman, name).default, arguments)


def test_traces_without_a_break() -> None:
    batch = random_batch(0).arguments()

    def payoffs(**arguments: Tensor) -> tuple[Tensor, Tensor]:
        return (
            ops.cider_rewards(**arguments, frequencies=FREQUENCIES, eos_id=6),
            ops.rouge_l_rewards(**arguments, eos_id=6),
        )

    compiled = torch.compile(payoffs, fullgraph=True, backend="aot_eager")
    for one, other in zip(compiled(**batch), payoffs(**batch), strict=True):
        assert torch.equal(one, other)


ERRORS: list[tuple[type[Exception], str, dict[str, Any]]] = [
    (TypeError, "hypotheses must be a tensor, got list", {"hypotheses": [[1]]}),
    (TypeError, "references must hold int64 token ids, got torch.float32", {"references": TOKENS.float()}),
    (ValueError, "references must have 2 sources like hypotheses, got 1", {"references": TOKENS[:1]}),
    (ValueError, "references must hold at least one per source", {"references": TOKENS[:, None][:, :0]}),
    (ValueError, r"hypothesis_lengths must have shape \(2,\)", {"hypothesis_lengths": torch.tensor([1])}),
    (ValueError, "reference_lengths must lie .* 3, got -1", {"reference_lengths": torch.tensor([-1, 3])}),
    (TypeError, "eos_id must be an int or None, got float", {"eos_id": 3.0}),
    (TypeError, "unmatched_id must be an int or None, got bool", {"unmatched_id": True}),
    (TypeError, "dtype must be torch.float32 or torch.float64, got torch.float16", {"dtype": torch.float16}),
]


@every_function
@pytest.mark.parametrize(("error", "message", "changed"), ERRORS)
def test_refusals(name: str, error: type[Exception], message: str, changed: dict[str, Any]) -> None:
    with pytest.raises(error, match=message):
        call(name, **({"hypotheses": TOKENS, "references": TOKENS} | changed))


def test_refusals_of_their_own() -> None:
    with pytest.raises(TypeError, match="frequencies must be DocumentFrequencies, got dict"):
        ops.prefix_cider(TOKENS, TOKENS, frequencies={})  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"frequencies must be on the device of hypotheses, cpu, got meta.*\.to"
    ):
        ops.prefix_cider(TOKENS, TOKENS, frequencies=FREQUENCIES.to("meta"))
    for sigma in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="sigma must be a finite number above 0"):
            ops.sentence_cider(TOKENS, TOKENS, frequencies=FREQUENCIES, sigma=sigma)
    with pytest.raises(ValueError, match="beta must be a finite number above 0, got 0"):
        ops.sentence_rouge_l(TOKENS, TOKENS, beta=0)
    with pytest.raises(ValueError, match="beta must be at most 1e6, got 10000000"):
        ops.sentence_rouge_l(TOKENS, TOKENS, beta=10**7)
    for name in ("cider_rewards", "rouge_l_rewards"):
        with pytest.raises(ValueError, match="scale must be one of 'none', 'reference_length', got 'length'"):
            call(name, TOKENS, TOKENS, scale="length")
