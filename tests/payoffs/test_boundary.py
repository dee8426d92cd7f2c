"""The registered operators, called without the functions that check their arguments: what a kernel would read or write
beyond is refused, whoever calls.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from softbellman import DocumentFrequencies
from softbellman.core import native

TOKENS = torch.tensor(
    [[[4, 5, 6, 2], [7, 4, 3, 3]], [[4, 4, 4, 4], [5, 6, 7, 2]], [[2, 2, 2, 2], [3, 4, 5, 6]]]
)
REFERENCES = torch.tensor([[[4, 5, 6]], [[4, 5, 6]], [[7, 7, 7]]])
FREQUENCIES = DocumentFrequencies.from_references(REFERENCES)
TOKEN_SLOTS, NGRAM_SLOTS = FREQUENCIES.table()
BATCH: dict[str, Any] = {
    "hypotheses": TOKENS,
    "references": REFERENCES,
    "hypothesis_lengths": torch.tensor([[4, 3], [2, 1], [0, 4]]),
    "reference_lengths": torch.tensor([[3], [2], [0]]),
    "eos_id": None,
    "unmatched_id": None,
}
RESULT: dict[str, Any] = {"output": 0, "scaled": False, "float64": False}
SCORES: dict[str, dict[str, Any]] = {
    "bleu_scores": {"max_order": 4, "smoothing": 2, "smooth_value": 1.0, "effective_order": False, **RESULT},
    "bleu_counts": {"max_order": 4, "every_prefix": True},
    "cider_scores": {
        "max_order": 4, "token_slots": TOKEN_SLOTS, "ngram_slots": NGRAM_SLOTS, "unseen": 1.0, "sigma": 6.0, **RESULT,
    },
    "rouge_scores": {"beta": 1.2, **RESULT},
}  # fmt: skip
COMPLETIONS: dict[str, dict[str, Any]] = {
    "suffix_values": {
        "max_order": 4, "smoothing": 2, "smooth_value": 1.0, "effective_order": False, "vocabulary": 9,
        "special_ids": [3], "scaled": True, "float64": False,
    },
}  # fmt: skip
DISTANCES: dict[str, dict[str, Any]] = {
    "edit_distances": {"output": 0},
    "completion_values": {"vocabulary": 9, "special_ids": [3], "rows": None, "dtype_code": 0},
}
PROPOSAL: dict[str, Any] = {
    "proposal": 3, "vocabulary": 9, "special_ids": [2, 3], "max_order": 4, "rate": 0.2, "temperature": 1.0,
    "max_distance": 3, "operation_weights": [1.0, 1.0, 1.0], "keep_gold": False,
}  # fmt: skip
EDITS: dict[str, dict[str, Any]] = {
    "edit_samples": {"samples": 5, "pad_id": 0, "seed": 1, "offset": 2, **PROPOSAL},
    "edit_density": {"edited": TOKENS, "edited_lengths": torch.full((3, 2), 4), **PROPOSAL},
}


def arguments_of(name: str) -> dict[str, Any]:
    if name in SCORES:
        return BATCH | SCORES[name]
    if name in COMPLETIONS:
        return BATCH | {"eos_id": 0} | COMPLETIONS[name]
    if name in DISTANCES:
        batch = {key: value for key, value in BATCH.items() if key != "unmatched_id"}
        return batch | {"eos_id": 0} | DISTANCES[name]
    return {"tokens": REFERENCES[:, 0], "lengths": torch.tensor([3, 2, 0])} | EDITS[name]


def call(name: str, **changed: Any) -> Any:
    return getattr(torch.ops.softbellman, name)(**(arguments_of(name) | changed))


LENGTH = torch.tensor([[1], [1], [1]])
# (what changes, what is said about it)
BATCH_CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"hypothesis_lengths": torch.tensor([1])}, "hypothesis_lengths must have 6 elements, got 1"),
    (
        {"hypothesis_lengths": torch.ones(2, 2, dtype=torch.int64)},
        "hypothesis_lengths must have 6 elements, got 4",
    ),
    (
        {"hypothesis_lengths": torch.ones(3, 2, dtype=torch.int32)},
        "hypothesis_lengths must be int64, got int32",
    ),
    ({"hypothesis_lengths": torch.ones(3, 2)}, "hypothesis_lengths must be int64, got float32"),
    ({"hypothesis_lengths": torch.full((3, 2), 5)}, "hypothesis_lengths must lie between 0 and 4, got 5"),
    ({"reference_lengths": torch.tensor([1])}, "reference_lengths must have 3 elements, got 1"),
    ({"reference_lengths": LENGTH - 2}, "reference_lengths must lie between 0 and 3, got -1"),
    ({"references": REFERENCES[:1]}, "must have as many sources|reference_lengths must have 1 elements"),
    (
        {"references": REFERENCES[:1], "reference_lengths": None},
        "hypotheses and references must have as many sources",
    ),
    (
        {"references": REFERENCES[:, :0], "reference_lengths": None},
        "references must hold at least one per source",
    ),
    ({"references": REFERENCES.int()}, "references must hold int64 token ids, got int32"),
    ({"hypotheses": TOKENS.double()}, "hypotheses must hold int64 token ids, got float64"),
    ({"hypotheses": TOKENS[None]}, r"hypotheses must have 2 or 3 dimensions, got shape \(1, 3, 2, 4\)"),
    ({"references": REFERENCES[0, 0]}, r"references must have 2 or 3 dimensions, got shape \(3,\)"),
]
RESULT_CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"output": 3}, "output must be from 0 to 2, got 3"),
    ({"output": -1}, "output must be from 0 to 2, got -1"),
]
OWN_CHANGES: list[tuple[str, dict[str, Any], str]] = [
    ("bleu_scores", {"max_order": 9}, "max_order must be from 1 to 8, got 9"),
    ("bleu_scores", {"max_order": 0}, "max_order must be from 1 to 8, got 0"),
    ("bleu_counts", {"max_order": 9}, "max_order must be from 1 to 8, got 9"),
    ("bleu_scores", {"smoothing": 6}, "smoothing must be from 0 to 5, got 6"),
    ("bleu_scores", {"smooth_value": float("nan")}, "smooth_value must be finite and not negative, got nan"),
    ("bleu_scores", {"smooth_value": 1e31}, "smooth_value must be 0 or between 1e-30 and 1e30"),
    ("cider_scores", {"max_order": 9}, "max_order must be from 1 to 8, got 9"),
    (
        "cider_scores",
        {"token_slots": TOKEN_SLOTS[:3]},
        "slots of document frequencies must be a power of two",
    ),
    ("cider_scores", {"token_slots": TOKEN_SLOTS.double()}, "token_slots must be int64, got float64"),
    (
        "cider_scores",
        {"ngram_slots": NGRAM_SLOTS[:0]},
        "slots of document frequencies must be a power of two",
    ),
    ("cider_scores", {"sigma": 0.0}, "sigma must be positive and finite, got 0"),
    ("rouge_scores", {"beta": -1.0}, "beta must be positive and finite, got -1"),
    (
        "edit_distances",
        {"references": TOKENS, "reference_lengths": None},
        "references must be one per source",
    ),
    ("completion_values", {"eos_id": 9}, "special_ids and eos must be ids below the vocabulary"),
    ("completion_values", {"special_ids": [-1]}, "special_ids and eos must be ids below the vocabulary"),
    ("completion_values", {"special_ids": [1] * 17}, "special_ids must hold at most 16 integers, got 17"),
    (
        "completion_values",
        {"vocabulary": 7, "reference_lengths": None},
        r"references must be ids in \[0, 7\), got 7",
    ),
    ("suffix_values", {"max_order": 9}, "max_order must be from 1 to 8, got 9"),
    ("suffix_values", {"smoothing": 6}, "smoothing must be from 0 to 5, got 6"),
    ("suffix_values", {"smooth_value": 1e31}, "smooth_value must be 0 or between 1e-30 and 1e30"),
    ("suffix_values", {"eos_id": 9}, "special_ids and eos must be ids below the vocabulary"),
    ("suffix_values", {"special_ids": [-1]}, "special_ids and eos must be ids below the vocabulary"),
    ("suffix_values", {"special_ids": [1] * 17}, "special_ids must hold at most 16 integers, got 17"),
    (
        "suffix_values",
        {"vocabulary": 7, "reference_lengths": None},
        r"references must be ids in \[0, 7\), got 7",
    ),
    ("completion_values", {"rows": torch.tensor([24])}, "rows must lie between 0 and 23, got 24"),
    ("completion_values", {"rows": torch.tensor([-1])}, "rows must lie between 0 and 23, got -1"),
    ("completion_values", {"rows": torch.tensor([1.0])}, "rows must be int64, got float32"),
]
EDIT_CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"lengths": torch.tensor([1])}, "lengths must have 3 elements, got 1"),
    ({"lengths": torch.tensor([1, 2, 4])}, "lengths must lie between 0 and 3, got 4"),
    ({"lengths": torch.ones(3)}, "lengths must be int64, got float32"),
    ({"tokens": REFERENCES[:, 0].int()}, "must hold int64 token ids, got int32|must be int64, got int32"),
    ({"tokens": REFERENCES[:, 0] + 3}, "tokens must be ids below the vocabulary, 9, got 9"),
    ({"vocabulary": 0}, "(vocabulary|alphabet) must be from [01] to 16777216, got"),
    ({"max_order": 17}, "max_order must be from 1 to 16, got 17"),
    ({"max_distance": 65}, "max_distance must be from 0 to 64, got 65"),
    ({"proposal": 2, "max_distance": -1}, "max_distance must be from 0"),
    ({"proposal": 4}, "proposal must be from 0 to 3, got 4"),
    ({"special_ids": [3, 2]}, "special_ids must be ids below the vocabulary, ascending and different"),
    ({"special_ids": [2, 9]}, "special_ids must be ids below the vocabulary, ascending and different"),
    ({"special_ids": list(range(17)), "vocabulary": 30}, "special_ids must hold at most 16 integers, got 17"),
    ({"rate": 1.5}, "rate must be at most 1"),
    ({"rate": float("nan")}, "rate must be finite and not negative, got nan"),
    ({"operation_weights": [1.0, 1.0]}, "not enough values"),
    ({"operation_weights": [1.0, -1.0, 1.0]}, "insertion must be finite and not negative, got -1"),
]


@pytest.mark.parametrize("name", [*SCORES, *COMPLETIONS, *DISTANCES, *EDITS])
def test_what_is_not_changed_is_accepted(name: str) -> None:
    found = call(name)
    for tensor in (found,) if isinstance(found, Tensor) else found:
        assert tensor.numel() > 0


@pytest.mark.parametrize("name", [*SCORES, *COMPLETIONS, *DISTANCES])
@pytest.mark.parametrize(("changed", "message"), BATCH_CHANGES)
def test_batches(name: str, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(name, **changed)


@pytest.mark.parametrize("name", ["bleu_scores", "cider_scores", "rouge_scores"])
@pytest.mark.parametrize(("changed", "message"), RESULT_CHANGES)
def test_results(name: str, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(name, **changed)


@pytest.mark.parametrize(("name", "changed", "message"), OWN_CHANGES)
def test_what_is_of_one_operator(name: str, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(name, **changed)


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize(("changed", "message"), EDIT_CHANGES)
def test_edits(name: str, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(name, **changed)


def test_edits_that_are_given() -> None:
    for changed, message in (
        ({"edited": TOKENS[:2], "edited_lengths": None}, "must have"),
        ({"edited": TOKENS.int()}, "edited must be int64, got int32"),
        ({"edited_lengths": torch.tensor([1])}, "edited_lengths must have 6 elements, got 1"),
        ({"edited_lengths": torch.full((3, 2), 5)}, "edited_lengths must lie between 0 and 4, got 5"),
    ):
        with pytest.raises(ValueError, match=message):
            call("edit_density", **changed)


def field(tensor: Tensor) -> tuple[int, int, int]:
    codes = {torch.float32: 0, torch.int64: 4, torch.uint8: 7}
    return tensor.data_ptr(), tensor.numel(), codes[tensor.dtype]


def rouge_fields(**changed: Any) -> dict[str, Any]:
    hypotheses = TOKENS
    return {
        "hypotheses": (hypotheses.data_ptr(), 8, 4, 3, 2, 4, 4),
        "references": (REFERENCES.data_ptr(), 3, 3, 3, 1, 3, 4),
        "beta": 1.2,
        **RESULT,
        "threads": 1,
        **changed,
    }


def test_the_core_looks_at_pointers_and_sizes() -> None:
    """What no tensor can say, said by integers: null pointers, results and workspaces that are too small."""
    out, workspace = torch.zeros(3, 2, 4), torch.zeros(64, dtype=torch.uint8)
    native.cpu.rouge_scores(**rouge_fields(out=field(out), workspace=field(workspace)))
    assert out.count_nonzero() > 0
    for changed, message in (
        ({"out": field(out[0])}, "out must have 24 elements, got 8"),
        ({"out": field(out.long())}, "out must be float32, got int64"),
        ({"out": (0, 24, 0)}, "out must not be a null pointer"),
        ({"workspace": field(workspace[:63])}, "workspace must have 64 bytes"),
        ({"workspace": None}, "workspace must have 64 bytes"),
        ({"hypotheses": (0, 8, 4, 3, 2, 4, 4)}, "hypotheses must not be a null pointer"),
        ({"hypotheses": (TOKENS.data_ptr(), 8, 4, 3, -2, 4, 4)}, "hypotheses must have sizes of at least 0"),
        ({"hypotheses": (TOKENS.data_ptr(), 24)}, "hypotheses must be .pointer, source stride, row stride"),
        ({"threads": 0}, "threads must be from 1"),
        ({"gamma": 1.0}, "gamma is no field of this kernel; its fields are hypotheses"),
    ):
        fields = {"out": field(out), "workspace": field(workspace), **changed}
        with pytest.raises(ValueError, match=message):
            native.cpu.rouge_scores(**rouge_fields(**fields))
